"""How much better or worse than a reference each metric is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.analysis.comparison import REFERENCE, paired_difference
from results.analysis.sweep_tables import SweepTables
from results.figures.accuracy import legend_below, stage_words
from results.figures.macs import left_words, titled
from results.figures.panels import (
    PANEL,
    columns_of,
    comparable,
    grid,
    outer,
    panels,
    ratio_words,
    striped,
    title_room,
)
from results.figures.registry import report_figure
from results.figures.style import COLOURS, said, styled

_MOST_RATIOS = 3
_WIDTH = 3.0
_LEAST = 0.35
"""Inches of a panel's height that even a single line of points needs."""
_NAME = 0.2
"""Inches of height that a metric's name needs."""
_AROUND = 1.1
"""Inches for the ticks, the label of two lines below them, and the legend."""
_MARKERS = ("o", "s", "D", "^", "v")
"""With six colours they tell 30 ratios apart."""


@styled
def differences(
    frame: pd.DataFrame,
    reference: str = REFERENCE,
    at: str = "finetuned",
    split: str = "test",
    ratios: Sequence[float] | None = None,
) -> Figure:
    """Accuracy of each metric minus that of a reference, with its interval, in points.

    A panel for each study and setting, a row for each metric, the best one on top. Differences are
    paired by the baseline; the bar is the 95 % t interval of the mean over the seeds, and absent
    where there is none. An interval that ends in an arrow goes on beyond the axis. Under the title
    is what the metrics leave of the multiply-accumulates, or of the parameters where the ratio
    counts multiply-accumulates. If all seeds start from the weights of one file, the bar says how
    much fine-tuning and seeded metrics vary, not how much networks vary.

    Parameters
    ----------
    frame : what `results.load` returned; only cells that are ok count.
    reference : metric that is subtracted.
    at, split : see `results.paired_difference`.
    ratios : target ratios to show; three of each panel, from its smallest on, if not given.
    """
    cells = comparable(frame)
    metrics = cells["metric"].dropna().unique()
    if reference not in metrics:
        return said(f"No cell of {reference} is ok, so there is nothing to compare with.")
    if len(metrics) == 1:
        return said(f"{reference} is the only metric, so there is nothing to compare it with.")
    table = paired_difference(cells, None, reference, at, split)
    table = table.dropna(subset="difference_points")
    table = _of_three_ratios(table) if ratios is None else table[table["ratio"].isin(ratios)]
    if table.empty:
        return said(f"No baseline has both {reference} and another metric at these ratios.")
    found = [panel for panel in panels(cells) if len(panel.of(table))]
    order = list(table.groupby("metric")["difference_points"].mean().sort_values().index)
    wanted = sorted(table["ratio"].unique()) if ratios is None else list(ratios)
    most = max(panel.of(table)["ratio"].nunique() for panel in found)
    height = _AROUND + max(max(0.1 + 0.085 * most, _NAME) * len(order), _LEAST)
    height += title_room([panel.title for panel in found], _WIDTH - 0.2)
    figure, axes = grid(len(found), _WIDTH, height + 0.1, columns_of(found), order)
    looks = dict(zip(wanted, zip(cycle(COLOURS), cycle(_MARKERS), strict=False), strict=False))
    for panel, place in zip(found, axes, strict=True):
        rows = panel.of(table)
        _panel(place, rows, order, looks)
        own = [ratio for ratio in wanted if ratio in set(rows["ratio"])]
        titled(place, panel.title, left_words(panel.rows, own), _WIDTH - 0.2)
        if not place.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            place.set_yticklabels([])
    stage = stage_words(at, table)
    outer(axes, f"accuracy minus that of {reference},\npoints, {stage}, {split} images")
    words = ratio_words(table)
    handles = [
        Line2D([], [], color=colour, marker=marker, label=f"{words} {ratio:g}")
        for ratio, (colour, marker) in looks.items()
    ]
    handles.append(Line2D([], [], linestyle="none", label=_bar_words(table)))
    legend_below(figure, handles)
    return figure


def _bar_words(table: pd.DataFrame) -> str:
    if table["low_points"].notna().any():
        return "bar: 95 % t interval"
    causes = ["one seed"] if (table["seeds"] == 1).any() else []
    causes += ["the same in every seed"] if (table["seeds"] > 1).any() else []
    return f"no intervals: {' or '.join(causes)}"


def _of_three_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of at most three ratios of each panel."""
    of_panel = table.groupby(PANEL, dropna=False)["ratio"]
    return table[of_panel.transform(lambda own: own.isin(spread(own.unique()))).astype(bool)]


def spread(ratios: Sequence[float]) -> list[float]:
    """At most three of these ratios, the smallest, the middle and the largest below 1."""
    ordered = sorted(ratio for ratio in ratios if ratio < 1) or sorted(ratios)
    places = np.linspace(0, len(ordered) - 1, min(len(ordered), _MOST_RATIOS)).round().astype(int)
    return [ordered[place] for place in places]


def _panel(
    axes: Axes, table: pd.DataFrame, order: list[str], looks: dict[float, tuple[str, str]]
) -> None:
    striped(axes, order)
    low, high = _limits(table)
    axes.set_xlim(low, high)
    own = [ratio for ratio in looks if ratio in set(table["ratio"])]
    width = 0.7 / len(own)
    for at, (ratio, (colour, marker)) in enumerate(looks.items()):
        if ratio not in own:
            continue
        rows = table[table["ratio"] == ratio].set_index("metric")
        rows = rows.reindex([name for name in order if name in rows.index])
        y = np.array([order.index(name) for name in rows.index])
        y = y + width * ((len(own) - 1) / 2 - own.index(ratio))
        axes.hlines(y, rows["low_points"], rows["high_points"], color=colour, linewidth=1.3)
        x = rows["difference_points"].to_numpy(float)
        (dots,) = axes.plot(x, y, linestyle="none", marker=marker, color=colour)
        dots.set(markersize=4, label=f"{ratio:g}", gid=f"ratio{at}", zorder=3)
        for ends, beyond, arrow in (
            (low, rows["low_points"] < low, "<"),
            (high, rows["high_points"] > high, ">"),
        ):
            for tip in y[beyond.to_numpy()]:
                axes.plot(ends, tip, arrow, color=colour, markersize=4, clip_on=False)


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """Wide enough for all means and most intervals; a few seeds can have enormous ones."""
    means = table["difference_points"]
    least, most = min(means.min(), 0.0), max(means.max(), 0.0)
    room = max(0.75 * (most - least), 0.5)
    ends = min(table["low_points"].min(), least), max(table["high_points"].max(), most)
    low = max(least - room, ends[0] if pd.notna(ends[0]) else least)
    high = min(most + room, ends[1] if pd.notna(ends[1]) else most)
    pad = 0.04 * (high - low)
    return low - pad, high + pad


@report_figure(
    "differences",
    f"Differences to {REFERENCE}",
    f"Accuracy minus that of {REFERENCE} in percentage points, paired by the baseline that "
    "both prune, at three of the target ratios. Bars are 95 % t intervals of the mean difference, "
    "not corrected for their number; one that ends in an arrow goes on beyond the axis. Under "
    "each title is the range of the multiply-accumulates (MACs) that the metrics leave.",
    position=20,
)
def _in_report(tables: SweepTables) -> Figure:
    return differences(tables.frame, REFERENCE)
