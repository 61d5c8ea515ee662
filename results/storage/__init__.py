"""Tables on a disk or in an object store: their schema, how they are written and read."""
