"""CIFAR-10 from Parquet files, or from one .npz file for a machine without pyarrow, or noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from prune_core.images import LabelledImages, Split

# Size limit of a file that is copied to another machine.
MOST_BYTES = 60 * 1024**2
CLASSES = 10


def write(path: Path, folder: Path, train_images: int, test_images: int) -> None:
    """Writes the first training and test images of a folder of Parquet files; needs pyarrow.

    Raises
    ------
    ValueError
        If the file is larger than `MOST_BYTES`.
    """
    from prune_core.images import load

    images = load(f"parquet:{folder}")
    np.savez_compressed(
        path,
        train_images=images.train_images[:train_images].numpy(),
        train_labels=images.train_labels[:train_images].numpy(),
        test_images=images.test_images[:test_images].numpy(),
        test_labels=images.test_labels[:test_images].numpy(),
    )
    if (size := path.stat().st_size) > MOST_BYTES:
        path.unlink()
        raise ValueError(f"{path} has {size:,} bytes, above {MOST_BYTES:,}: ask for fewer images")
    print(f"{path}: {size / 1024**2:.1f} MiB")


def read(path: Path) -> Split:
    """The images of a file that `write` made; none are held out."""
    with np.load(path) as found:
        train = LabelledImages(*(torch.from_numpy(found[f"train_{x}"]) for x in FIELDS))
        test = LabelledImages(*(torch.from_numpy(found[f"test_{x}"]) for x in FIELDS))
    nothing = LabelledImages(train.images[:0], train.labels[:0])
    return Split(train, nothing, test, CLASSES, flip_keeps_label=True)


def of_parquet(folder: Path, train_images: int, test_images: int) -> Split:
    """The first images of a folder of Parquet files, none held out; needs pyarrow."""
    from prune_core.images import load

    found = load(f"parquet:{folder}")
    # Copies: processes that get a part of a tensor would share the whole, in /dev/shm.
    train, test = (
        LabelledImages(images[:count].clone(), labels[:count].clone())
        for images, labels, count in (
            (found.train_images, found.train_labels, train_images),
            (found.test_images, found.test_labels, test_images),
        )
    )
    return Split(train, train.first(0), test, found.classes, found.flip_keeps_label)


FIELDS = ("images", "labels")


def made_up(train_images: int, test_images: int) -> Split:
    """Noise of the same shape, for measurements of speed only."""
    from made_up import noise

    train, test = noise(train_images), noise(test_images)
    return Split(train, train.first(0), test, CLASSES, flip_keeps_label=True)
