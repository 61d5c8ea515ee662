"""Conditions for the cells of a part of a sweep, in the forms in which a person gives them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import yaml

from sweep.errors import SpecError
from sweep.spec.given import each
from sweep.spec.overrides import assigned
from sweep.spec.yaml_text import as_yaml

Conditions = Mapping[str, object] | str | Iterable[str]
"""`{"ratio": [0.3, 0.5], "metric": "random"}`, or texts such as `ratio=[0.3, 0.5]`."""


def conditions_of(given: Conditions | None) -> dict[str, list[object]]:
    """The values that a cell may have, by the axis of the grid.

    Raises
    ------
    SpecError
        If a text is not AXIS=VALUE, or names an axis again.
    """
    if isinstance(given, Mapping):
        return {str(name): _listed(as_yaml(value)) for name, value in given.items()}
    found: dict[str, list[object]] = {}
    for text in each(given):
        name, value = assigned(
            str(text), "--where", "AXIS=VALUE", "ratio=0.3 or 'ratio=[0.3, 0.5]'"
        )
        if name in found:
            raise SpecError(f"--where {name} is given twice; write '{name}=[VALUE, VALUE]'")
        found[name] = _listed(value)
    return found


def spelled(value: object) -> object:
    """A value without what does not count: spaces and the order of options."""
    if isinstance(value, str):
        name, _, options = "".join(value.split()).partition("(")
        return name, *sorted(options.removesuffix(")").split(","))
    return value if value is None or type(value) in (int, float) else repr(value)


def with_budgets(texts: Iterable[str], renamed: Mapping[str, str]) -> list[str]:
    """Conditions for the same cells after the labels of some budgets have changed.

    Parameters
    ----------
    texts : of one condition each, such as `ratio=[0.3, 0.5]`.
    renamed : the new labels, by the old ones.

    Raises
    ------
    SpecError
        See `conditions_of`.
    """
    new = {spelled(old): label for old, label in renamed.items()}
    found = []
    for text in texts:
        values = conditions_of([text]).get("budget", [])
        there = [new.get(spelled(value), value) for value in values]
        # In one line, and none of the texts that are as they were.
        listed = yaml.safe_dump(there, default_flow_style=True, allow_unicode=True, width=math.inf)
        found.append(text if there == values else f"budget={listed.strip()}")
    return found


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
