"""Decoded images as NumPy arrays, before they become an `Images`, and the rules they must meet."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_core.images.errors import ImagesError
from prune_core.images.size import Size

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

_HASHED_BYTES = 1 << 26  # at a time


@dataclass(frozen=True)
class Copies:
    """How many images have the pixels of a training image, after decoding.

    Attributes
    ----------
    train
        Training images that repeat an earlier one.
    validation
        Of the source's own validation images.
    test, test_other_label
        Test images, and those of them whose label is not that of the training image.
    """

    train: int = 0
    validation: int = 0
    test: int = 0
    test_other_label: int = 0


NO_COPIES = Copies()


@dataclass(frozen=True, eq=False)
class Arrays:
    """What a source holds: images uint8 [N, 3, H, W] in RGB, labels int64 [N] in 0..K-1.

    Attributes
    ----------
    train_images, train_labels
        The training images and, behind them, the source's own validation images.
    validation
        How many of `train_images`, the last ones, are validation images.
    skipped
        How many images could not be read and were left out.
    copies
        Counted when the images come into the cache.
    """

    train_images: Pixels
    train_labels: Labels
    test_images: Pixels
    test_labels: Labels
    notes: tuple[str, ...] = ()
    validation: int = 0
    skipped: int = 0
    copies: Copies = NO_COPIES

    @property
    def classes(self) -> int:
        """The number of classes K."""
        return int(self.train_labels.max()) + 1


@dataclass(frozen=True, eq=False)
class Decoded:
    """What decoding gives beside the pixels.

    Attributes
    ----------
    notes
        What was done to the images.
    kept_train, kept_test
        bool [N], false for images that could not be read and are left out.
    """

    notes: tuple[str, ...]
    kept_train: NDArray[np.bool_]
    kept_test: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Undecoded:
    """Images that need not fit into memory: they are decoded straight into the files of the cache.

    Attributes
    ----------
    train_labels, test_labels
        int64 [N] in 0..K-1, one for each image.
    decode
        Called once, with an array for the training images and one for the test images, both uint8
        [N, 3, H, W] on disk. Writes the images, in RGB and of the size of these arrays, and returns
        the notes; or a `Decoded`, if some images are to be left out.
    validation
        As in `Arrays`.
    """

    train_labels: Labels
    test_labels: Labels
    decode: Callable[[Pixels, Pixels], tuple[str, ...] | Decoded]
    validation: int = 0


def fingerprint(arrays: Arrays) -> str:
    """Returns 16 hex digits of the sha256 of the shapes, types and bytes of the four arrays.

    It also depends on the number of validation and of skipped images, if there are any. Arrays on
    disk are read in parts.
    """
    digest = hashlib.sha256()
    for array in (arrays.train_images, arrays.train_labels, arrays.test_images, arrays.test_labels):
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        for part in _parts(array):
            digest.update(np.ascontiguousarray(part).data)
    # Only if there are any, so that the fingerprints of other data sets do not change.
    for name, count in (("validation", arrays.validation), ("skipped", arrays.skipped)):
        if count:
            digest.update(f"{name} {count};".encode())
    return digest.hexdigest()[:16]


def check_images(source: str, arrays: Arrays, image_size: Size) -> None:
    """Raises an ImagesError unless a source gave images of the type and size that were asked for.

    Parameters
    ----------
    source
        As given to `load`.
    """
    for images in (arrays.train_images, arrays.test_images):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ImagesError(
                f"{source}: its images are {images.dtype} {list(images.shape)}; they must be uint8 "
                "[N, 3, H, W]"
            )
        height, width = images.shape[2:]
        if (height, width) != image_size:
            raise ImagesError(
                f"{source}: images of {image_size[0]} x {image_size[1]} pixels (height x width) "
                f"were asked for, but this source gave images of {height} x {width}; ask for "
                f"image_size ({height}, {width}), or let the source resize them to its location's "
                "image_size, as with prune_core.images.resized. A source whose own size is not "
                "32 x 32 names it in @image_source(..., image_size=...)"
            )


def check_labels(where: str, train: Labels, test: Labels) -> None:
    """Raises an ImagesError unless train labels are 0..K-1 with K >= 2, and test labels among them.

    Parameters
    ----------
    where
        How the message names the source, such as its folder.
    train, test
        int64 [N], >= 0.
    """
    for name, labels in (("training", train), ("test", test)):
        if len(labels) == 0:
            raise ImagesError(f"{where}: there are no {name} images (0 rows); at least 1 is needed")
    present = np.unique(train)
    if len(present) == 1:
        raise ImagesError(
            f"{where}: all {len(train):,} training images have label {present[0]}; "
            "at least two classes are needed"
        )
    if present[-1] != len(present) - 1:
        # Not arange(maximum): a label such as 10**12 must be an error, not an allocation.
        gaps = _first_absent(present)
        raise ImagesError(
            f"{where}: training labels must be 0, 1, ..., K-1 without gaps, but there are "
            f"{len(present)} different labels from {present[0]} to {present[-1]} and none of the "
            f"training images has {listed(gaps)}; renumber the labels"
        )
    strangers = np.setdiff1d(test, present)
    if len(strangers):
        raise ImagesError(
            f"{where}: the test images have labels {listed(strangers.tolist())}, which no training "
            f"image has; allowed are 0 to {present[-1]}"
        )


def several(count: int, name: str) -> str:
    """Returns "1 image", "2,000 images"."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def listed(values: Sequence[object], limit: int = 10) -> str:
    """Returns "1, 2, 3 and 4 more": at most `limit` values by name."""
    text = ", ".join(str(value) for value in values[:limit])
    return text if len(values) <= limit else f"{text} and {len(values) - limit:,} more"


def _parts(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The array in consecutive parts of about `_HASHED_BYTES`."""
    rows = max(1, _HASHED_BYTES * len(array) // max(1, array.nbytes))
    return (array[start : start + rows] for start in range(0, len(array), rows))


def _first_absent(present: Labels, limit: int = 10) -> list[str]:
    """The lowest labels that are missing below the largest present one."""
    absent: list[str] = []
    expected = 0
    for label in present.tolist():
        while expected < label and len(absent) < limit:
            absent.append(str(expected))
            expected += 1
        expected = label + 1
    total = int(present[-1]) + 1 - len(present)
    return absent if total <= limit else [*absent[:-1], f"... ({total:,} in all)"]
