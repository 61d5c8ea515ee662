"""What compensation adds to the accuracy of pruned networks.

Compensation changes the weights behind removed channels, so that their outputs stay as close as
they can be. The network without it has the same channels if it is pruned at once; if it is pruned
in steps, the second and later steps score networks with and without compensation. Every difference
here is one between two networks of one baseline, metric, budget, schedule and ratio.
"""

from __future__ import annotations

import pandas as pd

from results.analysis.comparison import SUMMARY, images_of, summarise
from results.analysis.intervals import over_seeds
from results.analysis.study import (
    BASELINE,
    POINT,
    RULE,
    STUDY,
    accuracy_column,
    figures,
    was_finetuned,
)
from results.storage.schema import NO_COMPENSATION

REFERENCE_STAGE = {
    "compensated": "pruned",
    "recalibrated": "recalibrated",
    "finetuned": "finetuned",
}
"""The stage of the network without compensation that a stage is compared with if none is named."""

_SHARED = (*STUDY, *RULE, "schedule", "ratio", "metric")
_PLACE = (*STUDY, *POINT)
_STAGES = ("stage", "reference_stage")
_MEAN = (
    *("difference_points", "deviation_points", "low_points", "high_points"),
    *("seeds", "metrics", "left_out", "accuracy", "accuracy_reference"),
)


def compensation_gain(
    frame: pd.DataFrame,
    at: str = "recalibrated",
    reference_at: str | None = None,
    split: str = "test",
) -> pd.DataFrame:
    """Accuracy with compensation minus that without, for each metric, paired by the baseline.

    Parameters
    ----------
    frame : the frame that `results.load` returned.
    at : compensated, recalibrated or finetuned: the stage of the network with compensation.
    reference_at : the stage of the network without; pruned for compensated and else the same, if
        not given. `at="compensated", reference_at="recalibrated"` asks whether compensation does
        more than re-estimating batch normalisation.
    split : test; use validation to choose something.

    Returns
    -------
    DataFrame, one row for each study, point of the grid (`POINT` of `results.analysis.study`) and
    metric, with the two stages (`stage`, `reference_stage`) and the columns of
    `results.paired_difference` from `difference_points` on; the reference is the network without
    compensation. `p_holm` is corrected over the rows of this frame. Networks that are not
    fine-tuned have no row at `finetuned`. Where `weights` is not missing, all seeds start from the
    weights of one file: intervals then say how much metrics and fine-tuning with a seed vary, not
    how much networks vary.

    Raises
    ------
    ValueError
        If there is no such stage, or as `results.paired_difference`.
    """
    reference_at = _reference(at, reference_at)
    cells, others = _arms(frame, at, reference_at, split)
    without = "the network without compensation"
    table = summarise(cells, others, _SHARED, ["compensation"], without, split)
    table = table.assign(stage=at, reference_stage=reference_at)
    return table[[*_PLACE, "metric", *_STAGES, *SUMMARY]]


def mean_compensation_gain(
    frame: pd.DataFrame,
    at: str = "recalibrated",
    reference_at: str | None = None,
    split: str = "test",
) -> pd.DataFrame:
    """Accuracy with compensation minus that without, averaged over the metrics.

    The difference is averaged over the metrics of each seed; the interval is that of these means
    over the seeds. Only metrics that have a pair in every seed count, so that all means are of the
    same metrics.

    Parameters
    ----------
    frame, at, reference_at, split : see `compensation_gain`.

    Returns
    -------
    DataFrame, one row for each study and point of the grid that has a pair, with the two stages:
    `difference_points`, `deviation_points` (sample standard deviation over the seeds), `low_points`
    and `high_points`, the ends of the 95 % t interval (NaN for one seed and for equal values), all
    in percentage points; `seeds`; `metrics`, the number of metrics in the mean, and `left_out`,
    that of metrics which lack a pair in some seed; `accuracy` and `accuracy_reference`, the means
    of both sides, as fractions. About `weights` see `compensation_gain`.

    Raises
    ------
    ValueError
        As `compensation_gain`.
    """
    reference_at = _reference(at, reference_at)
    cells, others = _arms(frame, at, reference_at, split)
    place, baseline = list(_PLACE), list(BASELINE)
    named = [*_SHARED, *baseline]
    pairs = cells[[*named, "compensation", "accuracy"]].merge(
        others[[*named, "accuracy"]], "left", named, suffixes=("", "_reference")
    )
    paired = pairs["accuracy"].notna() & pairs["accuracy_reference"].notna()
    pairs = pairs.assign(baseline=pairs.groupby(baseline, dropna=False).ngroup().where(paired))
    own = pairs.groupby([*place, "metric"], dropna=False)["baseline"].transform("nunique")
    every = pairs.groupby(place, dropna=False)["baseline"].transform("nunique")
    left_out = pairs["metric"].where(own < every)
    pairs = pairs.assign(
        points=100 * (pairs["accuracy"] - pairs["accuracy_reference"]),
        left_out=left_out.groupby([pairs[name] for name in place], dropna=False).transform(
            "nunique"
        ),
    )
    means = {name: (name, "mean") for name in ("points", "accuracy", "accuracy_reference")}
    by_seed = pairs[paired & (own == every)].groupby([*place, *baseline], dropna=False)
    by_seed = by_seed.agg(**means, metrics=("metric", "nunique"), left_out=("left_out", "first"))
    others = {name: (name, "max") for name in ("metrics", "left_out")}
    others |= {name: means[name] for name in ("accuracy", "accuracy_reference")}
    table = over_seeds(by_seed.reset_index(), place, "points", 100, **others)
    points = {"mean": "difference_points", "deviation": "deviation_points"}
    points |= {"low": "low_points", "high": "high_points"}
    table = table.rename(columns=points).assign(stage=at, reference_stage=reference_at)
    return table[[*place, *_STAGES, *_MEAN]]


def compensation_name(compensation: str) -> str:
    """What a compensation is called in titles and tables."""
    return "no compensation" if compensation == NO_COMPENSATION else compensation


def _reference(at: str, reference_at: str | None) -> str:
    accuracy_column(at, "test")
    if at not in REFERENCE_STAGE:
        allowed = ", ".join(REFERENCE_STAGE)
        raise ValueError(f"at={at!r} is before compensation; allowed: {allowed}")
    if reference_at is None:
        return REFERENCE_STAGE[at]
    if reference_at not in (known := tuple(REFERENCE_STAGE.values())):
        raise ValueError(f"reference_at={reference_at!r} is unknown; allowed: {', '.join(known)}")
    return reference_at


def _arms(
    frame: pd.DataFrame, at: str, reference_at: str, split: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells with compensation, and those without; the latter lack the column for it."""
    cells = figures(frame, at, split, [images_of(split)])
    others = cells
    if reference_at != at:
        others = figures(frame, reference_at, split, [images_of(split)])
    if at == "finetuned":
        cells = cells[was_finetuned(cells)]
    cells = cells[cells["compensation"] != NO_COMPENSATION]
    others = others[others["compensation"] == NO_COMPENSATION]
    return cells, others.drop(columns="compensation")
