"""The size of images in pixels: height, then width."""

from collections.abc import Sequence

from prune_core.images.errors import ImagesError

Size = tuple[int, int]
"""Height and width in pixels."""

DEFAULT_SIZE: Size = (32, 32)
"""The size of CIFAR, SVHN and enlarged digits; the own size of a source that names no other."""

SMALLEST_SIDE, LARGEST_SIDE = 8, 1024
"""Limits of height and width in pixels. The largest image takes 3 MiB."""


def check_size(image_size: Sequence[int]) -> Size:
    """Returns the height and width as a tuple.

    Raises
    ------
    ImagesError
        Not two whole numbers from `SMALLEST_SIDE` to `LARGEST_SIDE`.
    """
    if isinstance(image_size, Sequence) and len(image_size) == 2:
        height, width = image_size
        if all(type(side) is int and SMALLEST_SIDE <= side <= LARGEST_SIDE for side in image_size):
            return height, width
    raise ImagesError(
        f"image_size is {image_size!r}; it must be a height and a width, two whole numbers from "
        f"{SMALLEST_SIDE} to {LARGEST_SIDE} pixels, such as (224, 224)"
    )
