"""Accuracy against cost, and the networks that no other beats in both."""

from __future__ import annotations

import math
from textwrap import wrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.analysis.pareto import FRONT, Cost, pareto
from results.analysis.study import PROCEDURE
from results.analysis.sweep_tables import SweepTables
from results.figures.accuracy import STAGE_WORDS, legend_below, metric_handles
from results.figures.panels import (
    comparable,
    even_columns,
    grid,
    outer,
    procedure_order,
    procedure_words,
    set_title,
    titled_study,
)
from results.figures.registry import report_figure
from results.figures.style import FAINT, INK, SOFT, Look, looks, said, styled
from results.storage.schema import UNPRUNED

# The cost, its unit, and how many of what is stored make one.
_COSTS: dict[Cost, tuple[str, float]] = {
    "parameters": ("parameters, thousands", 1e3),
    "macs": ("multiply-accumulates per image, millions", 1e6),
    "latency_1_ms": ("latency at batch 1, ms per image", 1),
    "latency_256_ms": ("latency at batch 256, ms per image", 1),
}
_FRONT = [*FRONT]
_STUDY = [name for name in FRONT if name not in PROCEDURE]
_LINE = 50
_WIDTH = 4.1
_MACHINE = ["device", "threads"]


@styled
def pareto_fronts(frame: pd.DataFrame, at: str = "finetuned", split: str = "test") -> Figure:
    """Accuracy against parameters, multiply-accumulates and measured latency.

    A line of panels for each data set, network, training, choice of channel groups, compensation
    and schedule, and for latencies a panel for each device. Networks on the Pareto front have the
    colour of their metric and a line through them; all others are grey. The diamond is the unpruned
    network.

    Parameters
    ----------
    frame : what `results.load` returned; only cells that are ok count. Costs that were not
        recorded have no panel.
    at, split : see `results.pareto`.
    """
    cells = comparable(frame)
    tables = {cost: found for cost in _COSTS if len(found := _table(frame, cost, at, split))}
    drawn = [(cost, rows) for cost, table in tables.items() for rows in _groups(table)]
    if not drawn:
        return said("No cell is ok, so there is no accuracy to set against its cost.")
    drawn.sort(key=lambda panel: _order(panel[1].iloc[0]))
    lines = len({tuple(map(str, rows[_FRONT].iloc[0])) for _, rows in drawn})
    columns = even_columns(math.ceil(len(drawn) / lines))
    figure, axes = grid(len(drawn), _WIDTH, 3.0, columns)
    metrics = looks(cells["metric"])
    for (cost, rows), place in zip(drawn, axes, strict=True):
        _panel(place, rows, cost, metrics)
        first = rows.iloc[0]
        words = [*titled_study(first, cells, _STUDY), *procedure_words(first, cells)]
        set_title(place, ", ".join(words), _WIDTH - 0.5)
    outer(axes, y=f"{split} accuracy, %\n{STAGE_WORDS[at]}")
    on_front = {name for _, rows in drawn for name in rows.loc[rows["on_front"], "metric"]}
    handles = metric_handles({name: look for name, look in metrics.items() if name in on_front})
    for handle in handles:
        handle.set_linestyle("none")
    control = Line2D([], [], linestyle="none", marker="D", color=INK, label=UNPRUNED)
    other = Line2D(
        [], [], linestyle="none", marker="o", color=SOFT, label="another is better in both"
    )
    legend_below(figure, [*handles, control, other])
    return figure


def _table(frame: pd.DataFrame, cost: Cost, at: str, split: str) -> pd.DataFrame:
    if cost not in frame or frame[cost].isna().all():
        return pd.DataFrame()
    return pareto(frame, cost, at, split)


def _groups(table: pd.DataFrame) -> list[pd.DataFrame]:
    names = [*_FRONT, *(name for name in _MACHINE if name in table)]
    groups = [rows for _, rows in table.groupby(names, dropna=False)]
    return [rows for rows in groups if (rows["metric"] != UNPRUNED).any()]


def _order(row: pd.Series) -> tuple[str, ...]:
    return *row[_STUDY].map(str), *procedure_order(row)


def _panel(axes: Axes, rows: pd.DataFrame, cost: Cost, metrics: dict[str, Look]) -> None:
    words, unit = _COSTS[cost]
    if cost.startswith("latency"):
        first = rows.iloc[0]
        threads = f"{first['threads']} thread{'' if first['threads'] == 1 else 's'}"
        words = "\n".join([words, *wrap(f"{first['device']}, {threads}", _LINE)])
    axes.set_xlabel(words)
    x, y = rows[cost] / unit, 100 * rows["accuracy"]
    front, unpruned = rows["on_front"].astype(bool), rows["metric"] == UNPRUNED
    beaten = ~front & ~unpruned
    (grey,) = axes.plot(x[beaten], y[beaten], linestyle="none", marker="o", color=SOFT)
    grey.set(markersize=3, gid="beaten")
    axes.plot(x[front], y[front], color=FAINT, linewidth=1, drawstyle="steps-post", gid="front")
    for at, (metric, look) in enumerate(metrics.items()):
        own = front & (rows["metric"] == metric)
        (dots,) = axes.plot(x[own], y[own], linestyle="none", marker=look.marker)
        dots.set(color=look.colour, markersize=5.5, label=metric, zorder=3, gid=f"metric{at}-front")
    axes.plot(x[unpruned], y[unpruned], linestyle="none", marker="D", color=INK, markersize=5)
    axes.set_xlim(left=0)


@report_figure(
    "pareto",
    "Accuracy against cost",
    "Mean accuracy over parameters, multiply-accumulates and, where measured, latency. "
    "Coloured points are on the Pareto front: no other network costs no more and is at "
    "least as accurate. Fronts are made of means; they know nothing of intervals.",
    position=30,
)
def _in_report(tables: SweepTables) -> Figure:
    return pareto_fronts(tables.frame)
