"""Writes a spec as YAML that names every field, also those that were left at their defaults."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel

from prune_core.budgets import BudgetChoice
from prune_core.compensation import Compensation
from prune_core.metrics import Choice
from prune_core.metrics.registry import IMAGES
from prune_core.plugins import Plugin
from prune_core.schedule import Schedule
from sweep.spec.fields import Spec
from sweep.spec.recipes import FinetuneSpec
from sweep.spec.yaml_text import EXPONENTS


def resolved(spec: Spec) -> str:
    """The spec as YAML text; reading the text gives an equal spec."""
    return yaml.dump(_plain(spec), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Quotes texts that the reader of specs would take for numbers."""


_Dumper.add_implicit_resolver(*EXPONENTS)


def _plain(value: Any) -> Any:
    """The value in terms of YAML: mappings, lists, numbers and text."""
    if isinstance(value, Choice):
        options: dict[str, Any] = dict(value.options)
        options |= {IMAGES: value.images} if value.metric.reads_images else {}
        return {value.name: options} if options else value.name
    if isinstance(value, Plugin):
        return value.path
    if isinstance(value, Compensation):
        return {value.name: value.options} if value.options else value.name
    if isinstance(value, BudgetChoice):
        return {value.name: dict(value.options)} if value.options else value.name
    if isinstance(value, Schedule):
        return {value.label.partition("(")[0]: value.options} if value.options else value.label
    if isinstance(value, FinetuneSpec) and value.rewind is not None:
        # The other fields are those of the baseline's recipe.
        return {"name": value.name, "rewind": value.rewind, "epochs": value.epochs}
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
