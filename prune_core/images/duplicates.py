"""Counts images with the same pixels: copies in the test set make its accuracy too high."""

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from prune_core.images.arrays import Arrays, Copies, Labels, Pixels, several

_BYTES = 16  # of a digest: two different images get the same one with a chance of about 2**-64


def with_copies(arrays: Arrays) -> Arrays:
    """The same arrays with counts of images that are copies of training images, and notes.

    There is a note for each part that has copies. Images are read one at a time.
    """
    held = len(arrays.train_images) - arrays.validation
    labels = arrays.train_labels
    known = _digests(arrays.train_images)
    parts = (
        ("training", "other training", known[:held], labels[:held]),
        ("validation", "training", known[held:], labels[held:]),
        ("test", "training", _digests(arrays.test_images), arrays.test_labels),
    )
    notes, counts = [], {}
    for name, of, digests, its_labels in parts:
        copies, contradicting = counts[name] = _copies(
            digests, its_labels, known[:held], labels[:held], own=name == "training"
        )
        if copies:
            verb = "is a copy" if copies == 1 else "are copies"
            text = f"{copies:,} of {several(len(digests), f'{name} image')} {verb} of {of} images"
            if contradicting:
                text += f", {contradicting:,} of them with another label"
            notes.append(f"{text} (equal pixels after decoding)")
    found = Copies(counts["training"][0], counts["validation"][0], *counts["test"])
    return replace(arrays, notes=arrays.notes + tuple(notes), copies=found)


def _digests(images: Pixels) -> NDArray[np.void]:
    """A digest of each image, [N]."""
    found = np.zeros((len(images), _BYTES), dtype=np.uint8)
    for digest, image in zip(found, images, strict=True):
        hashed = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=_BYTES)
        digest[:] = np.frombuffer(hashed.digest(), dtype=np.uint8)
    return found.view(f"V{_BYTES}").ravel()


def _copies(
    digests: NDArray[np.void],
    labels: Labels,
    known: NDArray[np.void],
    known_labels: Labels,
    own: bool,
) -> tuple[int, int]:
    """How many images are among the known ones, and how many of these have another label.

    The first of each kind is compared. Of the known images themselves (`own`), only later ones
    are copies.
    """
    first: dict[bytes, tuple[int, int]] = {}
    for at, (digest, label) in enumerate(zip(known.tolist(), known_labels.tolist(), strict=True)):
        first.setdefault(digest, (at, label))
    copies = contradicting = 0
    for at, (digest, label) in enumerate(zip(digests.tolist(), labels.tolist(), strict=True)):
        if (found := first.get(digest)) is not None and not (own and found[0] == at):
            copies += 1
            contradicting += found[1] != label
    return copies, contradicting
