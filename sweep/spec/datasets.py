"""The part of a spec that names the images."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from prune_core.images.errors import ImagesError
from prune_core.images.options import (
    LARGEST_BITS,
    NAMES,
    SMALLEST_BITS,
    Options,
    split_options,
)
from prune_core.images.size import LARGEST_SIDE, SMALLEST_SIDE
from prune_core.spelling import allowed
from sweep.spec.base import NAME, Name, Strict


def _square(value: Any) -> Any:
    if type(value) is int:
        return [value, value]
    if not isinstance(value, list):
        raise ValueError("must be a whole number of pixels, or [height, width]")
    return value


Text = Annotated[str, Field(min_length=1)]
Pixels = Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE)]
ImageSize = Annotated[
    Annotated[list[Pixels], Field(min_length=2, max_length=2)], BeforeValidator(_square)
]


class DatasetSpec(Strict):
    """The images to train and test on.

    `source` is svhn, cifar10, cifar100, digits, parquet:FOLDER or folder:PATH. A plain string
    in the spec is a source. `name` is the name in the results. `image_size` is the side of the
    images in pixels, or [height, width]; by default that of the source, else 32. `train_images`
    and `test_images` limit each part to its first images. `flip` says whether a mirrored image
    keeps its label. The default is no for digits and svhn, and yes for all other sources.

    The other fields are the options of the source, see `prune_core.images.options`. Those that
    follow the source itself, as in `folder:photos?on_error=skip`, become these fields.
    """

    source: str
    name: Name
    image_size: ImageSize | None = None
    train_images: Annotated[int, Field(ge=2)] | None = None
    test_images: Annotated[int, Field(ge=1)] | None = None
    flip: bool | None = None
    train: Text | None = None
    validation: Text | None = None
    test: Text | None = None
    image_column: Text | None = None
    label_column: Text | None = None
    on_error: Literal["raise", "skip"] = "raise"
    bits: Annotated[int, Field(ge=SMALLEST_BITS, le=LARGEST_BITS)] = LARGEST_BITS

    @property
    def located(self) -> str:
        """The source with its options behind it, as `prune_core.images.load` takes it."""
        return Options(**{name: getattr(self, name) for name in NAMES}).of(self.source)

    @model_validator(mode="before")
    @classmethod
    def _from_source(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"source": value}
        if not isinstance(value, dict | DatasetSpec):
            raise ValueError("must be a source such as digits, or a mapping with a `source`")
        if not isinstance(value, dict):
            return value
        if not isinstance(value.get("source"), str):
            return {"name": "unknown", **value}  # what is wrong is the source alone
        try:
            source, options = split_options(value["source"])
        except ImagesError as error:
            raise ValueError(str(error)) from error
        if twice := sorted(set(options.given) & set(value)):
            raise ValueError(f"gives {twice[0]} in the source and as a field; give it once")
        if "name" not in value:
            value = {"name": _name_of(source), **value}
        return {**options.given, **value, "source": source}


def _name_of(source: str) -> str:
    """The last part of a source, as the name of the data set."""
    last = re.split(r"[:/\\]", source.rstrip("/\\"))[-1]
    if NAME.fullmatch(last):
        return last
    option, equals, _ = last.rpartition("?")[2].partition("=")
    known = f"; if {option} is an option: {allowed(option, NAMES)}" if equals else ""
    raise ValueError(
        f"the source {source!r} gives no usable name; add one, such as "
        f"{{source: '{source}', name: mine}}{known}"
    )
