"""What pruned networks reach without any training, with and without compensation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.analysis.study import accuracy_column, any_compensation, same
from results.analysis.sweep_tables import SweepTables
from results.figures.accuracy import (
    accuracy_points,
    curve,
    curves_legend,
    label_sizes,
    unpruned_line,
    widen,
)
from results.figures.front import (
    any_grey,
    best,
    coloured,
    known,
    legend_room,
    name_coloured,
    panel_looks,
)
from results.figures.macs import titled
from results.figures.panels import (
    NO_BREAK,
    PANEL,
    Panel,
    columns_of,
    comparable,
    grid,
    outer,
    panels,
)
from results.figures.registry import report_figure
from results.figures.style import FAINT, REST, Look, looks, said, styled
from results.formatting import listed, percent
from results.storage.schema import NO_COMPENSATION, ONE_SHOT

_STAGE = "recalibrated"
_WIDTH = 4.1
_PALE = 0.45


@styled
def without_training(
    frame: pd.DataFrame, split: str = "test", forward: Sequence[str] = ()
) -> Figure:
    """Mean top-1 accuracy before any training over the achieved ratio, by compensation.

    A panel for each study and setting with compensation and one step. The strong line of a metric
    is its accuracy with the compensation, the pale line of the same colour that without one. On
    both sides batch normalisation is re-estimated, which needs no labels either, so that the
    distance of the two lines is what compensation adds. The metric with the highest mean over the
    ratios is drawn thick and named under the title, with the best one without compensation. Both
    means are over the ratios and seeds that have cells with and without compensation; if these are
    not all ratios of the panel, it names them. For bands, hollow points, the line of the unpruned
    network and the metrics in colour see `results.figures.accuracy`; pale lines have neither bands
    nor points, and grey curves have no pale line.

    Parameters
    ----------
    frame : what `results.load` returned; only cells that are ok count.
    split : test or validation.
    forward : metrics that every panel shows in colour and thick.

    Raises
    ------
    ValueError
        As `results.figures.accuracy`.
    """
    cells = comparable(frame)
    known(cells["metric"], forward)
    # Of all metrics, so that each has the colour and the id that it has in the other figures.
    metrics = looks(cells["metric"])
    # In later steps of an iterative schedule networks were trained before.
    cells = cells[cells["schedule"] == ONE_SHOT]
    points = accuracy_points(cells, _STAGE, split).dropna(subset="mean")
    compensated = points[points["compensation"] != NO_COMPENSATION]
    if compensated.empty:
        return said("No cell with compensation is ok and was evaluated before training.")
    found = [panel for panel in panels(cells) if len(panel.of(compensated))]
    drawn = [panel.of(compensated) for panel in found]
    shown = [coloured(own, forward) for own in drawn]
    named = any_grey(shown, drawn)
    height = 3.4 + (legend_room(shown) if named else 0)
    figure, axes = grid(len(found), _WIDTH, height, columns_of(found))
    for panel, names, place in zip(found, shown, axes, strict=True):
        _panel(place, panel, cells, points, panel_looks(metrics, names, forward), split)
    label_sizes(axes, found)
    if named:
        name_coloured(axes, metrics, shown)
    outer(axes, y=f"{split} accuracy, %\nbefore any training")
    pale = Line2D([], [], color=FAINT, linewidth=1, label="pale: without compensation")
    with_it = {name: metrics[name] for name in metrics if name in set(compensated["metric"])}
    curves_legend(figure, compensated, with_it, [pale])
    return figure


def _panel(
    axes: Axes,
    panel: Panel,
    cells: pd.DataFrame,
    points: pd.DataFrame,
    metrics: dict[str, Look],
    split: str,
) -> None:
    first = panel.rows.iloc[0].copy()
    own = panel.of(points)
    first["compensation"] = NO_COMPENSATION
    plain = points[same(points, first, PANEL)]
    leading, without, ratios = _best_of_both(panel.rows, cells[same(cells, first, PANEL)], split)
    for at, (metric, look) in enumerate(metrics.items()):
        line, other = (rows[rows["metric"] == metric].sort_values("x") for rows in (own, plain))
        if line.empty:
            continue
        (pale,) = axes.plot(other["x"], 100 * other["mean"], color=look.colour)
        pale.set(linestyle=look.dash or "-", linewidth=1, gid=f"metric{at}-pale")
        pale.set_alpha(0 if look.colour == REST else _PALE)
        if len(other) == 1:
            pale.set(marker="o", markersize=4)  # a line of one point would not be seen
        strong = curve(axes, line, look, f"metric{at}")
        strong.set_label(metric)
        if len(leading) and metric == leading.index[0]:
            strong.set(linewidth=3, zorder=2.5)
    drawn = pd.concat([own, plain[plain["metric"].isin(own["metric"])]])
    unpruned_line(axes, drawn["mean"], panel.rows, split)
    widen(axes, drawn["ratio"])
    words = _words(leading, without)
    if ratios != sorted(own["ratio"].unique()):
        words += f", both at {listed(ratios)}"
    titled(axes, panel.title, words, _WIDTH - 0.5)


def _best_of_both(
    cells: pd.DataFrame, plain: pd.DataFrame, split: str
) -> tuple[pd.Series[float], pd.Series[float], list[float]]:
    """What `best` gives with compensation and without, and the ratios of these means.

    Both are over the ratios and seeds that have cells on both sides. If there are none, the first
    is over all, and the second is empty.
    """
    column, where = accuracy_column(_STAGE, split), ["ratio", "seed"]
    cells, plain = (side.dropna(subset=column) for side in (cells, plain))
    shared = cells[where].merge(plain[where]).drop_duplicates()
    if len(shared):
        cells = cells.merge(shared)
    means = [
        side.groupby(["metric", "ratio"], as_index=False).agg(mean=(column, "mean"))
        for side in (cells, plain.merge(shared))
    ]
    return best(means[0]), best(means[1]), sorted(means[0]["ratio"].unique())


def _words(leading: pd.Series[float], without: pd.Series[float]) -> str:
    """Which metric is best in the mean over the ratios, with compensation and without."""
    found = [
        f"{words}: {rows.index[0]} {percent(rows.iloc[0], 1)} %".replace(" ", NO_BREAK)
        for words, rows in (("highest mean", leading), ("without compensation", without))
        if len(rows)
    ]
    return ", ".join(found)


@report_figure(
    "without_training",
    "Accuracy against size without training",
    "Mean top-1 accuracy on the test images before any training, over the achieved ratio of "
    "parameters, or of multiply-accumulates where the budget counts these. Strong lines are with "
    "compensation, pale lines of the same colour without. On both sides batch normalisation is "
    "re-estimated on training images without labels: the distance of the two lines is what "
    "compensation adds. The thick line is the metric with the highest mean over the ratios. It "
    "need not be better for certain. Colours and bands are those of the figure above.",
    position=15,
)
def _in_report(tables: SweepTables) -> Figure | None:
    good = tables.frame[tables.frame["status"] == "ok"]
    good = good[good[f"{_STAGE}_test_top1"].notna()]
    once = good[good["schedule"].fillna(ONE_SHOT) == ONE_SHOT]
    return without_training(tables.frame) if any_compensation(once) else None
