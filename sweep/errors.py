"""Errors that the user can fix: shown as one message, with exit code 2."""


class UserError(ValueError):
    """A problem with the spec, the data, a folder or the cluster; the message says which."""


class SpecError(UserError):
    """A spec that cannot be run; the message names file, field, value and what is allowed."""


class ClusterError(UserError):
    """A Ray cluster that cannot be reached, or that lacks the resources the spec asks for."""
