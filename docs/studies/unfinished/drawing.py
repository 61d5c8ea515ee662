"""The figures of README.md that no report has."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.analysis.study import figures
from results.figures.accuracy import legend_below
from results.figures.panels import grid, outer
from results.figures.style import COLOURS, FAINT, GRID, INK, styled
from results.storage.schema import SCRATCH, UNPRUNED

_ROW = 0.24
_AROUND = 1.1
_EFFECTS = {
    "selection": "other channels, at the widths of output_l1",
    "allocation": "other widths, same metric",
}
_STAGES = {
    "pruned": "pruned",
    "recalibrated": "batch normalisation re-estimated",
    "finetuned": "fine-tuned",
}
PLACE = ("dataset", "scope", "normalisation")


def budget(scope: str, normalisation: str) -> str:
    """A budget in a word: local, global or standardised."""
    if scope == "local":
        return "local"
    return "global" if normalisation == "none" else "standardised"


@styled
def effects(table: pd.DataFrame) -> Figure:
    """What the choice of channels and that of widths add to output_l1, a row for each metric.

    Parameters
    ----------
    table : rows of `results.selection_against_allocation`; the largest ratio of each is shown.
    """
    table = table[table["effect"].isin(list(_EFFECTS))]
    panel = ["dataset", "normalisation"]
    table = table[table["ratio"] == table.groupby(panel)["ratio"].transform("max")]
    order = list(table.groupby("metric")["difference_points"].mean().sort_values().index)
    places = list(table.groupby(panel))
    figure, axes = grid(len(places), 3.6, _AROUND + _ROW * len(order), 2, order)
    for ((dataset, normalisation), rows), place in zip(places, axes, strict=True):
        _rows(place, rows, order)
        place.set_title(f"{dataset}, {budget('global', normalisation)}, {rows['ratio'].iloc[0]:g}")
        if not place.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            place.set_yticklabels([])
    outer(axes, "points of test accuracy, fine-tuned")
    handles = [
        Line2D([], [], color=COLOURS[at], marker="os"[at], label=words)
        for at, words in enumerate(_EFFECTS.values())
    ]
    legend_below(figure, [*handles, Line2D([], [], linestyle="none", label="bar: 95 % t interval")])
    return figure


def _rows(axes: Axes, table: pd.DataFrame, order: list[str]) -> None:
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    axes.grid(False, axis="y")
    for line in range(1, len(order), 2):
        axes.axhspan(line - 0.5, line + 0.5, color=GRID, alpha=0.35, linewidth=0, zorder=0)
    for at, effect in enumerate(_EFFECTS):
        rows = table[table["effect"] == effect].set_index("metric")
        y = np.array([order.index(name) for name in rows.index]) + 0.15 - 0.3 * at
        axes.hlines(y, rows["low_points"], rows["high_points"], color=COLOURS[at], linewidth=1.3)
        points = rows["difference_points"]
        axes.plot(points, y, "os"[at], color=COLOURS[at], markersize=4, zorder=3)
    axes.set_yticks(np.arange(len(order)), order)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.tick_params(axis="y", length=0)


@styled
def stages(frame: pd.DataFrame) -> Figure:
    """Accuracy over the ratio after each stage, averaged over metrics and seeds; band: metrics."""
    cells = frame[frame["scope"].isin(["local", "global"]) & (frame["status"] == "ok")]
    cells = cells[~cells["metric"].isin([SCRATCH, UNPRUNED])]
    cells = cells.dropna(subset=[f"{stage}_test_top1" for stage in _STAGES])
    found = [figures(cells, stage, "test") for stage in _STAGES]
    places = sorted(
        cells[list(PLACE)].drop_duplicates().itertuples(index=False, name=None),
        key=lambda place: (place[0], place[1] != "local", place[2] != "none"),
    )
    figure, axes = grid(len(places), 2.7, 2.6)
    for place, where in zip(axes, places, strict=True):
        for table, colour in zip(found, COLOURS, strict=False):
            here = table[(table[list(PLACE)] == list(where)).all(axis=1)]
            means = 100 * here.groupby(["ratio", "metric"])["accuracy"].mean().unstack("metric")  # noqa: PD010
            place.fill_between(
                means.index, means.min(axis=1), means.max(axis=1), color=colour, alpha=0.15, lw=0
            )
            place.plot(means.index, means.mean(axis=1), "o-", color=colour, markersize=3.5)
        here = cells[(cells[list(PLACE)] == list(where)).all(axis=1)]
        unpruned = 100 * here["baseline_test_top1"].mean()
        place.axhline(unpruned, color=FAINT, linestyle="--", linewidth=1)
        place.set_title(f"{where[0]}, {budget(*where[1:])}")
        place.set_ylim(0, unpruned + 5)
    outer(axes, "ratio of parameters", "test accuracy, %")
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=3.5, label=words)
        for words, colour in zip(_STAGES.values(), COLOURS, strict=False)
    ]
    dashed = Line2D([], [], color=FAINT, linestyle="--", linewidth=1, label="unpruned")
    band = Line2D([], [], linestyle="none", label="line: mean of the metrics; band: all of them")
    legend_below(figure, [*handles, dashed, band])
    return figure
