"""Decoded images as NumPy arrays, before they become an `Images`, and the rules they must meet."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prune_core.images.errors import ImagesError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Arrays:
    """What a source holds: images uint8 [N, 3, 32, 32] in RGB, labels int64 [N] in 0..K-1."""

    train_images: Pixels
    train_labels: Labels
    test_images: Pixels
    test_labels: Labels
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """The number of classes K."""
        return int(self.train_labels.max()) + 1


def fingerprint(arrays: Arrays) -> str:
    """Returns 16 hex digits of the sha256 of the shapes, types and bytes of the four arrays."""
    digest = hashlib.sha256()
    for array in (arrays.train_images, arrays.train_labels, arrays.test_images, arrays.test_labels):
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


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


def listed(values: Sequence[object], limit: int = 10) -> str:
    """Returns "1, 2, 3 and 4 more": at most `limit` values by name."""
    text = ", ".join(str(value) for value in values[:limit])
    return text if len(values) <= limit else f"{text} and {len(values) - limit:,} more"


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
