"""Images to train on: named data sets, Parquet files or image files, all as uint8 RGB of one size.

>>> images = load("digits", image_size=(32, 32))  # doctest: +SKIP
>>> split = images.split(holdout=0.1)  # doctest: +SKIP
"""

from prune_core.images import digits, folder, named_sets, parquet
from prune_core.images.arrays import NO_COPIES, Arrays, Copies, Undecoded
from prune_core.images.dataset import (
    RESIDENT_BYTES,
    SPLIT_VERSION,
    Images,
    LabelledImages,
    Split,
)
from prune_core.images.decode import resized
from prune_core.images.errors import ImagesError
from prune_core.images.loading import class_names, load
from prune_core.images.size import DEFAULT_SIZE, Size, check_size
from prune_core.images.sources import SOURCES, Location, Origin, Source, image_source

__all__ = [
    "DEFAULT_SIZE",
    "NO_COPIES",
    "RESIDENT_BYTES",
    "SOURCES",
    "SPLIT_VERSION",
    "Arrays",
    "Copies",
    "Images",
    "ImagesError",
    "LabelledImages",
    "Location",
    "Origin",
    "Size",
    "Source",
    "Split",
    "Undecoded",
    "check_size",
    "class_names",
    "digits",
    "folder",
    "image_source",
    "load",
    "named_sets",
    "parquet",
    "resized",
]
