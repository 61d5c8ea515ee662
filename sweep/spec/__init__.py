"""What a person writes: the fields of a spec, how YAML is read, and the packaged specs."""
