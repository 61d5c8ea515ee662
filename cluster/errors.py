"""Errors in the communication with a cluster."""

from sweep.errors import UserError


class SubmissionError(UserError):
    """A cluster cannot be used, or a job did not start; the message says what to change."""
