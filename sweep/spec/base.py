"""What all parts of a spec have in common: strict models, names and numbers."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def finite(value: float) -> float:
    """Refuses NaN and infinity."""
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value + 0.0  # -0.0 and 0.0 would have two keys


def distinct(values: list[Any]) -> list[Any]:
    """Refuses an entry that is given twice."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"names {_plain(value, index)} twice; remove one of the two")
    return values


def as_list(value: Any) -> Any:
    """An entry that stands alone, as a list of one."""
    return value if isinstance(value, list) else [value]


def _plain(value: Any, index: int) -> str:
    """An entry as a person writes it: a value, or what names it."""
    named = getattr(value, "label", None) or getattr(value, "name", None)
    if named is None and isinstance(value, BaseModel):
        return f"entry [{index}]"
    return str(value if named is None else named)


def safe_name(name: str) -> str:
    """Refuses a name that is no safe name of a folder."""
    if not NAME.fullmatch(name):
        raise ValueError(
            "must consist of letters, digits, '-', '_' and '.', begin with a letter or digit, and "
            "have at most 100 characters"
        )
    return name


Number = Annotated[float, AfterValidator(finite)]
Name = Annotated[str, AfterValidator(safe_name)]


class Strict(BaseModel):
    """A part of a spec, without unknown fields."""

    # Strict: YAML has numbers, so a quoted "0.3" or a "true" in place of a number is a mistake.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
