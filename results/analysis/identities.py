"""What the identities of cells say: every value that changed their numbers.

A cell's `identity` is JSON: its baseline (recipe, architecture, weights that it starts from, data,
versions and seed), channel groups, metric, budget, compensation, fine-tuning recipe and versions.
Rows of schema
versions before 4 have a hash in place of the baseline, so nothing can be said of their recipes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

_NAMED = ("version", "baseline", "finetune", "budget", "groups", "compensation")
VERSION, BASELINE_PART, FINETUNE, BUDGET, GROUPS, COMPENSATION = _NAMED
REST = "rest"
"""Parts of an identity: versions of the code, the baseline without its seed, the recipe of
fine-tuning, the budget, the channel groups, the compensation, and the rest, which is the metric
with its statistics. A SimpleNet has no channel groups here: each of its convolutions is one. A
cell without compensation has no such part."""

# Without the seed, many cells have the same text, which is then parsed once. In rows of earlier
# schema versions, hashes of baselines and of statistics include the seed.
_SEED = re.compile(r'"seed":\s*\d+(?=,\s*"stage":\s*"baseline")')
_HASHES = re.compile(r'"(baseline|statistics)":\s*(?:"[^"]*"|\["[^\]]*\])')
_ABSENT = "nothing"


def identities(frame: pd.DataFrame) -> pd.DataFrame:
    """Every value of the cells' identities as a column, such as `baseline.recipe.learning_rate`.

    Use it to select the rows that belong together, where a function refuses to pool them:

    >>> of = results.identities(frame)  # doctest: +SKIP
    >>> frame[of["baseline.recipe.learning_rate"] == 0.1]  # doctest: +SKIP

    Parameters
    ----------
    frame : the frame that `results.load` returned.

    Returns
    -------
    DataFrame with the index of `frame`, one column for each value. Lists are JSON text. Values that
    an identity lacks are missing.
    """
    numbers, texts = pd.factorize(frame["identity"].astype("str").fillna(""))
    flat = pd.DataFrame([dict(_flat(_parsed(text, {}))) for text in texts])
    return flat.take(numbers).set_axis(frame.index)


def identity_parts(texts: pd.Series[Any]) -> dict[str, Any]:
    """The parts of each identity, as JSON text without the seed, by part."""
    plain = texts.astype("str").str.replace(_SEED, '"seed":0', regex=True)
    plain = plain.str.replace(_HASHES, r'"\1":""', regex=True)
    numbers, distinct = pd.factorize(plain)
    names = [*_NAMED, REST]
    parsed = pd.DataFrame([_parts(text) for text in [*distinct, ""]], columns=names)
    return {name: parsed[name].array[numbers] for name in names}


@dataclass(frozen=True)
class Difference:
    """Why cells cannot be pooled; as text it says how to select some of them.

    Attributes
    ----------
    values : the name of what differs, and two of its values.
    line : an expression that selects cells of a frame that agree in it.
    """

    values: str
    line: str

    def __str__(self) -> str:
        return f"{self.values}; select rows that agree, such as {self.line}"


def difference(one: str, other: str) -> Difference:
    """The first value in which two cells differ.

    Parameters
    ----------
    one, other : unlike texts of one part, as `identity_parts` returns them.
    """
    values = [dict(_flat(_parsed(text, {}))) for text in (one, other)]
    names = sorted(values[0].keys() | values[1].keys())
    name = next(name for name in names if values[0].get(name) != values[1].get(name))
    first, second = (found.get(name, _ABSENT) for found in values)
    selected = second if first == _ABSENT else first
    return Difference(
        f"{name} is {first} and {second}",
        f'frame[results.identities(frame)["{name}"] == {selected!r}]',
    )


def _parts(text: str) -> tuple[str, ...]:
    content = _parsed(text)
    if not isinstance(content, dict):
        # Tables of the first version may have null here.
        return ("",) * (len(_NAMED) + 1)
    named = [{name: content.pop(name)} if name in content else {} for name in _NAMED]
    return tuple(json.dumps(part, sort_keys=True) for part in (*named, content))


def _parsed(text: str, otherwise: Any = None) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return otherwise


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for field, inner in value.items():
            yield from _flat(inner, f"{name}.{field}" if name else str(field))
    else:
        yield name, json.dumps(value) if isinstance(value, list) else value
