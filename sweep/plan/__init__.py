"""From a spec to cells: what each one is, and the key that names it."""
