"""Accuracy against what is left of the parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.analysis.accuracy import accuracy_table
from results.analysis.study import NOT_TUNED, TUNED, macs_ratio, was_finetuned
from results.analysis.sweep_tables import SweepTables
from results.figures.front import (
    any_grey,
    coloured,
    grey_handle,
    known,
    legend_room,
    metric_handles,
    name_coloured,
    panel_looks,
)
from results.figures.macs import left_words, titled
from results.figures.panels import (
    LETTER,
    PANEL,
    Panel,
    columns_of,
    comparable,
    grid,
    outer,
    panels,
)
from results.figures.registry import report_figure
from results.figures.style import FAINT, INK, PAPER, REST, Look, looks, said, styled

_WIDTH, _SHADE = 4.1, 0.12
_MARKER = 0.03
"""Room for half of a marker, as a part of an axis."""
_LINE = 0.19
"""Inches of a line of the legend."""
_SPAN = 0.1
"""The least width of the axis of a single ratio."""
_STAGE_WORDS = {
    "baseline": "of the unpruned network",
    "pruned": "after pruning",
    "compensated": "after compensation",
    "recalibrated": "after recalibration",
    "finetuned": TUNED,
}


@styled
def accuracy(
    frame: pd.DataFrame,
    at: str = "finetuned",
    split: str = "test",
    forward: Sequence[str] = (),
) -> Figure:
    """Mean top-1 accuracy of each metric over the achieved ratio of what the budget counts.

    A panel for each study and setting; the axis is the achieved ratio of multiply-accumulates where
    the target ratio counts these, and else the achieved ratio of parameters. The band is the 95 % t
    interval of the mean over the seeds, from the smaller to the larger value where there are two
    seeds, and absent for one; what of it lies beyond the axes is cut off. The dashed line is the
    mean of the unpruned networks. A hollow point has a channel group at its floor in at least one
    seed. Under the title is what the metrics leave of the multiply-accumulates, or of the
    parameters where the ratio counts multiply-accumulates, at the smallest and the largest ratio.
    If all seeds start from the weights of one file, the band says how much fine-tuning and seeded
    metrics vary, not how much networks vary.

    Where there are more than six metrics, each panel shows its best three (highest mean over the
    ratios, or over those that all metrics share if fewer than three have all), `random`, `scratch`
    and `output_l1` in colour and names them; all others are grey and have no band.

    Parameters
    ----------
    frame : what `results.load` returned; only cells that are ok count.
    at, split : see `results.accuracy_table`.
    forward : metrics that every panel shows in colour and thick.

    Raises
    ------
    ValueError
        If `forward` names a metric that has no cell, or as `results.accuracy_table`.
    """
    cells = comparable(frame)
    known(cells["metric"], forward)
    points = accuracy_points(cells, at, split)
    if points.empty:
        return said("No cell is ok, so there is no accuracy to draw.")
    found = [panel for panel in panels(cells) if len(panel.of(points))]
    metrics = looks(cells["metric"])
    drawn = [panel.of(points) for panel in found]
    shown = [coloured(own, forward) for own in drawn]
    named = any_grey(shown, drawn)
    height = 3.1 + (legend_room(shown) if named else 0)
    figure, axes = grid(len(found), _WIDTH, height, columns_of(found))
    for panel, own, names, place in zip(found, drawn, shown, axes, strict=True):
        _panel(place, own, panel.rows, panel_looks(metrics, names, forward), split)
        ratios = own["ratio"]
        ends = list(dict.fromkeys([ratios.min(), ratios.max()]))
        titled(place, panel.title, left_words(panel.rows, ends), _WIDTH - 0.5)
    label_sizes(axes, found)
    if named:
        name_coloured(axes, metrics, shown)
    outer(axes, y=f"{split} accuracy, %\n{stage_words(at, points)}")
    curves_legend(figure, points, metrics)
    return figure


def stage_words(at: str, shown: pd.DataFrame) -> str:
    """What the accuracies of a stage are called on an axis.

    Parameters
    ----------
    shown : rows with the columns of a study, of all that the figure shows.
    """
    if at == "finetuned" and not was_finetuned(shown).any():
        return NOT_TUNED
    return _STAGE_WORDS[at]


def accuracy_points(cells: pd.DataFrame, at: str, split: str) -> pd.DataFrame:
    """What is drawn: the table of accuracies with `x`, and the band in `low` and `high`.

    Returns
    -------
    DataFrame, one row for each panel, metric and ratio: `x` is the mean achieved ratio of
    multiply-accumulates where the ratio counts these, and else of parameters, since a budget may
    miss its target; `low` and `high` bound the band, NaN without one.
    """
    names = [*PANEL, "metric", "ratio"]
    table = accuracy_table(cells, at, split)
    by_macs = cells["ratio_of"] == "macs"
    left = cells["parameter_ratio"].astype(float).mask(by_macs, macs_ratio(cells))
    spread = (
        cells.assign(left=left)
        .groupby(names, dropna=False)
        .agg(
            x=("left", "mean"),
            least=(f"{at}_{split}_top1", "min"),
            most=(f"{at}_{split}_top1", "max"),
        )
    )
    table = table.merge(spread.reset_index(), on=names, how="left")
    # A t interval of two values is thirteen times as wide as they lie apart.
    two = table["seeds"] == 2
    return table.assign(
        x=table["x"].fillna(table["ratio"]),
        low=table["low"].where(~two, table["least"]),
        high=table["high"].where(~two, table["most"]),
    ).drop(columns=["least", "most"])


def label_sizes(axes: list[Axes], found: list[Panel]) -> None:
    """Labels the axes of sizes; each of them, if they are not all of one kind."""
    words = ["MACs ratio" if panel.ratio_of == "macs" else "parameter ratio" for panel in found]
    if len(set(words)) == 1:
        outer(axes, words[0])
        return
    for place, label in zip(axes, words, strict=True):
        place.set_xlabel(label)


def _panel(
    axes: Axes, points: pd.DataFrame, rows: pd.DataFrame, metrics: dict[str, Look], split: str
) -> None:
    for at, (metric, look) in enumerate(metrics.items()):
        line = points[points["metric"] == metric].sort_values("x")
        if len(line):
            curve(axes, line, look, f"metric{at}").set_label(metric)
    unpruned_line(axes, points["mean"], rows, split)
    widen(axes, points["ratio"])


def widen(axes: Axes, ratios: pd.Series) -> None:
    """Makes the axis of sizes at least 0.1 wide if there is a single target ratio.

    Else it would show how little budgets miss the ratio by.
    """
    if ratios.min() == ratios.max():
        low, high = axes.get_xlim()
        room = max(_SPAN - (high - low), 0) / 2
        axes.set_xlim(low - room, high + room)


def curve(axes: Axes, line: pd.DataFrame, look: Look, name: str) -> Line2D:
    """Draws a metric's points from left to right, with its band, and returns the line.

    The band of a grey curve is there, but invisible: a page shows it when the curve is brought
    forward.

    Parameters
    ----------
    line : rows of `accuracy_points`, ordered by `x`.
    name : begins the ids of what is drawn.
    """
    grey = look.colour == REST
    x, y = line["x"].to_numpy(float), 100 * line["mean"].to_numpy(float)
    (drawn,) = axes.plot(x, y, color=look.colour, linestyle=look.dash or "-", linewidth=look.width)
    drawn.set(gid=f"{name}-line", zorder=1.5 if grey else 2)
    floor = line["collapsed"].to_numpy(int) > 0
    for kind, where, face in (("dots", ~floor, look.colour), ("collapsed", floor, PAPER)):
        (dots,) = axes.plot(x[where], y[where], linestyle="none", marker=look.marker)
        dots.set(markersize=look.size, markeredgewidth=1.1, color=look.colour)
        dots.set(markerfacecolor=face, zorder=1.6 if grey else 3, gid=f"{name}-{kind}")
    if line["low"].notna().any():
        low, high = 100 * line["low"].to_numpy(float), 100 * line["high"].to_numpy(float)
        band = axes.fill_between(x, low, high, color=look.colour, linewidth=0)
        band.set(alpha=0 if grey else _SHADE, gid=f"{name}-band")
    return drawn


def unpruned_line(axes: Axes, means: pd.Series, rows: pd.DataFrame, split: str) -> None:
    """Draws the accuracy of the unpruned networks, and makes room for it and for all means."""
    unpruned = rows.drop_duplicates("baseline_key")[f"baseline_{split}_top1"].mean()
    if pd.notna(unpruned):
        control = axes.axhline(100 * unpruned, color=INK, linewidth=1, zorder=1)
        control.set(linestyle=(0, (6, 3)), label="unpruned")
    axes.set_ylim(*_limits(100 * means, 100 * unpruned))


def _limits(means: pd.Series, unpruned: float) -> tuple[float, float]:
    """Room for all means and some for their bands; those of few seeds can be enormous."""
    least, most = np.nanmin([means.min(), unpruned]), np.nanmax([means.max(), unpruned])
    room = max(0.12 * (most - least), 0.5)
    # A point at 0 % or 100 % must not lie half outside the axes.
    marker = _MARKER * (most - least + room)
    low = max(least - room, min(least - marker, 0.0))
    return low, min(most + room, max(most + marker, 100.5))


def curves_legend(
    figure: Figure, points: pd.DataFrame, metrics: dict[str, Look], others: Iterable[Line2D] = ()
) -> None:
    """Puts the legend of curves below all panels: metrics, others, and what all figures share.

    Metrics that the panels name themselves are left out.
    """
    named = any(place.get_legend() for place in figure.axes)
    found = [grey_handle("grey: all other metrics")] if named else metric_handles(metrics)
    found += others
    found.append(Line2D([], [], color=INK, linewidth=1, linestyle=(0, (6, 3)), label="unpruned"))
    if points["collapsed"].gt(0).any():
        hollow = Line2D([], [], color=FAINT, linestyle="none", marker="o", markersize=4)
        hollow.set(markerfacecolor=PAPER, label="hollow: a channel group at its floor")
        found.append(hollow)
    if points["seeds"].max() == 1 or points["low"].notna().any():
        found.append(Line2D([], [], linestyle="none", label=_band_words(points["seeds"])))
    legend_below(figure, found)


def legend_below(figure: Figure, handles: list[Line2D], free: int = 2) -> None:
    """Puts a legend below all panels, in as many columns as there is room for.

    Parameters
    ----------
    free : lines of a legend that the figure, as `grid` made it, has room for below its panels. It
        becomes higher by the others.
    """
    for handle in handles:
        handle.set_markersize(4)
    columns = legend_columns(handles, figure.get_figwidth())
    lines = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + _LINE * max(lines - free, 0))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def legend_columns(handles: list[Line2D], width: float) -> int:
    """Columns of a legend below a figure of so many inches."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    return max(1, min(int(width / (LETTER * longest + 0.7)), 5))


def _band_words(seeds: pd.Series) -> str:
    if seeds.max() == 1:
        return "one seed: no intervals"
    if seeds.max() == 2:
        return "band: between the two seeds"
    return "band: 95 % t interval, cut at the axes"


@report_figure(
    "accuracy",
    "Accuracy against size",
    "Mean top-1 accuracy on the test images, at the stage that the axis names, over the achieved "
    "ratio of parameters, or of multiply-accumulates (MACs) where the budget counts these. Of more "
    "than six metrics, a panel shows its best three, random, scratch and output_l1 in colour. "
    "Bands are 95 % t intervals of the mean over the seeds; with two seeds they reach from one to "
    "the other. A hollow point has a channel group at its floor in at least one seed. The dashed "
    "line is the unpruned network. Under each title is the range of MACs that the metrics leave.",
    position=10,
)
def _in_report(tables: SweepTables) -> Figure:
    return accuracy(tables.frame)
