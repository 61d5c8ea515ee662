"""Errors that a person can mend: shown as one message, with exit code 2."""


class UserError(ValueError):
    """Something in the spec, the data, the folders or the cluster; the message says what."""


class SpecError(UserError):
    """A spec that cannot be run; the message names the file, field, value and what is allowed."""


class ClusterError(UserError):
    """A Ray that cannot be reached, or that cannot give trials what the spec asks for."""
