"""How far two metrics differ in networks that need equally many multiply-accumulates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results.analysis.comparison import SUMMARY, images_of, no_comparison, summarise
from results.analysis.scratch import beside_scratch
from results.analysis.study import (
    BASELINE,
    SETTING,
    STUDY,
    figures,
    known_metrics,
)

MACS_RATIOS = (0.1, 0.2, 0.3, 0.5, 0.7)
"""Fractions of the multiply-accumulates at which metrics are compared if none are named."""

_SETTING = (*STUDY, *SETTING)
_SHOWN = tuple(name for name in SUMMARY if not name.startswith("macs_ratio"))
# Not `macs_ratio`, which is a figure of each side of a comparison.
_PLACE = "compared_at"
_INTERPOLATED = ("accuracy", "parameter_ratio", "collapsed")


def at_equal_macs(
    frame: pd.DataFrame,
    metric: str | Sequence[str] | None,
    reference: str,
    macs_ratios: Iterable[float] = MACS_RATIOS,
    at: str = "finetuned",
    split: str = "test",
) -> pd.DataFrame:
    """Accuracy of metrics minus that of a reference, at equal multiply-accumulates.

    Networks of equal parameters may differ much in multiply-accumulates. Those of a budget that
    counts parameters were pruned to no number of these, so accuracies are interpolated: for each
    baseline, setting and metric, piecewise linearly in the logarithm of the MACs, between the
    networks of neighbouring ratios. Nothing is extrapolated, and nothing is interpolated across a
    cell that failed.

    Parameters
    ----------
    frame : the frame that `results.load` returned.
    metric : one, several, or None for all others in the frame.
    reference : the metric that is subtracted.
    macs_ratios : fractions of the unpruned network's MACs at which to compare.
    at : pruned, compensated (cells without compensation are left out), recalibrated or finetuned.
    split : test; use validation to choose something.

    Returns
    -------
    DataFrame as that of `results.paired_difference`, with `macs_ratio` in place of `ratio`: one row
    for each study, setting (`SETTING` of `results.analysis.study`), MACs ratio and metric.
    `parameter_ratio` is interpolated too. `collapsed` counts the pairs of which a neighbouring
    network has a channel group at its floor. Where one of the two metrics has no networks on both
    sides of a MACs ratio, `note` says so; `unpaired` counts the seeds of which this is true. Where
    `weights` is not missing, all seeds start from the weights of one file: intervals then say how
    much fine-tuning and seeded metrics vary, not how much networks vary.

    Raises
    ------
    ValueError
        If a MACs ratio is not in (0, 1], or as `results.paired_difference`.
    """
    if isinstance(macs_ratios, str) or not isinstance(macs_ratios, Iterable):
        raise ValueError(f"macs_ratios is {macs_ratios!r}; give a list, such as [0.3, 0.5]")
    ratios = list(macs_ratios)
    for value in ratios:
        if not isinstance(value, Real) or not 0 < value <= 1:
            raise ValueError(f"macs_ratios has {value}; allowed: numbers above 0, at most 1")
    grid = sorted(set(ratios))
    cells = beside_scratch(figures(frame, at, split, [images_of(split)]))
    wanted = [metric] if isinstance(metric, str) else metric
    if wanted is not None and reference in wanted:
        raise ValueError(f"{reference!r} is both metric and reference; its difference is 0")
    known_metrics(cells, [*(wanted or []), reference])
    names = cells["metric"].drop_duplicates() if wanted is None else [*wanted, reference]
    cells = _placed(cells[cells["metric"].isin(list(names))], images_of(split))
    shared = [*_SETTING, _PLACE]
    if not grid or not (cells["metric"] != reference).any():
        table = no_comparison([*shared, "metric"])
    else:
        points = _interpolated(cells, grid)
        other = points[points["metric"] == reference].drop(columns="metric")
        chosen = points[points["metric"] != reference]
        table = summarise(chosen, other, shared, ["metric"], reference, split)
    outside = (table["seeds"] == 0) & table["note"].str.startswith("no seed")
    table["note"] = table["note"].mask(outside, "outside the MACs that both metrics cover")
    table = table.assign(reference=reference)[[*shared, "metric", "reference", *_SHOWN]]
    return table.rename(columns={_PLACE: "macs_ratio"})


def _placed(cells: pd.DataFrame, images: str) -> pd.DataFrame:
    """The cells whose MACs are known, and failed ones between them; `curve` numbers their curves.

    A curve has a baseline, setting and metric. A cell that failed before its MACs were known is
    placed between the cells of the next smaller and the next larger ratio, so that nothing is
    interpolated across it; at an end of the curve it is left out.
    """
    curves = cells.groupby([*_SETTING, "metric", *BASELINE, images], dropna=False).ngroup()
    cells = cells.assign(curve=curves).sort_values(["curve", "ratio"])
    between = (
        np.log(cells["macs_ratio"])
        .groupby(cells["curve"])
        .transform(lambda values: values.interpolate(limit_area="inside"))
    )
    return cells.assign(macs_ratio=np.exp(between)).dropna(subset="macs_ratio")


def _interpolated(cells: pd.DataFrame, grid: Sequence[float]) -> pd.DataFrame:
    """A row for each curve of `_placed` and MACs ratio; NaN outside what the curve covers."""
    known = cells.astype(dict.fromkeys(_INTERPOLATED, float))
    # Two ratios may leave equally many MACs: then their mean counts.
    points = known.groupby(["curve", "macs_ratio"])[list(_INTERPOLATED)].mean()
    curves = known.drop_duplicates("curve").sort_values("curve")
    table = curves.drop(columns=["ratio", "macs_ratio", *_INTERPOLATED])
    table = table.loc[table.index.repeat(len(grid))].reset_index(drop=True)
    values = [_along(rows.droplevel("curve"), grid) for _, rows in points.groupby("curve")]
    found = pd.DataFrame(np.concatenate(values), columns=list(_INTERPOLATED))
    found["collapsed"] = found["collapsed"].gt(0).astype(float)
    never = known.groupby("curve")["unevaluated"].all().to_numpy()
    table["unevaluated"] = np.repeat(never, len(grid))
    places = np.tile(grid, len(curves))
    return table.assign(**dict(found.items()), macs_ratio=places, **{_PLACE: places})


def _along(points: pd.DataFrame, grid: Sequence[float]) -> NDArray[np.float64]:
    """The figures of one curve, [grid, figures], linear in the logarithm of its index."""
    at, known = np.log(grid), np.log(points.index.to_numpy(float))
    columns = points.to_numpy(float).T
    return np.stack([np.interp(at, known, one, np.nan, np.nan) for one in columns], axis=1)
