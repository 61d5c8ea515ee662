"""Counts images with the same pixels: copies in the test set make its accuracy too high."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from prune_core.images.arrays import Labels, Pixels, several

_BYTES = 16  # of a digest: two different images get the same one with a chance of about 2**-64


def duplicate_notes(
    train_images: Pixels,
    train_labels: Labels,
    test_images: Pixels,
    test_labels: Labels,
    validation: int,
) -> tuple[str, ...]:
    """Says how many decoded images are copies of training images; nothing where none is.

    Parameters
    ----------
    train_images, test_images
        uint8 [N, 3, H, W], read one image at a time.
    train_labels, test_labels
        int64 [N]
    validation
        How many training images, the last ones, are the source's own validation images.
    """
    held = len(train_images) - validation
    known = _digests(train_images)
    parts = (
        ("training", "other training", known[:held], train_labels[:held]),
        ("validation", "training", known[held:], train_labels[held:]),
        ("test", "training", _digests(test_images), test_labels),
    )
    notes = []
    for name, of, digests, labels in parts:
        copies, contradicting = _copies(
            digests, labels, known[:held], train_labels[:held], own=name == "training"
        )
        if copies:
            verb = "is a copy" if copies == 1 else "are copies"
            text = f"{copies:,} of {several(len(digests), f'{name} image')} {verb} of {of} images"
            if contradicting:
                text += f", {contradicting:,} of them with another label"
            notes.append(f"{text} (equal pixels after decoding)")
    return tuple(notes)


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
