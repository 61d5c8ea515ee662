"""The figures of README.md that no report has."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.analysis.standing import VERDICTS
from results.analysis.study import figures, of_grid
from results.figures.accuracy import legend_below
from results.figures.panels import grid, outer, striped
from results.figures.style import COLOURS, FAINT, INK, PAPER, styled

_ROW = 0.24
_AROUND = 1.1
_EFFECTS = {
    "selection": "other channels, at the same widths",
    "allocation": "other widths, same metric",
}
_STAGES = {
    "pruned": "pruned",
    "recalibrated": "batch normalisation re-estimated",
    "finetuned": "fine-tuned",
}
# The marker of each verdict, and whether it is filled.
_MARKS = dict(zip(VERDICTS, (("o", True), ("o", False), ("X", True), ("s", False)), strict=True))
PLACE = ("dataset", "scope", "normalisation")


def at_shared_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of ratios at which every metric was run; some metrics were run at more."""
    cells = of_grid(frame)
    metrics = cells.groupby(["dataset", "ratio"])["metric"].transform("nunique")
    most = cells.groupby("dataset")["metric"].transform("nunique")
    return frame.drop(index=cells.index[metrics < most])


def by_stage(frame: pd.DataFrame) -> pd.DataFrame:
    """The pruned networks that are ok and were evaluated at every stage."""
    cells = of_grid(frame[frame["status"] == "ok"])
    return cells.dropna(subset=[f"{stage}_test_top1" for stage in _STAGES])


def places(cells: pd.DataFrame) -> list[tuple[tuple[str, str, str], pd.DataFrame]]:
    """The cells of each data set and budget: local first, then raw scores."""
    return sorted(
        cells.groupby(list(PLACE)),
        key=lambda place: (place[0][0], place[0][1] != "local", place[0][2] != "none"),
    )


def budget(scope: str, normalisation: str) -> str:
    """A budget in a word: local, global or standardised."""
    if scope == "local":
        return "local"
    return "global" if normalisation == "none" else "standardised"


@styled
def effects(table: pd.DataFrame) -> Figure:
    """What other channels, and other widths, add to a global ranking; a row for each metric.

    Parameters
    ----------
    table : rows of `results.selection_against_allocation`; the largest ratio of each is shown.
    """
    table = table[table["effect"].isin(list(_EFFECTS))]
    panel = ["dataset", "widths_of", "normalisation"]
    table = table[table["ratio"] == table.groupby(panel)["ratio"].transform("max")]
    order = list(table.groupby("metric")["difference_points"].mean().sort_values().index)
    found = list(table.groupby(panel))
    figure, axes = grid(len(found), 3.6, _AROUND + _ROW * len(order), 2, order)
    for ((dataset, reference, normalisation), rows), place in zip(found, axes, strict=True):
        _rows(place, rows, order)
        ratio = rows["ratio"].iloc[0]
        place.set_title(f"{dataset}, {reference}, {budget('global', normalisation)}, {ratio:g}")
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
    striped(axes, order)
    for at, effect in enumerate(_EFFECTS):
        rows = table[table["effect"] == effect].set_index("metric")
        y = np.array([order.index(name) for name in rows.index]) + 0.15 - 0.3 * at
        axes.hlines(y, rows["low_points"], rows["high_points"], color=COLOURS[at], linewidth=1.3)
        points = rows["difference_points"]
        axes.plot(points, y, "os"[at], color=COLOURS[at], markersize=4, zorder=3)


@styled
def standing(found: pd.DataFrame) -> Figure:
    """The lead of our method over the most accurate other one, for each contest.

    Parameters
    ----------
    found : what `tournament.stands` returned.
    """
    contests = sorted(
        found.groupby(["dataset", "scope", "ratio_of"]),
        key=lambda contest: (contest[0][0], contest[0][1] != "local", contest[0][2] == "macs"),
    )
    figure, axes = grid(len(contests), 2.8, 2.3, 4)
    arms = list(found["arm"].drop_duplicates())
    for ((dataset, scope, cost), rows), place in zip(contests, axes, strict=True):
        place.axhline(0, color=INK, linewidth=1, zorder=1)
        for at, arm in enumerate(arms):
            here = rows[rows["arm"] == arm]
            x = here["ratio"] + 0.02 * (at - 1)
            place.vlines(x, here["low_points"], here["high_points"], color=COLOURS[at], lw=1.3)
            for verdict, (marker, fill) in _MARKS.items():
                same = (here["verdict"] == verdict).to_numpy()
                place.plot(
                    x[same],
                    here["difference_points"][same],
                    marker,
                    color=COLOURS[at],
                    markerfacecolor=COLOURS[at] if fill else PAPER,
                    markersize=5,
                    zorder=3,
                )
        ratios = sorted(rows["ratio"].unique())
        place.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
        place.set_xlim(ratios[0] - 0.1, ratios[-1] + 0.1)
        place.set_title(f"{dataset}, {scope}, {'MACs' if cost == 'macs' else cost}")
    outer(axes, "ratio that is left", "points of test accuracy")
    colours = [
        Line2D([], [], color=colour, linewidth=1.5, label=arm)
        for arm, colour in zip(arms, COLOURS, strict=False)
    ]
    marks = [
        Line2D([], [], color=FAINT, marker=marker, markersize=5, linestyle="none", label=verdict)
        for verdict, (marker, _) in _MARKS.items()
    ]
    for line, (_, fill) in zip(marks, _MARKS.values(), strict=True):
        line.set_markerfacecolor(FAINT if fill else PAPER)
    legend_below(figure, [*colours, *marks])
    return figure


@styled
def stages(frame: pd.DataFrame) -> Figure:
    """Accuracy over the ratio after each stage, averaged over metrics and seeds; band: metrics."""
    cells = places(by_stage(frame))
    figure, axes = grid(len(cells), 2.7, 2.6)
    for place, (where, here) in zip(axes, cells, strict=True):
        for stage, colour in zip(_STAGES, COLOURS, strict=False):
            accuracies = figures(here, stage, "test").groupby(["ratio", "metric"])["accuracy"]
            means = 100 * accuracies.mean().unstack("metric")  # noqa: PD010
            place.fill_between(
                means.index, means.min(axis=1), means.max(axis=1), color=colour, alpha=0.15, lw=0
            )
            place.plot(means.index, means.mean(axis=1), "o-", color=colour, markersize=3.5)
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
