"""Images to train on: named data sets, Parquet files or image files, all as uint8 32x32 RGB.

>>> images = load("digits")  # doctest: +SKIP
>>> split = images.split(holdout=0.1)  # doctest: +SKIP
"""

from prune_core.images import digits, folder, named_sets, parquet
from prune_core.images.dataset import SPLIT_VERSION, Images, LabelledImages, Split
from prune_core.images.errors import ImagesError
from prune_core.images.loading import class_names, load
from prune_core.images.sources import SOURCES, Location, Origin, Source, image_source

__all__ = [
    "SOURCES",
    "SPLIT_VERSION",
    "Images",
    "ImagesError",
    "LabelledImages",
    "Location",
    "Origin",
    "Source",
    "Split",
    "class_names",
    "digits",
    "folder",
    "image_source",
    "load",
    "named_sets",
    "parquet",
]
