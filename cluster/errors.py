"""What can go wrong between this machine and a cluster."""

from sweep.errors import UserError


class SubmissionError(UserError):
    """A cluster that cannot be used, or a job that did not begin; the message says what to do."""
