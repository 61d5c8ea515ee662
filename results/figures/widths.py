"""How many channels each channel group kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from results.analysis.study import BASELINE, FINETUNING, RULE, STUDY
from results.analysis.sweep_tables import SweepTables
from results.figures.macs import macs_left
from results.figures.panels import (
    LETTER,
    columns_of,
    comparable,
    grid,
    of_smallest_ratio,
    panels,
    ratio_words,
    set_title,
    title_room,
)
from results.figures.registry import report_figure
from results.figures.style import INK, said, styled
from results.storage.schema import NO_COMPENSATION, ONE_SHOT

EVERY = "every metric"

# Inches of a group's column: as wide as a number where there is room, else as a line of text.
_WIDE, _NARROW = 0.22, 0.14
_WIDEST = 9.0
_FIGURE = 12.0
_LONGEST = 24
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
_NAME_SIZE = 6.5
# Inches that a letter of this size takes on average.
_NAME_LETTER = 0.055


@styled
def kept_widths(frame: pd.DataFrame, ratio: float | None = None) -> Figure:
    """The fraction of its channels that each channel group keeps, by metric, mean over the seeds.

    A panel for each data set, budget, normalisation and schedule. Networks that are pruned at once
    have the same widths whatever their compensation and fine-tuning, so of cells that differ in
    these one counts; those that are pruned in steps have a panel for each. If in no panel the
    metric makes a difference, as with local budgets, all metrics share one row. A metric without a
    cell in a panel has a blank row. To the right of a row is the fraction of the
    multiply-accumulates that is left.

    Groups have their names, shortened where these are long, or numbers from 1 in rows of versions
    that stored no names. Where there are too many groups, only every second or third is named.

    Parameters
    ----------
    frame : what `results.load` returned; only cells that are ok count.
    ratio : target of the cells to show; the smallest one of each panel if not given. Where panels
        then differ in it, their titles say it.
    """
    cells = _of_equal_widths_one(comparable(frame)).dropna(subset="ratio")
    if cells.empty:
        return said("No cell is ok, so there are no widths to draw.")
    cells = of_smallest_ratio(cells) if ratio is None else cells[cells["ratio"] == ratio]
    drawn = [(panel, fractions(panel.rows)) for panel in panels(cells)]
    drawn = [(panel, table) for panel, table in drawn if len(table)]
    if not drawn:
        of_ratio = "" if ratio is None else f" of ratio {ratio:g}"
        return said(f"No cell{of_ratio} has widths, so there are none to draw.")
    if all(np.allclose(table, table.iloc[0]) for _, table in drawn):
        drawn = [(panel, table.iloc[:1].set_axis([EVERY])) for panel, table in drawn]
    names = sorted({str(name) for _, table in drawn for name in table.index})
    labels = [shortened(table.columns) for _, table in drawn]
    most = max(len(table.columns) for _, table in drawn)
    longest = max(len(label) for found in labels for label in found)
    shown = pd.concat([panel.rows for panel, _ in drawn])
    differ = len(shown["ratio"].unique()) > 1
    titles = [
        f"{panel.title}, at {panel.rows['ratio'].iloc[0]:g}" if differ else panel.title
        for panel, _ in drawn
    ]
    width = min(max(_NARROW * most, min(_WIDE * most, _WIDEST / 3)), _WIDEST)
    height = 0.6 + 0.19 * len(names) + _NAME_LETTER * longest
    height += title_room(titles, 0.8 + width)
    size = 0.8 + width, height
    columns = min(columns_of([panel for panel, _ in drawn]), max(1, int(_FIGURE / size[0])))
    figure, axes = grid(len(drawn), *size, columns, names)
    parts = zip(drawn, titles, labels, axes, strict=True)
    for at, ((panel, table), title, found, place) in enumerate(parts):
        image = _panel(place, table.reindex(names), found, width)
        _macs(place, panel.rows, names)
        set_title(place, title, size[0])
        if at % columns:
            place.set_yticklabels([])
    counted = ratio_words(shown)
    at_ratio = f"the {counted} in the title" if differ else f"{counted} {shown['ratio'].iloc[0]:g}"
    heat_bar(figure, axes, image, f"channels kept, %, by channel group, at {at_ratio}")
    return figure


def _of_equal_widths_one(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells; of those that are pruned at once and differ in what follows, the first."""
    at_once = cells["schedule"] == ONE_SHOT
    what_follows = dict.fromkeys(FINETUNING, pd.NA) | {"compensation": NO_COMPENSATION}
    first = cells[at_once].assign(**what_follows)
    first = first.drop_duplicates([*STUDY, *RULE, "ratio", "metric", *BASELINE])
    kinds = cells.dtypes[list(what_follows)]
    return pd.concat([first.astype(kinds), cells[~at_once]], ignore_index=True)


def fractions(rows: pd.DataFrame) -> pd.DataFrame:
    """Channels kept over channels there were, [metrics, groups], mean over the rows.

    The columns are the names of the groups, or numbers from 1 if no row has names.
    """
    known = rows[rows["widths"].notna() & rows["widths_full"].notna()]
    tables = {
        str(metric): np.mean(
            [
                np.asarray(kept, float) / np.asarray(full, float)
                for kept, full in zip(cells["widths"], cells["widths_full"], strict=True)
            ],
            axis=0,
        )
        for metric, cells in known.groupby("metric")
    }
    table = pd.DataFrame(tables).T
    named = known["group_names"].dropna()
    table.columns = list(named.iloc[0]) if len(named) else range(1, len(table.columns) + 1)
    return table


def shortened(names: Sequence[object]) -> list[str]:
    """Names of groups as labels of at most 24 letters.

    If one is longer, all lose the parts that all begin with: `backbone.layer1.0.conv1` becomes
    `layer1.0.conv1` if all begin with `backbone`. One that is still too long loses its beginning,
    since the end tells it from its neighbours.
    """
    plain = [str(name) for name in names]
    if max(map(len, plain), default=0) <= _LONGEST:
        return plain
    parts = [name.split(".") for name in plain]
    shared = 0
    while len(parts) > 1 and all(len(own) > shared + 1 for own in parts):
        if len({own[shared] for own in parts}) > 1:
            break
        shared += 1
    found = [".".join(own[shared:]) for own in parts]
    return [one if len(one) <= _LONGEST else _ELLIPSIS + one[1 - _LONGEST :] for one in found]


def _panel(axes: Axes, table: pd.DataFrame, labels: list[str], width: float) -> ScalarMappable:
    """A heat map that is so many inches wide."""
    image = axes.pcolormesh(100 * table.to_numpy(), cmap="viridis", vmin=0, vmax=100)
    image.set(edgecolor="white", linewidth=0.6)
    # A label needs the height of a line beside its neighbours.
    step = max(1, math.ceil(0.75 * _NARROW * len(labels) / width))
    axes.set_xticks(np.arange(len(labels))[::step] + 0.5, labels[::step])
    if LETTER * max(map(len, labels)) >= width / len(labels):
        axes.tick_params(axis="x", labelrotation=90, labelsize=_NAME_SIZE)
    axes.set_yticks(np.arange(len(table)) + 0.5, table.index)
    axes.set_ylim(len(table), 0)
    axes.xaxis.tick_top()
    bare(axes)
    return image


def _macs(axes: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    """Writes what each metric leaves of the multiply-accumulates to the right of its row."""
    left = macs_left(rows).set_index("metric")["left"]
    if names == [EVERY] and len(left):
        left = pd.Series({EVERY: left.iloc[0]})
    if left.empty:
        return
    place = axes.get_xlim()[1] + 0.3
    # Without annotation_clip=False, matplotlib leaves out words outside the axes.
    head = axes.annotate("MACs", (place, 0), (0, 4), "data", "offset points", annotation_clip=False)
    texts = [
        axes.text(place, at + 0.5, f"{left[name]:.2f}", verticalalignment="center", gid="macs")
        for at, name in enumerate(names)
        if name in left.index
    ]
    for text in (head, *texts):
        text.set(fontsize=7.5, color=INK)


def bare(axes: Axes) -> None:
    """Takes from a heat map what belongs to curves."""
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def heat_bar(figure: Figure, axes: list[Axes], image: ScalarMappable, words: str) -> None:
    """The scale of heat maps, below them, of one size whatever that of the figure."""
    shrink = min(1.0, 2.6 / figure.get_figwidth())
    height = 0.12 / figure.get_figheight()
    bar = figure.colorbar(
        image, ax=axes, location="bottom", shrink=shrink, aspect=22, fraction=height, pad=height
    )
    bar.set_label(words)
    bar.outline.set_visible(False)


@report_figure(
    "widths",
    "What is left of each channel group",
    "Channels kept in each channel group at the smallest ratio of each panel, mean over the seeds. "
    "A group has the name of its first convolution. Local budgets fix the widths, global ones let "
    "the metric decide. MACs: the fraction of the multiply-accumulates that is left.",
    position=40,
)
def _in_report(tables: SweepTables) -> Figure:
    return kept_widths(tables.frame)
