"""How far two metrics differ that prune the same baselines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from results.analysis.intervals import (
    NO_SPREAD,
    detectable,
    holm,
    over_seeds,
    sampling_error,
    t_test,
)
from results.analysis.scratch import beside_scratch
from results.analysis.study import BASELINE, FINETUNING, POINT, STUDY, figures, known_metrics

SUMMARY = (
    "difference_points",
    "deviation_points",
    "low_points",
    "high_points",
    "detectable_points",
    "test_error_points",
    "seeds",
    "unpaired",
    "p",
    "p_holm",
    "accuracy",
    "accuracy_reference",
    "parameter_ratio",
    "parameter_ratio_reference",
    "macs_ratio",
    "macs_ratio_reference",
    "collapsed",
    "collapsed_reference",
    "note",
)
"""What `summarise` says of each comparison."""

REFERENCE = "output_l1"
"""The metric that reports compare with: the paper's own baseline."""

NOT_EVALUATED = "not evaluated at this stage"
"""The note of a comparison whose cells are ok and have no accuracy at the stage."""

NOT_RUN = " was not run here"
"""Ends the note of a comparison one side of which has no cell."""

_COUNTS = ("seeds", "unpaired", "collapsed", "collapsed_reference")
_TYPES = dict.fromkeys(_COUNTS, "int64") | {"note": "str"}
_FIGURES = ("accuracy", "parameter_ratio", "macs_ratio", "collapsed")
_AVERAGED = (*_FIGURES, *(f"{figure}_reference" for figure in _FIGURES))
# Rounding to these decimals keeps equal means equal, whatever the order of the seeds.
_DECIMALS = 12
_POINTS = {
    "mean": "difference_points",
    "deviation": "deviation_points",
    "low": "low_points",
    "high": "high_points",
}


def paired_difference(
    frame: pd.DataFrame,
    metric: str | Sequence[str] | None,
    reference: str,
    at: str = "finetuned",
    split: str = "test",
) -> pd.DataFrame:
    """Accuracy of metrics minus that of a reference, paired by the baseline that they prune.

    Parameters
    ----------
    frame : what `load` returned.
    metric : one, several, or None for all others in the frame.
    reference : what is subtracted.
    at : baseline, pruned, compensated (cells without compensation are left out), recalibrated or
        finetuned.
    split : test, or validation for anything that is to be chosen.

    Returns
    -------
    DataFrame, one row for each study, point of the grid (the columns `STUDY` and `POINT` of
    `results.analysis.study`) and metric that has a cell there, with the columns of `SUMMARY`.
    Metric and reference have the same compensation, recipe of fine-tuning and schedule; networks
    trained from scratch have none and stand beside every one. Columns that end in `_points` are in
    percentage points:

    difference_points, deviation_points : mean over the seeds and sample standard deviation.
    low_points, high_points : ends of the 95 % t interval of the mean. Where `weights` is not
        missing, all seeds start from the weights of one file: the interval then says how much
        fine-tuning and seeded metrics vary, not how much networks vary.
    detectable_points : the smallest true difference that a test of so many seeds, with this
        deviation, finds with a probability of 0.8 (`results.analysis.intervals.detectable`).
    test_error_points : at most the standard error that the finite number of images adds. All
        seeds share these images, so no interval over seeds contains it. It is
        sqrt((p (1 - p) + q (1 - q)) / N) for accuracies p and q on N images: an upper bound, if
        the two networks are right on the same images at least as often as by chance.
    seeds, unpaired : pairs behind these figures; seeds without a pair, where one of the two cells
        is missing, not ok, or not evaluated at the stage.
    p, p_holm : two-sided paired t test; the same after Holm's correction over all rows of the
        returned frame that have a p. A test of the same networks beside several recipes of
        fine-tuning counts once.
    accuracy, parameter_ratio, macs_ratio : means over the pairs, as fractions; `macs_ratio` is
        what is left of the multiply-accumulates. The same for the reference, with `_reference`.
    collapsed : the number of pairs with a channel group at its floor; the same for the reference.
    note : why there is no interval: no pair, no evaluation at the stage, one seed, or the same
        difference in every seed, which tells nothing about a spread.

    Raises
    ------
    ValueError
        If a metric has no cell, or two for one seed and point, or is the reference itself, or if
        cells are not comparable (`results.analysis.study.figures`).
    """
    cells = beside_scratch(figures(frame, at, split, [images_of(split)]))
    wanted = [metric] if isinstance(metric, str) else metric
    if wanted is not None and reference in wanted:
        raise ValueError(f"{reference!r} is both metric and reference; its difference is 0")
    known_metrics(cells, [*(wanted or []), reference])
    chosen = cells["metric"] != reference
    if wanted is not None:
        chosen &= cells["metric"].isin(list(wanted))
    other = cells[cells["metric"] == reference].drop(columns="metric")
    table = summarise(cells[chosen], other, [*STUDY, *POINT], ["metric"], reference, split)
    table.insert(table.columns.get_loc("metric") + 1, "reference", reference)
    return table


def summarise(
    cells: pd.DataFrame,
    others: pd.DataFrame,
    shared: Iterable[str],
    own: Iterable[str],
    reference: str,
    split: str = "test",
) -> pd.DataFrame:
    """Differences of accuracy between cells and others that prune the same baselines.

    Parameters
    ----------
    cells, others : as `figures` of `results.analysis.study` returns them, with the column
        `images_of(split)`; `others` has one row at most for each baseline and value of `shared`.
    shared : columns in which both must agree.
    own : columns of `cells` that `others` lacks: every value is compared with the same others.
    reference : what the others are called in notes.
    split : the images that gave the accuracies: test or validation.

    Returns
    -------
    DataFrame, one row for each value of `shared` and `own` in `cells`, with these columns and
    those of `SUMMARY`; see `paired_difference`.
    """
    shared, own = list(shared), list(own)
    names = [*shared, *own]
    if cells.empty:
        return no_comparison(names)
    cells, others = (
        side.assign(images=side[images_of(split)].astype(float))[
            [*columns, *BASELINE, *_FIGURES, "images", "unevaluated"]
        ]
        for side, columns in ((cells, names), (others, shared))
    )
    # Every comparison meets all cells of the reference, so that those without a partner count.
    opposite = cells[names].drop_duplicates().merge(others, on=shared)
    both = cells.merge(
        opposite, on=[*names, *BASELINE], how="outer", suffixes=("", "_reference"), indicator=True
    )
    paired = both["accuracy"].notna() & both["accuracy_reference"].notna()
    both = both.assign(
        points=100 * (both["accuracy"] - both["accuracy_reference"]),
        ran=both["_merge"] != "left_only",
        unevaluated=both[["unevaluated", "unevaluated_reference"]].eq(True).any(axis="columns"),
    )
    both[list(_AVERAGED)] = both[list(_AVERAGED)].astype(float).where(paired)
    table = over_seeds(
        both,
        names,
        "points",
        100,
        of=("seed", "nunique"),
        ran=("ran", "any"),
        unevaluated=("unevaluated", "any"),
        images=("images", "max"),
        images_reference=("images_reference", "max"),
        **{name: (name, "sum" if name in _COUNTS else "mean") for name in _AVERAGED},
    )
    counts = ["seeds", "of", "collapsed", "collapsed_reference"]
    table = table.astype(dict.fromkeys(counts, "int64") | {"ran": bool, "unevaluated": bool})
    table = table.rename(columns=_POINTS)
    spread = (table["difference_points"] / 100, table["deviation_points"] / 100, table["seeds"])
    one, other = (
        sampling_error(table[f"accuracy{side}"], table[f"images{side}"])
        for side in ("", "_reference")
    )
    table = table.assign(
        p=t_test(*spread),
        detectable_points=100 * detectable(*spread[1:]),
        test_error_points=100 * np.hypot(one, other),
        unpaired=table["of"] - table["seeds"],
        note=_notes(table, reference),
    )
    table["p_holm"] = corrected(table, names)
    return table[[*names, *SUMMARY]]


def corrected(table: pd.DataFrame, names: Iterable[str], p: str = "p") -> pd.Series[float]:
    """Holm's correction, in which a test counts once, however many recipes it stands beside.

    Before fine-tuning, cells that differ in its recipe are the same networks.

    Parameters
    ----------
    table : rows with these names, `difference_points`, `accuracy` and the p values.
    names : columns that identify a row.
    p : column of the p values.
    """
    figures = table[[p, "difference_points", "accuracy"]].round(_DECIMALS)
    apart = [table[name] for name in names if name not in FINETUNING]
    apart += [figures[name] for name in figures]
    test = table.groupby(apart, dropna=False).ngroup()
    return test.map(holm(table[p].groupby(test).first()))


def images_of(split: str) -> str:
    """The column with the number of images that gave the accuracies of a split."""
    return f"{split}_images"


def no_comparison(names: Iterable[str]) -> pd.DataFrame:
    """What `summarise` returns where there is nothing to compare: columns and no row."""
    kinds = dict.fromkeys(names, "object") | {name: _TYPES.get(name, "float64") for name in SUMMARY}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})


def _notes(table: pd.DataFrame, reference: str) -> pd.Series[str]:
    several, none = table["seeds"] > 1, table["seeds"] == 0
    flat = several & (table["deviation_points"] / 100 <= NO_SPREAD)
    nothing = flat & (table["difference_points"].abs() / 100 <= NO_SPREAD)
    said = np.select(
        [
            ~table["ran"],
            none & table["unevaluated"],
            none,
            table["seeds"] == 1,
            nothing,
            flat,
        ],
        [
            f"{reference}{NOT_RUN}",
            NOT_EVALUATED,
            "no seed in which both cells are ok",
            "one seed: no interval",
            "no difference in any seed: no interval",
            "the same difference in every seed: no interval",
        ],
        default="",
    )
    return pd.Series(said, index=table.index, dtype="str")
