"""Reads YAML as plain values of which no two share a part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import yaml

from sweep.errors import SpecError


def load_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Raises
    ------
    SpecError
        If the text is not valid, naming `where` it comes from.
    """
    try:
        found = yaml.load(text, Loader=_Loader)
    # If a value does not fit its tag, PyYAML may raise KeyError, IndexError and others.
    except Exception as error:
        raise SpecError(f"{where} is not valid YAML: {error}") from error
    return copied(found, where)


class _Loader(yaml.SafeLoader):
    """A YAML loader that reads 5e-4 as a number and refuses a field that is given twice."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        # When a mapping is constructed, its merge key `<<` may already have been replaced by fields
        # that it overrides.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(
                        f"field '{key.value}' is given twice, again in line {line}"
                    )
                seen.add((key.tag, key.value))
        return node

    def construct_decimal(self, node: yaml.ScalarNode) -> int | float:
        """A number; refuses 010, which is 8 in YAML 1.1, and 1:30, which is 90."""
        if re.match(r"[-+]?0[0-9_]|.*:", node.value):
            raise yaml.YAMLError(
                f"{node.value} in line {node.start_mark.line + 1} is no decimal number in YAML; "
                "write it without a 0 in front and without colons, or in quotes for a text"
            )
        if node.tag == INTEGER:
            return int(self.construct_yaml_int(node))
        return float(self.construct_yaml_float(node))


INTEGER, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
EXPONENTS = (
    FLOAT,
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)
"""YAML 1.1 reads 5e-4 as text. Who writes a spec must quote a text that looks like this."""

_Loader.add_implicit_resolver(*EXPONENTS)
_Loader.add_constructor(INTEGER, _Loader.construct_decimal)
_Loader.add_constructor(FLOAT, _Loader.construct_decimal)


def copied(value: Any, where: str) -> Any:
    """See `as_yaml`. No two fields share a mapping or list, so an override changes one field."""
    if isinstance(value, Mapping):
        return {key: _copied(inner, f"{where}: {key}") for key, inner in value.items()}
    return _copied(value, where)


def _copied(value: Any, where: str) -> Any:
    try:
        return as_yaml(value)
    except RecursionError:
        raise SpecError(f"{where} contains itself") from None


def as_yaml(value: Any) -> Any:
    """A copy of a value that Python gave, as YAML would give it."""
    if hasattr(value, "tolist"):  # an array or number of NumPy, a Series of pandas
        array = np.asarray(value)
        # As decimal text, because a float32 of 0.3 is meant as 0.3, not as 0.30000001192092896.
        value = (array.astype(str).astype(float) if array.dtype.kind == "f" else array).tolist()
    if isinstance(value, Mapping):
        return {key: as_yaml(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [as_yaml(inner) for inner in value]
    return str(value) if isinstance(value, PurePath) else value
