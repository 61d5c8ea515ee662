"""Which names of files and folders mean training, validation and test images, and which nothing."""

import re

import numpy as np
from numpy.typing import NDArray

from prune_core.images.arrays import Labels, listed, several
from prune_core.images.sources import ClassNames

SPLITS = ("train", "validation", "test")

TEST_SHARE = 0.2
"""The share of each class that becomes the test set of a source without one."""

_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_VALIDATION_FILE = re.compile(r"valid|(val|dev)(?![a-z])")
_STRAY = {
    "__macosx",
    "__pycache__",
    "@eadir",
    "lost+found",
    "$recycle.bin",
    "system volume information",
}


def split_of_folder(name: str) -> str | None:
    """Returns "train", "validation" or "test" for a folder such as Train or val, else None."""
    return _FOLDERS.get(name.lower())


def split_of_file(name: str) -> str | None:
    """Returns "train", "validation" or "test" for a file such as train-00000.parquet, else None."""
    name = name.lower()
    if _VALIDATION_FILE.match(name):
        return "validation"
    return next((split for split in ("train", "test") if name.startswith(split)), None)


def is_stray(name: str) -> bool:
    """Whether a folder is left by a system or a tool, and never holds images to train on."""
    return name.startswith(".") or name.lower() in _STRAY


def undivided_note(labels: Labels, chosen: NDArray[np.bool_]) -> str:
    """Says that a share of each class became the test set."""
    share = f"{100 * TEST_SHARE:g} %"
    return (
        f"no test images: {int(chosen.sum()):,} of {several(len(labels), 'image')}, {share} of "
        "each class, are the test set, the same ones in every run (the option `test` names others)"
    )


def missing_classes(part: str, train: Labels, labels: Labels, names: ClassNames) -> list[str]:
    """Says which classes of the training images a part has no image of."""
    absent = np.setdiff1d(train, labels)
    if len(labels) == 0 or len(absent) == 0:
        return []
    called = [names[code] if names else str(code) for code in absent]
    return [
        f"{part} images show {len(np.unique(labels))} of {len(np.unique(train))} classes; none is "
        f"of {listed(called)}"
    ]
