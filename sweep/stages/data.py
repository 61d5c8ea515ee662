"""Loads the images of a data set and checks that they are those of the plan."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from prune_core.images import Images, Split, class_names, load
from sweep.planning.baselines import Dataset


class DataChanged(ValueError):
    """The images have changed since the sweep was planned."""


# Keep two data sets open, so that each process checks their fingerprints once. Open images are
# mapped, not copied.
@lru_cache(maxsize=2)
def split_of(dataset: Dataset) -> Split:
    """The training, validation and test images of a data set.

    Raises
    ------
    DataChanged
        If the images have changed since the sweep was planned.
    """
    folder = Path(dataset.data) if dataset.data else None
    images: Images = load(dataset.source, image_size=dataset.image_size, data=folder)
    if images.fingerprint != dataset.fingerprint:
        raise DataChanged(
            f"dataset {dataset.name} ({dataset.source}) has changed since the sweep was planned: "
            f"fingerprint {images.fingerprint}, planned {dataset.fingerprint}; run the spec again"
        )
    return images.cut(dataset.cut, dataset.test_cut).split(dataset.holdout)


def class_names_of(dataset: Dataset) -> tuple[str, ...] | None:
    """The names of the classes, or None if the source does not name all of them."""
    names = class_names(dataset.source, Path(dataset.data) if dataset.data else None)
    return names if names and len(names) == dataset.classes else None
