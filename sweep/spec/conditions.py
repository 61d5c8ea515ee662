"""Conditions for the cells of a part of a sweep, in the forms in which a person gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
