"""The spec: its fields, the YAML parser and the packaged specs."""
