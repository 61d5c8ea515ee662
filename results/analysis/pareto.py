"""Which pruned networks no other beats in both accuracy and cost."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from results.analysis.intervals import over_seeds
from results.analysis.scratch import beside_scratch
from results.analysis.study import (
    BASELINE,
    GROUPING,
    PROCEDURE,
    SETTING,
    STUDY,
    TRAINED_STUDY,
    figures,
)
from results.storage.schema import UNPRUNED

Cost = Literal["parameters", "macs", "latency_1_ms", "latency_256_ms"]

_FULL: dict[str, str] = {
    "parameters": "parameters_full",
    "macs": "macs_full",
    "latency_1_ms": "latency_full_1_ms",
    "latency_256_ms": "latency_full_256_ms",
}
_MACHINE = ("device", "threads")
_LEFT = ("parameter_ratio", "macs_ratio")

FRONT = (*TRAINED_STUDY, *GROUPING, *PROCEDURE)
"""Columns in which all points of a front agree. Floors compete with one another, and budgets."""


def pareto(
    frame: pd.DataFrame, cost: Cost = "parameters", at: str = "finetuned", split: str = "test"
) -> pd.DataFrame:
    """Accuracy against cost, and which points no other point beats.

    Parameters
    ----------
    frame : what `load` returned.
    cost : parameters; macs, multiply-accumulates per image; latency_1_ms or latency_256_ms, the
        median milliseconds per image at batch 1 or 256.
    at : pruned, compensated (cells without compensation are left out), recalibrated or finetuned.
    split : test, or validation for anything that is to be chosen.

    Returns
    -------
    DataFrame, one row for each study, point of the grid and metric, and one for the `unpruned`
    baseline of each study, compensation and schedule that is run there (scope, budget,
    normalisation and ratio_of missing, ratio 1); for latencies one for each device and number of
    threads, with columns that name them. `accuracy` (mean over the seeds, a fraction) with the ends
    `low` and `high` of its 95 % t interval, the name of the cost (mean over the seeds),
    `parameter_ratio` and `macs_ratio` (what is left of the parameters and multiply-accumulates,
    fractions), `seeds`, `on_front`: no other point of the same data set, network, trainings,
    channel groups, compensation and schedule (and device) costs no more and is at least as
    accurate, one of the two strictly. Floors compete with one another. `note` marks points of fewer
    seeds than other points have: they compete with none, since one lucky seed would win. Where
    `weights` is not missing, all seeds start from the weights of one file: the interval then says
    how much fine-tuning and seeded metrics vary, not how much networks vary.

    Raises
    ------
    ValueError
        If the cost is unknown or was not recorded, or as `results.paired_difference`.
    """
    if cost not in _FULL:
        raise ValueError(f"cost={cost!r} is unknown; allowed: {', '.join(_FULL)}")
    if at == "baseline":
        raise ValueError("at='baseline' is no pruned network; it is among the points anyway")
    # Latencies of different machines are no figures of one kind.
    machine = list(_MACHINE) if cost.startswith("latency") else []
    front = [*FRONT, *machine]
    pruned = figures(frame, at, split, [cost, *machine]).rename(columns={cost: "cost"})
    full = beside_scratch(figures(frame, "baseline", split, [_FULL[cost], *machine]))
    full = full.rename(columns={_FULL[cost]: "cost"})
    full = full[full["compensation"].isin(pruned["compensation"])]
    # A baseline's latency is measured anew for each of its cells. Its accuracy is the same in all,
    # and the mean of equal numbers can differ from them in the last digit: then no tie is one.
    full = full.groupby([*front, *BASELINE], dropna=False).agg(
        {"accuracy": "median", "cost": "mean"}
    )
    # A seed may have been trained twice, such as on two machines.
    full = full.groupby([*front, "seed"], dropna=False).mean()
    full = full.reset_index().assign(metric=UNPRUNED, ratio=1.0, **dict.fromkeys(_LEFT, 1.0))
    point = [*SETTING, "metric", "ratio"]
    table = pd.concat(
        [
            _points(beside_scratch(pruned), [*STUDY, *machine, *point]),
            _points(full, [*front, "metric", "ratio"]),
        ],
        ignore_index=True,
    )
    unpruned = table["metric"] == UNPRUNED
    groups = table.assign(cut=table["seeds"].mask(unpruned)).groupby(front, dropna=False)["cut"]
    most = groups.transform("max").fillna(0).astype("int64")
    whole = unpruned | (table["seeds"] == most)
    few = table["seeds"].astype(str) + " of " + most.astype(str) + " seeds: not compared"
    on_front = _on_front(table[whole], front).reindex(table.index, fill_value=False)
    table = table.assign(on_front=on_front, note=few.mask(whole, ""))
    table = table.sort_values([*front, "cost", "accuracy"], ignore_index=True)
    columns = [*STUDY, *machine, *point, "cost", *_LEFT, "accuracy", "low", "high", "seeds"]
    return table[[*columns, "on_front", "note"]].rename(columns={"cost": cost})


def _points(cells: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    cells = cells.dropna(subset=["accuracy", "cost"]).astype({"cost": float})
    return over_seeds(
        cells,
        names,
        "accuracy",
        cost=("cost", "mean"),
        parameter_ratio=("parameter_ratio", "mean"),
        macs_ratio=("macs_ratio", "mean"),
    ).rename(columns={"mean": "accuracy"})


def _on_front(points: pd.DataFrame, front: list[str]) -> pd.Series[bool]:
    """Whether no other point of the group costs no more and is at least as accurate."""
    ordered = points.sort_values(["cost", "accuracy"], ascending=[True, False])
    best = ordered.groupby(front, dropna=False)["accuracy"].cummax()
    before = ordered.assign(best=best).groupby(front, dropna=False)["best"].shift()
    better = ordered["accuracy"] > before.fillna(-np.inf)
    # Points that are equal in both stand and fall together.
    alike = ordered.assign(better=better).groupby([*front, "cost", "accuracy"], dropna=False)
    return alike["better"].transform("max")
