"""Is a metric good because it keeps the right channels, or because it finds the right widths?"""

from __future__ import annotations

import pandas as pd

from results.analysis.comparison import SUMMARY, no_comparison, summarise
from results.analysis.intervals import holm
from results.analysis.study import STUDY, beside_scratch, figures
from results.storage.schema import SCRATCH

EFFECTS = ("selection", "allocation", "both", "selection over random", "scratch")

_SHARED = (*STUDY, "normalisation", "ratio", "widths_of")
COLUMNS = (*_SHARED, "effect", "metric", *SUMMARY)


def selection_against_allocation(
    frame: pd.DataFrame, at: str = "finetuned", split: str = "test"
) -> pd.DataFrame:
    """How much of a global ranking's accuracy is due to its channels, and how much to its widths.

    It reads the cells that `controls: {widths_of: [A]}` adds to a sweep: channels by B at the
    widths that the global run of A left. At A's own widths, A's cell is its global one.

    Parameters
    ----------
    frame : what `load` returned.
    at : pruned, recalibrated or finetuned.
    split : test, or validation for anything that is to be chosen.

    Returns
    -------
    DataFrame, one row for each study, normalisation, ratio, `widths_of` (A), effect and metric
    (B), with the columns `SUMMARY` of `results.analysis.comparison`: differences in points,
    paired by the baseline. The effects are

    selection : B at the widths of A, minus A there. Same widths, other channels.
    allocation : B at its own global widths, minus B at the widths of A. Same metric, other
        widths.
    both : B at its own widths, minus A at its own: the sum of the two, seed by seed.
    selection over random : B, or A itself, minus random channels, at the widths of A.
    scratch : a network of the widths of A trained from new weights by the baseline's recipe,
        minus A there.

    `p_holm` is corrected over all rows of the returned frame that have a p.

    Raises
    ------
    ValueError
        As `results.paired_difference`.
    """
    cells = beside_scratch(figures(frame, at, split, ["widths_of"]))
    borrowed = cells[cells["scope"] == "widths_of"]
    if borrowed.empty:
        return no_comparison(COLUMNS[: -len(SUMMARY)])
    # Widths are lent by the rule `global`, not by other rules of that scope.
    own = cells[cells["budget"] == "global"].drop(columns="widths_of")
    # Every A meets every metric's own widths, in the settings in which it lent its widths.
    lenders = borrowed[list(_SHARED)].drop_duplicates()
    own = own.merge(lenders, on=list(_SHARED[:-1]))
    at_home = own[own["metric"] == own["widths_of"]]
    pruned = borrowed[borrowed["metric"] != SCRATCH]
    scratch = borrowed[borrowed["metric"] == SCRATCH]
    others = own[own["metric"] != own["widths_of"]]
    # A metric that is not compared at A's widths has no effect to explain.
    others = others.merge(pruned[[*_SHARED, "metric"]].drop_duplicates(), on=[*_SHARED, "metric"])
    chosen = pd.concat([pruned, at_home])
    at_random = chosen["metric"] == "random"
    random = chosen[at_random].drop(columns="metric")
    informed = chosen[~at_random].merge(random[list(_SHARED)].drop_duplicates(), on=list(_SHARED))
    home = at_home.drop(columns="metric")
    lender = "the global cell of the metric whose widths these are"
    compared = {
        "selection": summarise(pruned, home, _SHARED, ["metric"], lender),
        "allocation": summarise(others, pruned, [*_SHARED, "metric"], [], "the same metric there"),
        "both": summarise(others, home, _SHARED, ["metric"], lender),
        "selection over random": summarise(informed, random, _SHARED, ["metric"], "random"),
        "scratch": summarise(scratch, home, _SHARED, ["metric"], lender),
    }
    parts = [table.assign(effect=effect) for effect, table in compared.items() if len(table)]
    table = pd.concat(parts, ignore_index=True)
    table["p_holm"] = holm(table["p"])
    table["effect"] = pd.Categorical(table["effect"], EFFECTS)
    order = [*_SHARED, "metric", "effect"]
    table = table.sort_values(order, ignore_index=True).astype({"effect": "str"})
    return table[list(COLUMNS)]
