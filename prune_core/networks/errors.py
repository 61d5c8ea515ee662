"""The error of networks."""


class ArchitectureError(ValueError):
    """A network cannot be built or pruned; the message names what to change."""
