"""Accuracy against cost, and the networks that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.analysis.pareto import FRONT, Cost, pareto
from results.analysis.study import PROCEDURE, STUDY
from results.analysis.sweep_tables import SweepTables
from results.figures.accuracy import legend_below, stage_words
from results.figures.front import metric_handles
from results.figures.panels import (
    comparable,
    grid,
    outer,
    procedure_order,
    procedure_words,
    rule_words,
    scope_order,
    set_title,
    titled_study,
    varied_words,
)
from results.figures.registry import report_figure
from results.figures.style import FAINT, INK, SOFT, Look, looks, said, styled
from results.storage.schema import UNPRUNED

Fill = Literal["full", "none", "left", "right", "bottom", "top"]
# The cost, its unit, and how many of what is stored make one.
_COSTS: dict[Cost, tuple[str, float]] = {
    "parameters": ("parameters, thousands", 1e3),
    "macs": ("multiply-accumulates per image, millions", 1e6),
    "latency_1_ms": ("latency at batch 1, ms per image", 1),
    "latency_256_ms": ("latency at batch 256, ms per image", 1),
}
_FRONT = [*FRONT]
_RULE = ["scope", "budget", "normalisation"]
_FLOORS = [name for name in STUDY if name not in FRONT]
_STUDY = [name for name in FRONT if name not in PROCEDURE]
_LETTERS = 42
_WIDTH, _HEIGHT, _COLUMNS = 3.1, 2.6, 4
_FILLS: tuple[Fill, ...] = ("full", "none", "left", "right", "bottom", "top")
_FILL_WORDS = ("filled", "hollow", "left half", "right half", "lower half", "upper half")
_MACHINE = ["device", "threads"]


@styled
def pareto_fronts(frame: pd.DataFrame, at: str = "finetuned", split: str = "test") -> Figure:
    """Accuracy against parameters, multiply-accumulates and measured latency.

    A line of panels for each data set, network, training, choice of channel groups, compensation
    and schedule, and for latencies a panel for each device. Networks on the Pareto front have the
    colour and marker of their metric and a line through them; all others are grey. Markers are
    filled by the budget and normalisation, and by the floor (`min_channels`,
    `min_channels_fraction`, `round_to`), where these vary on the fronts; what comes after the fifth
    of these has the sixth fill. The diamond is the unpruned network.

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
    names = [*_RULE, *_competing_floors(cells)]
    rules = _rules(pd.concat([rows for _, rows in drawn]), cells, names)
    fills = {rule: _FILLS[min(at, len(_FILLS) - 1)] for at, rule in enumerate(rules.values())}
    metrics = looks(cells["metric"])
    on_front = {name for _, rows in drawn for name in rows.loc[rows["on_front"], "metric"]}
    handles = metric_handles({name: look for name, look in metrics.items() if name in on_front})
    for handle in handles:
        handle.set_linestyle("none")
    fewer = any((rows["note"] != "").any() for _, rows in drawn)
    others = "another is better in both" + ", or fewer seeds" * fewer
    control = Line2D([], [], linestyle="none", marker="D", color=INK, label=UNPRUNED)
    other = Line2D([], [], linestyle="none", marker="o", color=SOFT, label=others)
    handles += [*_fill_handles(fills), control, other]
    columns = _columns([rows for _, rows in drawn])
    figure, axes = grid(len(drawn), _WIDTH, _HEIGHT, columns)
    for (cost, rows), place in zip(drawn, axes, strict=True):
        named = _keys(rows, names).map(rules)
        _panel(place, rows.assign(fill=named.map(fills)), cost, metrics)
        first = rows.iloc[0]
        words = [*titled_study(first, cells, _STUDY), *procedure_words(first, cells)]
        set_title(place, ", ".join(words), _WIDTH - 0.5)
    stage = stage_words(at, pd.concat([rows for _, rows in drawn]))
    outer(axes, y=f"{split} accuracy, %\n{stage}")
    legend_below(figure, handles, free=0)
    return figure


def _table(frame: pd.DataFrame, cost: Cost, at: str, split: str) -> pd.DataFrame:
    if cost not in frame or frame[cost].isna().all():
        return pd.DataFrame()
    return pareto(frame, cost, at, split)


def _groups(table: pd.DataFrame) -> list[pd.DataFrame]:
    names = [*_FRONT, *(name for name in _MACHINE if name in table)]
    groups = [rows for _, rows in table.groupby(names, dropna=False)]
    return [rows for rows in groups if (rows["metric"] != UNPRUNED).any()]


def _columns(drawn: Sequence[pd.DataFrame]) -> int:
    """Columns such that no front is broken, if they all have as many panels."""
    fronts = [tuple(map(str, rows[_FRONT].iloc[0])) for rows in drawn]
    counts = {fronts.count(front) for front in fronts}
    most = max(counts)
    return _COLUMNS // most * most if len(counts) == 1 and most <= _COLUMNS else _COLUMNS


def _competing_floors(cells: pd.DataFrame) -> list[str]:
    """The columns of the floor in which networks of one front differ."""
    counts = cells.groupby(_FRONT, dropna=False)[_FLOORS].nunique(dropna=False)
    return [name for name in _FLOORS if (counts[name] > 1).any()]


def _rules(
    drawn: pd.DataFrame, cells: pd.DataFrame, names: list[str]
) -> dict[tuple[str, ...], str]:
    """The budgets, normalisations and floors on the fronts in words, the usual ones first.

    Parameters
    ----------
    names : columns that tell them apart, those of the floor last.
    """
    found = drawn[drawn["on_front"] & (drawn["metric"] != UNPRUNED)]
    found = found.drop_duplicates(names).reset_index(drop=True)
    floors = names[len(_RULE) :]
    found = found.sort_values(floors, kind="stable") if floors else found
    rows = sorted((row for _, row in found.iterrows()), key=scope_order)
    keys = _keys(found, names)
    return {
        keys[row.name]: ", ".join([*rule_words(row, cells), *varied_words(row, cells, floors)])
        for row in rows
    }


def _keys(rows: pd.DataFrame, names: list[str]) -> pd.Series:
    """A rule and floor as words, for each row; the same whatever the types of the columns."""
    floors = [name for name in names if name in _FLOORS]
    known = rows[names].astype(dict.fromkeys(floors, "float64")).astype(str)
    return known.apply(tuple, axis="columns")


def _fill_handles(fills: dict[str, Fill]) -> list[Line2D]:
    """Entries of the legend for the budgets, if there are several."""
    if len(fills) < 2:
        return []
    by_fill = {fill: [rule for rule in fills if fills[rule] == fill] for fill in _FILLS}
    return [
        Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            color=INK,
            fillstyle=fill,
            label=f"{words}: {' or '.join(by_fill[fill])}",
        )
        for fill, words in zip(_FILLS, _FILL_WORDS, strict=True)
        if by_fill[fill]
    ]


def _order(row: pd.Series) -> tuple[str, ...]:
    return *row[_STUDY].map(str), *procedure_order(row)


def _panel(axes: Axes, rows: pd.DataFrame, cost: Cost, metrics: dict[str, Look]) -> None:
    words, unit = _COSTS[cost]
    if cost.startswith("latency"):
        first = rows.iloc[0]
        threads = f"{first['threads']} thread{'' if first['threads'] == 1 else 's'}"
        words = "\n".join([words, *wrap(f"{first['device']}, {threads}", _LETTERS)])
    axes.set_xlabel(words)
    x, y = rows[cost] / unit, 100 * rows["accuracy"]
    front, unpruned = rows["on_front"].astype(bool), rows["metric"] == UNPRUNED
    beaten = ~front & ~unpruned
    (grey,) = axes.plot(x[beaten], y[beaten], linestyle="none", marker="o", color=SOFT)
    grey.set(markersize=3, gid="beaten")
    axes.plot(x[front], y[front], color=FAINT, linewidth=1, drawstyle="steps-post", gid="front")
    for at, (metric, look) in enumerate(metrics.items()):
        own = front & (rows["metric"] == metric)
        for fill, points in rows[own].groupby("fill"):
            (dots,) = axes.plot(x[points.index], y[points.index], linestyle="none")
            dots.set(marker=look.marker, color=look.colour, markersize=5.5, fillstyle=fill)
            dots.set(label=metric, zorder=3, gid=f"metric{at}-front")
    axes.plot(x[unpruned], y[unpruned], linestyle="none", marker="D", color=INK, markersize=5)
    axes.set_xlim(left=0)


@report_figure(
    "pareto",
    "Accuracy against cost",
    "Mean accuracy over parameters, multiply-accumulates and, where measured, latency. "
    "Coloured points are on the Pareto front: no other network costs no more and is at "
    "least as accurate. Budgets compete with one another; a marker's fill tells them apart. "
    "Fronts are made of means; they know nothing of intervals.",
    position=30,
)
def _in_report(tables: SweepTables) -> Figure:
    return pareto_fronts(tables.frame)
