"""What two sweeps share, whether the shared cells agree, and how far the others differ."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from results.analysis.comparison import images_of, no_comparison, summarise
from results.analysis.identities import identities
from results.analysis.study import (
    BASELINE,
    POINT,
    STUDY,
    accuracy_column,
    completed,
    macs_ratio,
    need_columns,
)
from results.storage.schema import SCRATCH

PROVENANCE = ("git_revision", "host", "device", "threads", "precision")
"""Columns that say where and with what a cell ran, beside those that begin with `version_`."""

SAME, OTHER = "same", "other"
"""Whether the two cells of a pair prune the same weights, in the column `baselines`."""

# Columns that differ between two runs of one cell without a change of its numbers. The names are
# those that a spec gives, and later versions write more fields of a recipe.
_MEASURED = ("seconds", "latency_", "version_")
_UNCOMPARED = {*PROVENANCE, "key", "sweep", "source", "error", "traceback"}
_UNCOMPARED |= {"started_at", "finished_at", "dataset", "finetune", "finetune_recipe"}
# The grid: cells that differ in one of these are never paired.
_GRID = ("dataset", "metric", "scope", "budget", "ratio_of", "normalisation", "ratio", "seed")
# Of one seed. In rows of early schema versions, baseline and statistics are hashes.
_OF_A_SEED = {"seed", "baseline", "statistics"}
_ABSENT = "nothing"


@dataclass(frozen=True)
class SweepComparison:
    """What `compare` found; every frame has a column for the first and for the second sweep.

    Attributes
    ----------
    cells : one row for each key: `held_by` (both, first or second) and the cell's data set, metric,
        scope, budget, ratio and seed.
    values : one row for each value that differs in a cell of both: `key`, `column`, `first`,
        `second` and `difference`, which is second minus first, missing if they are not numbers. A
        value that one of two good cells did not record is none of them.
    provenance : columns of machine, device and versions whose values differ, over all cells.
    fields : one row for each value of the identities that differs: its `field`, such as
        `finetune.epochs`, and the values in each sweep, as text.
    paired : accuracy of the second sweep minus that of the first, for cells that differ only in
        fields that have no value in common: one row for each setting and metric, with the columns
        of `results.paired_difference`, `_reference` being the first sweep. `baselines` says whether
        pairs prune the same weights, or only have the same seed.
    ambiguous : cells that have several partners, and are therefore not in `paired`.
    """

    cells: pd.DataFrame
    values: pd.DataFrame
    provenance: pd.DataFrame
    fields: pd.DataFrame
    paired: pd.DataFrame
    ambiguous: int

    @property
    def agree(self) -> bool:
        """Whether all cells of both sweeps have the same values; True if they share none."""
        return self.values.empty


def compare(
    first: pd.DataFrame, second: pd.DataFrame, at: str = "finetuned", split: str = "test"
) -> SweepComparison:
    """Compares two sweeps cell by cell.

    Parameters
    ----------
    first, second : frames that `results.load` returned, or rows of them, such as those of one
        `sweep`.
    at : stage whose accuracy is compared in pairs: baseline, pruned, recalibrated or finetuned.
    split : test, or validation for anything that is to be chosen.

    Raises
    ------
    ValueError
        If a frame is empty, lacks a column, or has a key twice.
    """
    for name, frame in (("first", first), ("second", second)):
        need_columns(
            frame,
            [
                *STUDY,
                *POINT,
                "metric",
                *BASELINE,
                "key",
                "identity",
                "status",
                "macs",
                "macs_full",
                images_of(split),
                accuracy_column(at, split),
            ],
        )
        if frame.empty:
            raise ValueError(f"the {name} sweep has no cells")
        if frame["key"].duplicated().any():
            raise ValueError(f"the {name} sweep has a key twice; load all its folders at once")
    sides = completed(first).set_index("key"), completed(second).set_index("key")
    said = identities(sides[0]), identities(sides[1])
    paired, ambiguous = _paired(sides, said, accuracy_column(at, split), split)
    traced = [
        name
        for name in first.columns.intersection(second.columns)
        if name in PROVENANCE or name.startswith("version_")
    ]
    return SweepComparison(
        cells=_cells(*sides),
        values=_unlike_values(*sides),
        provenance=_unlike("column", sides[0][traced], sides[1][traced]),
        fields=_unlike("field", *said),
        paired=paired,
        ambiguous=ambiguous,
    )


def _cells(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    every = pd.concat([first, second.loc[second.index.difference(first.index)]])
    held = pd.Series("both", index=every.index, name="held_by")
    held[~held.index.isin(second.index)] = "first"
    held[~held.index.isin(first.index)] = "second"
    names = ["dataset", "metric", "scope", "budget", "ratio", "seed"]
    return pd.concat([held, every[names]], axis=1).reset_index(names="key")


def _unlike_values(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    shared = first.index.intersection(second.index)
    good = (first.loc[shared, "status"] == "ok") & (second.loc[shared, "status"] == "ok")
    found = []
    for name in first.columns.intersection(second.columns):
        if name in _UNCOMPARED or name.startswith(_MEASURED):
            continue
        one, other = _values(first.loc[shared, name]), _values(second.loc[shared, name])
        # Earlier versions record less, and `evaluate` may leave stages out.
        unrecorded = good & (one.isna() | other.isna())
        for key in shared[~(_alike(one, other) | unrecorded)]:
            pair = one[key], other[key]
            known = pd.api.types.is_numeric_dtype(one) and not any(pd.isna(value) for value in pair)
            known = known and not pd.api.types.is_bool_dtype(one)
            difference = float(pair[1] - pair[0]) if known else float("nan")
            found.append((key, name, *pair, difference))
    return pd.DataFrame(found, columns=["key", "column", "first", "second", "difference"])


def _values(column: pd.Series[Any]) -> pd.Series[Any]:
    """The column with its lists, such as the widths of a network, as tuples, to be compared."""
    if not pd.api.types.is_object_dtype(column):
        return column
    lists = (list, np.ndarray)
    return column.map(lambda value: tuple(value) if isinstance(value, lists) else value)


def _alike(one: pd.Series[Any], other: pd.Series[Any]) -> pd.Series[bool]:
    """Which rows have the same value; missing values are the same."""
    return ((one == other) | (one.isna() & other.isna())).fillna(False).astype(bool)


def _unlike(what: str, first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The columns whose values are not the same in both frames, one row each."""
    found = []
    for name in sorted({*first.columns, *second.columns}):
        one, other = _texts(first, name), _texts(second, name)
        if one != other:
            found.append((name, ", ".join(sorted(one)), ", ".join(sorted(other))))
    return pd.DataFrame(found, columns=[what, "first", "second"], dtype="str")


def _texts(frame: pd.DataFrame, name: str) -> set[str]:
    if name not in frame:
        return {_ABSENT}
    return {_ABSENT if pd.isna(value) else str(value) for value in frame[name].unique()}


def _paired(
    sides: tuple[pd.DataFrame, pd.DataFrame],
    said: tuple[pd.DataFrame, pd.DataFrame],
    accuracy: str,
    split: str,
) -> tuple[pd.DataFrame, int]:
    matched = _matched(sides, said)
    both, ambiguous = _one_to_one(*matched)
    pairs = [side.loc[both[name]].reset_index() for side, name in zip(sides, _KEYS, strict=True)]
    kept = [*dict.fromkeys(["metric", *STUDY, *POINT])]
    names = [name for name in kept if _alike(pairs[0][name], pairs[1][name]).all()]
    names += ["baselines"]
    if both.empty:
        return no_comparison(names), ambiguous
    alike = pd.Series(True, index=both.index)
    for name in BASELINE:
        alike &= _alike(pairs[0][name], pairs[1][name])
    # Precision is no part of an identity, but changes numbers: it is never pooled.
    precisions = [pair["precision"].fillna("") for pair in pairs if "precision" in pair]
    setting = pd.concat([both["setting"], *precisions], axis=1).apply(tuple, axis=1)
    told = {"baselines": alike.map({True: SAME, False: OTHER}), "setting": setting.factorize()[0]}
    first, second = (
        # The pairs are known; `summarise` finds them again by the baseline of the first.
        pair.assign(
            **told,
            **{name: pairs[0][name] for name in BASELINE},
            accuracy=pair[accuracy].astype(float).where(pair["status"] == "ok"),
            unevaluated=(pair["status"] == "ok") & pair[accuracy].isna(),
            macs_ratio=macs_ratio(pair),
        )
        for pair in pairs
    )
    table = summarise(second, first, [*names, "setting"], [], "the first sweep", split)
    return table.drop(columns="setting"), ambiguous


_KEYS = ("key_first", "key_second")


def _matched(
    sides: tuple[pd.DataFrame, pd.DataFrame], said: tuple[pd.DataFrame, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """For each cell that only one sweep has: its grid and what else a partner must share."""
    shared = sides[0].index.intersection(sides[1].index)
    found: tuple[list[pd.DataFrame], ...] = [], []
    # A network from scratch has the unpruned network's recipe, whatever the fine-tuning of others.
    for scratch in (False, True):
        own = [
            side[(side["metric"] == SCRATCH) == scratch].index.difference(shared) for side in sides
        ]
        cells = [side.loc[keys, list(_GRID)] for side, keys in zip(sides, own, strict=True)]
        flats = [flat.loc[keys] for flat, keys in zip(said, own, strict=True)]
        for sweep, one, texts in zip(found, cells, _settings(*flats), strict=True):
            sweep.append(one.assign(setting=texts))
    first, second = (pd.concat(sweep).rename_axis("key").reset_index() for sweep in found)
    return first, second


def _settings(first: pd.DataFrame, second: pd.DataFrame) -> list[list[str]]:
    """What a partner of each cell must share beside its grid, as text, from their identities."""
    names = sorted({*first.columns, *second.columns})
    first, second = (flat.reindex(columns=names) for flat in (first, second))
    free, present = set(), set()
    for name in names:
        one, other = (set(flat[name].dropna().astype(str)) for flat in (first, second))
        if one and other and not one & other:
            present.add(name)
        elif (one and not other and first[name].notna().all()) or (
            other and not one and second[name].notna().all()
        ):
            free.add(name)
    fixed = [
        name for name in names if name not in free and name.rsplit(".", 1)[-1] not in _OF_A_SEED
    ]
    return [
        [
            json.dumps(
                [
                    None if pd.isna(value) else True if name in present else str(value)
                    for name, value in zip(fixed, row, strict=True)
                ]
            )
            for row in flat[fixed].itertuples(index=False)
        ]
        for flat in (first, second)
    ]


def _one_to_one(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The pairs, and the number of cells with several partners, which are left out."""
    on = [*_GRID, "setting"]
    both = first.merge(second, on=on, suffixes=("_first", "_second"))
    several = both.duplicated(on, keep=False)
    left_out = sum(both.loc[several, name].nunique() for name in _KEYS)
    return both[~several].reset_index(drop=True), left_out
