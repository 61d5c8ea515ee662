"""The one error of this package."""


class ImagesError(ValueError):
    """Images or labels that cannot be used; the message says what to change.

    It names the file, row, column or value, and what is allowed instead.
    """
