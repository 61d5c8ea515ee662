"""Writes a spec as YAML that names every field, also those that were left at their defaults."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel

from prune_core.metrics import Choice
from prune_core.metrics.registry import IMAGES
from sweep.spec.fields import Spec


def resolved(spec: Spec) -> str:
    """The spec as YAML text; reading the text gives an equal spec."""
    return yaml.safe_dump(_plain(spec), sort_keys=False, allow_unicode=True, width=100)


def _plain(value: Any) -> Any:
    """The value in terms of YAML: mappings, lists, numbers and text."""
    if isinstance(value, Choice):
        options: dict[str, Any] = {"name": value.name, **dict(value.options)}
        options |= {IMAGES: value.images} if value.metric.reads_images else {}
        return options if len(options) > 1 else value.name
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
