"""What each step of an iterative schedule left and reached."""

from __future__ import annotations

import pandas as pd

from results.analysis.sweep_tables import SweepTables
from results.figures.panels import comparable, panels
from results.formatting import DASH, number, percent
from results.report.tables import Entry, Table
from results.storage.schema import ONE_SHOT

_MEANS = ("finetuned_test_top1", "pruned_test_top1", "parameter_ratio", "macs_ratio")


def steps(tables: SweepTables) -> list[Table]:
    """A table for each setting with an iterative schedule: metrics and ratios by steps.

    An entry is the test accuracy after the step's fine-tuning, with that before it and the
    fractions of parameters and multiply-accumulates that are left: means over the seeds.

    Raises
    ------
    ValueError
        As `results.figures.panels.comparable`.
    """
    if (tables.frame["schedule"].fillna(ONE_SHOT) == ONE_SHOT).all():
        return []
    cells = comparable(tables.frame)
    cells = cells[cells["schedule"] != ONE_SHOT]
    full = cells[["key", "parameters_full", "macs_full"]].drop_duplicates("key")
    told = tables.steps.merge(full, on="key")
    told = told.assign(
        parameter_ratio=told["parameters"] / told["parameters_full"],
        macs_ratio=told["macs"] / told["macs_full"],
    )
    made = []
    for panel in panels(cells):
        own = told[told["key"].isin(panel.rows["key"])]
        means = own.groupby(["metric", "ratio", "step"])[list(_MEANS)].mean()
        numbers = sorted(own["step"].unique())
        lines = tuple(
            (
                Entry(str(metric)),
                Entry(f"{ratio:g}"),
                *(_entry(rows.droplevel(["metric", "ratio"]), step) for step in numbers),
            )
            for (metric, ratio), rows in means.groupby(["metric", "ratio"])
        )
        if lines:
            heads = ("metric", panel.target, *(f"step {step}" for step in numbers))
            made.append(Table(panel.title, heads, lines))
    return made


def _entry(rows: pd.DataFrame, step: int) -> Entry:
    if step not in rows.index:
        return Entry(DASH)
    row = rows.loc[step]
    size = f"parameters {number(row['parameter_ratio'])}, MACs {number(row['macs_ratio'])}"
    return Entry(percent(row[_MEANS[0]]), f"pruned {percent(row[_MEANS[1]])}", size)
