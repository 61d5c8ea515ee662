"""Accuracy against what is left of the parameters."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.analysis.accuracy import accuracy_table
from results.analysis.study import macs_ratio
from results.analysis.sweep_tables import SweepTables
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
from results.figures.style import FAINT, INK, PAPER, Look, looks, said, styled

_FEW = 8
_WIDTH = 4.1
STAGE_WORDS = {
    "baseline": "of the unpruned network",
    "pruned": "after pruning",
    "compensated": "after compensation",
    "recalibrated": "after recalibration",
    "finetuned": "after fine-tuning",
}


@styled
def accuracy(frame: pd.DataFrame, at: str = "finetuned", split: str = "test") -> Figure:
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

    Parameters
    ----------
    frame : what `results.load` returned; only cells that are ok count.
    at, split : see `results.accuracy_table`.
    """
    cells = comparable(frame)
    points = accuracy_points(cells, at, split)
    if points.empty:
        return said("No cell is ok, so there is no accuracy to draw.")
    found = [panel for panel in panels(cells) if len(panel.of(points))]
    figure, axes = grid(len(found), _WIDTH, 3.1, columns_of(found))
    metrics = looks(cells["metric"])
    for panel, place in zip(found, axes, strict=True):
        _panel(place, panel.of(points), panel.rows, metrics, split)
        ratios = panel.of(points)["ratio"]
        ends = list(dict.fromkeys([ratios.min(), ratios.max()]))
        titled(place, panel.title, left_words(panel.rows, ends), _WIDTH - 0.5)
    label_sizes(axes, found)
    outer(axes, y=f"{split} accuracy, %\n{STAGE_WORDS[at]}")
    curves_legend(figure, points, metrics)
    return figure


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
    many = points["metric"].nunique() > _FEW
    for at, (metric, look) in enumerate(metrics.items()):
        line = points[points["metric"] == metric].sort_values("x")
        if len(line):
            curve(axes, line, look, f"metric{at}", 0.06 if many else 0.12).set_label(metric)
    unpruned_line(axes, points["mean"], rows, split)


def curve(axes: Axes, line: pd.DataFrame, look: Look, name: str, shade: float) -> Line2D:
    """Draws a metric's points from left to right, with its band, and returns the line.

    Parameters
    ----------
    line : rows of `accuracy_points`, ordered by `x`.
    name : begins the ids of what is drawn.
    shade : opacity of the band.
    """
    x, y = line["x"].to_numpy(float), 100 * line["mean"].to_numpy(float)
    (drawn,) = axes.plot(x, y, color=look.colour, linestyle=look.dash or "-", linewidth=1.5)
    drawn.set(gid=f"{name}-line")
    floor = line["collapsed"].to_numpy(int) > 0
    for kind, where, face in (("dots", ~floor, look.colour), ("collapsed", floor, PAPER)):
        (dots,) = axes.plot(x[where], y[where], linestyle="none", marker=look.marker)
        dots.set(markersize=4, markeredgewidth=1.1, color=look.colour, markerfacecolor=face)
        dots.set(zorder=3, gid=f"{name}-{kind}")
    if line["low"].notna().any():
        low, high = 100 * line["low"].to_numpy(float), 100 * line["high"].to_numpy(float)
        band = axes.fill_between(x, low, high, color=look.colour, linewidth=0)
        band.set(alpha=shade, gid=f"{name}-band")
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
    return max(least - room, 0.0), min(most + room, 100.5)


def curves_legend(
    figure: Figure, points: pd.DataFrame, metrics: dict[str, Look], others: Iterable[Line2D] = ()
) -> None:
    """Puts the legend of curves below all panels: metrics, others, and what all figures share."""
    handles = [*metric_handles(metrics), *others]
    handles.append(Line2D([], [], color=INK, linewidth=1, linestyle=(0, (6, 3)), label="unpruned"))
    if points["collapsed"].gt(0).any():
        hollow = Line2D([], [], color=FAINT, linestyle="none", marker="o", markersize=4)
        hollow.set(markerfacecolor=PAPER, label="hollow: a channel group at its floor")
        handles.append(hollow)
    if points["seeds"].max() == 1 or points["low"].notna().any():
        handles.append(Line2D([], [], linestyle="none", label=_band_words(points["seeds"])))
    legend_below(figure, handles)


def metric_handles(metrics: dict[str, Look]) -> list[Line2D]:
    """An entry of the legend for each metric."""
    return [
        Line2D(
            [], [], color=look.colour, linestyle=look.dash or "-", marker=look.marker, label=name
        )
        for name, look in metrics.items()
    ]


def legend_below(figure: Figure, handles: list[Line2D]) -> None:
    """Puts a legend below all panels, in as many columns as there is room for."""
    for handle in handles:
        handle.set_markersize(4)
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = int(figure.get_figwidth() / (LETTER * longest + 0.7))
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, min(columns, 5)))


def _band_words(seeds: pd.Series) -> str:
    if seeds.max() == 1:
        return "one seed: no intervals"
    if seeds.max() == 2:
        return "band: between the two seeds"
    return "band: 95 % t interval, cut at the axes"


@report_figure(
    "accuracy",
    "Accuracy against size",
    "Mean top-1 accuracy on the test images after fine-tuning, over the achieved ratio of "
    "parameters, or of multiply-accumulates (MACs) where the budget counts these. Bands are 95 % "
    "t intervals of the mean over the seeds, or reach from one seed to the other where there are "
    "two. Hollow points have a channel group at its floor in at least one seed; the dashed line "
    "is the unpruned network. Networks of equal parameters may leave unequal MACs: under each "
    "title is their range over the metrics.",
    position=10,
)
def _in_report(tables: SweepTables) -> Figure:
    return accuracy(tables.frame)
