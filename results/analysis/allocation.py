"""Is a metric good because it keeps the right channels, or because it finds the right widths?"""

from __future__ import annotations

import pandas as pd

from results.analysis.comparison import SUMMARY, images_of, no_comparison, summarise
from results.analysis.intervals import holm
from results.analysis.scratch import beside_scratch
from results.analysis.study import BASELINE, PROCEDURE, STUDY, figures
from results.storage.schema import SCRATCH

EFFECTS = ("selection", "allocation", "both", "selection over random", "scratch")

_SHARED = (*STUDY, "normalisation", *PROCEDURE, "ratio", "ratio_of", "widths_of")
COLUMNS = (*_SHARED, "effect", "metric", *SUMMARY)


def selection_against_allocation(
    frame: pd.DataFrame, at: str = "finetuned", split: str = "test"
) -> pd.DataFrame:
    """How much of a global ranking's accuracy is due to its channels, and how much to its widths.

    It reads the cells that `controls: {widths_of: [A]}` adds to a sweep. There metric B ranks the
    channels, and the channel groups have the widths that the global ranking of A left. For A itself
    at these widths, its global cell is used.

    Parameters
    ----------
    frame : the frame that `load` returned.
    at : pruned, compensated, recalibrated or finetuned.
    split : test; use validation to choose something.

    Returns
    -------
    DataFrame, one row for each study, normalisation, compensation, schedule, ratio and what it
    counts, `widths_of` (A), effect and metric (B), with the columns `SUMMARY` of
    `results.analysis.comparison`: differences in percentage points, paired by the baseline. The
    effects are

    selection : B minus A, both at the widths of A. Same widths, other channels.
    allocation : B at its own global widths, minus B at the widths of A. Same metric, other
        widths.
    both : B at its own global widths, minus A at its own: for each seed, the sum of the two.
    selection over random : B, or A itself, minus random channels, all at the widths of A.
    scratch : a network with the widths of A, trained from new weights by the baseline's recipe,
        minus A at these widths.

    `p_holm` is corrected over all rows of the returned frame that have a p value. Where `weights`
    is not missing, all seeds start from the weights of one file: intervals then say how much
    fine-tuning and seeded metrics vary, not how much networks vary.

    Raises
    ------
    ValueError
        As `results.paired_difference`.
    """
    cells = beside_scratch(figures(frame, at, split, ["widths_of", images_of(split)]))
    borrowed = cells[cells["scope"] == "widths_of"]
    if borrowed.empty:
        return no_comparison(COLUMNS[: -len(SUMMARY)])
    # The widths come from the budget `global`, not from other budgets of that scope.
    own = cells[cells["budget"] == lending_budget(cells["ratio_of"])].drop(columns="widths_of")
    # Compare every A with all metrics at their own widths, where cells with A's widths exist.
    lenders = borrowed[list(_SHARED)].drop_duplicates()
    own = own.merge(lenders, on=list(_SHARED[:-1]))
    at_home = own[own["metric"] == own["widths_of"]]
    pruned = borrowed[borrowed["metric"] != SCRATCH]
    scratch = borrowed[borrowed["metric"] == SCRATCH]
    _check_widths(at_home, pruned)
    others = own[own["metric"] != own["widths_of"]]
    # Skip metrics without a cell at A's widths: their difference cannot be split.
    others = others.merge(pruned[[*_SHARED, "metric"]].drop_duplicates(), on=[*_SHARED, "metric"])
    chosen = pd.concat([pruned, at_home])
    at_random = chosen["metric"] == "random"
    random = chosen[at_random].drop(columns="metric")
    informed = chosen[~at_random].merge(random[list(_SHARED)].drop_duplicates(), on=list(_SHARED))
    home = at_home.drop(columns="metric")
    lender = "the global cell of the metric whose widths these are"
    compared = {
        "selection": summarise(pruned, home, _SHARED, ["metric"], lender, split),
        "allocation": summarise(
            others, pruned, [*_SHARED, "metric"], [], "the same metric there", split
        ),
        "both": summarise(others, home, _SHARED, ["metric"], lender, split),
        "selection over random": summarise(informed, random, _SHARED, ["metric"], "random", split),
        "scratch": summarise(scratch, home, _SHARED, ["metric"], lender, split),
    }
    parts = [table.assign(effect=effect) for effect, table in compared.items() if len(table)]
    table = pd.concat(parts, ignore_index=True)
    table["p_holm"] = holm(table["p"])
    table["effect"] = pd.Categorical(table["effect"], EFFECTS)
    order = [*_SHARED, "metric", "effect"]
    table = table.sort_values(order, ignore_index=True).astype({"effect": "str"})
    return table[list(COLUMNS)]


def lending_budget(ratio_of: pd.Series[str]) -> pd.Series[str]:
    """The budget of the global ranking whose widths are lent, by what its ratio counts."""
    return ("global(of=" + ratio_of + ")").where(ratio_of != "parameters", "global")


def _check_widths(home: pd.DataFrame, borrowed: pd.DataFrame) -> None:
    """Refuses borrowed widths that are not those of the lender's own global cell.

    They differ if the lender's scores were computed from other images or by other options.
    """
    where = [*_SHARED, *BASELINE]
    pairs = borrowed.merge(home, on=where, suffixes=("", "_home"))
    sizes = pairs[["parameter_ratio", "parameter_ratio_home"]].astype(float).dropna()
    unlike = pairs.loc[sizes.index][sizes.iloc[:, 0] != sizes.iloc[:, 1]]
    if len(unlike):
        first = unlike.iloc[0]
        raise ValueError(
            f"on {first['dataset']} at ratio {first['ratio']:g}, the widths of "
            f"{first['widths_of']} that {first['metric']} borrows are not those of its own global "
            f"cell: parameter ratio {first['parameter_ratio']:.6f} and "
            f"{first['parameter_ratio_home']:.6f}; select rows so that they agree"
        )
