"""Images to train on: named data sets, Parquet files or image files, all as uint8 32x32 RGB.

>>> images = load("digits")  # doctest: +SKIP
>>> split = images.split(holdout=0.1)  # doctest: +SKIP
"""

from prune_core.images.class_names import class_names
from prune_core.images.dataset import SPLIT_VERSION, Images, LabelledImages, Split
from prune_core.images.errors import ImagesError
from prune_core.images.loading import load
from prune_core.images.sources import SOURCES, Source

__all__ = [
    "SOURCES",
    "SPLIT_VERSION",
    "Images",
    "ImagesError",
    "LabelledImages",
    "Source",
    "Split",
    "class_names",
    "load",
]
