"""How many tests between metrics a report has; one that stands in several tables counts once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from results.analysis.allocation import lending_budget, selection_against_allocation
from results.analysis.claims import claims
from results.analysis.comparison import REFERENCE, paired_difference
from results.analysis.equal_macs import at_equal_macs
from results.analysis.planned import planned_differences
from results.analysis.study import FINETUNING, PROCEDURE, STUDY
from results.figures.panels import comparable
from results.storage.plan_file import Comparison
from results.storage.schema import SCRATCH

_SHARED = [*STUDY, *PROCEDURE, "normalisation", "ratio_of", "ratio"]
_TUNED = "finetuned"

Tests = set[tuple[Any, ...]]
"""Of each test what both sides share, and the two sides in any order."""


def comparisons_of_metrics(
    cells: pd.DataFrame, comparisons: Sequence[Comparison]
) -> tuple[int, int]:
    """How many tests are exploratory, and how many are of the claims' primary family.

    Those of the primary family and of the planned comparisons are not exploratory.
    """
    known, judged = comparable(cells), claims(cells)
    lent = cells.dropna(subset="widths_of").drop_duplicates("budget").set_index("budget")
    widths = {str(budget): _borrowed(lender) for budget, lender in lent["widths_of"].items()}
    every = _of_allocation(selection_against_allocation(cells))
    for stage, rows in judged.groupby("stage"):
        every |= _at_one_point(rows, widths, str(stage))
    if REFERENCE in set(known["metric"]):
        every |= _at_one_point(paired_difference(known, None, REFERENCE), widths)
        equal = at_equal_macs(known, None, REFERENCE).rename(columns={"macs_ratio": "ratio"})
        every |= _at_one_point(equal, widths, "equal MACs")
    primary = _at_one_point(judged[judged["family"] == "primary"], widths)
    planned = _at_one_point(planned_differences(cells, comparisons), widths)
    return len(every - primary - planned), len(primary)


def _at_one_point(table: pd.DataFrame, widths: Mapping[str, str], stage: str = _TUNED) -> Tests:
    """Tests of a metric against a reference at the same point of the grid."""
    rows = table[["budget", "metric", "reference"]].itertuples(index=False, name=None)
    sides = (
        ((widths.get(budget, budget), metric), (widths.get(budget, budget), reference))
        for budget, metric, reference in rows
    )
    return _tests(table, sides, stage)


def _of_allocation(table: pd.DataFrame) -> Tests:
    homes = lending_budget(table["ratio_of"])
    lenders, effects, metrics = (table[name] for name in ("widths_of", "effect", "metric"))
    sides = (_arms(*row) for row in zip(lenders, effects, metrics, homes, strict=True))
    return _tests(table, sides, _TUNED)


def _arms(lender: str, effect: str, metric: str, home: str) -> tuple[tuple[str, str], ...]:
    """The two sides of an effect, each as its budget and its metric."""
    lent, own = _borrowed(lender), (home, lender)
    return {
        "selection": ((lent, metric), own),
        "allocation": ((home, metric), (lent, metric)),
        "both": ((home, metric), own),
        "selection over random": (own if metric == lender else (lent, metric), (lent, "random")),
        "scratch": ((lent, SCRATCH), own),
    }[effect]


def _borrowed(lender: str) -> str:
    return f"the widths of {lender}"


def _tests(table: pd.DataFrame, pairs: Iterable[tuple[Any, ...]], stage: str) -> Tests:
    shared = table[_SHARED].astype(object)
    if stage not in (_TUNED, "equal MACs"):
        # Before fine-tuning, cells that differ in its recipe are the same networks.
        shared = shared.assign(**dict.fromkeys(FINETUNING))
    told = shared.where(shared.notna(), None).itertuples(index=False, name=None)
    rows = zip(told, pairs, table["p"].notna(), strict=True)
    return {(stage, frozenset(pair), *row) for row, pair, known in rows if known}
