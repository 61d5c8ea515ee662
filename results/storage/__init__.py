"""Tables on a disk or in an object store: their schema, writing and reading."""
