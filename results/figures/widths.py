"""How many channels each layer kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from results.analysis.sweep_tables import SweepTables
from results.figures.macs import macs_left
from results.figures.panels import columns_of, comparable, grid, panels
from results.figures.registry import report_figure
from results.figures.style import INK, said, styled

EVERY = "every metric"


@styled
def kept_widths(frame: pd.DataFrame, ratio: float | None = None) -> Figure:
    """The fraction of its channels that each layer keeps, by metric, mean over the seeds.

    A panel for each data set, budget and normalisation. If in none of them the metric makes a
    difference, as with local budgets, all metrics share one row. A metric without a cell in a
    panel has a blank row. To the right of a row is the fraction of the multiply-accumulates that
    is left.

    Parameters
    ----------
    frame : what `results.load` returned; only cells that are ok count.
    ratio : target of the cells to show; the smallest one if not given.
    """
    cells = comparable(frame)
    ratios = sorted(cells["ratio"].dropna().unique())
    if not ratios:
        return said("No cell is ok, so there are no widths to draw.")
    ratio = ratios[0] if ratio is None else ratio
    drawn = [(panel, fractions(panel.rows)) for panel in panels(cells[cells["ratio"] == ratio])]
    drawn = [(panel, table) for panel, table in drawn if len(table)]
    if not drawn:
        return said(f"No cell of ratio {ratio:g} has widths, so there are none to draw.")
    if all(np.allclose(table, table.iloc[0]) for _, table in drawn):
        drawn = [(panel, table.iloc[:1].set_axis([EVERY])) for panel, table in drawn]
    names = sorted({str(name) for _, table in drawn for name in table.index})
    layers = max(len(table.columns) for _, table in drawn)
    columns = columns_of([panel for panel, _ in drawn])
    size = 0.8 + 0.22 * layers, 0.6 + 0.19 * len(names)
    figure, axes = grid(len(drawn), *size, columns, names)
    for at, ((panel, table), place) in enumerate(zip(drawn, axes, strict=True)):
        image = _panel(place, table.reindex(names))
        _macs(place, panel.rows, names)
        place.set_title(panel.title)
        if at % columns:
            place.set_yticklabels([])
    heat_bar(figure, axes, image, f"channels kept, %, by convolution, at parameter ratio {ratio:g}")
    return figure


def fractions(rows: pd.DataFrame) -> pd.DataFrame:
    """Channels kept over channels there were, [metrics, layers], mean over the rows."""
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
    table.columns = pd.RangeIndex(1, len(table.columns) + 1)
    return table


def _panel(axes: Axes, table: pd.DataFrame) -> ScalarMappable:
    image = axes.pcolormesh(100 * table.to_numpy(), cmap="viridis", vmin=0, vmax=100)
    image.set(edgecolor="white", linewidth=0.6)
    axes.set_xticks(np.arange(len(table.columns)) + 0.5, table.columns)
    axes.set_yticks(np.arange(len(table)) + 0.5, table.index)
    axes.set_ylim(len(table), 0)
    axes.xaxis.tick_top()
    bare(axes)
    return image


def _macs(axes: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    """Writes what each metric leaves of the multiply-accumulates to the right of its row."""
    left = macs_left(rows).set_index("metric")["macs_left"]
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
    "What is left of each layer",
    "Channels kept in each convolution at the smallest ratio, mean over the seeds. Local "
    "budgets fix the widths, global ones let the metric decide. MACs: the fraction of the "
    "multiply-accumulates that is left.",
    position=40,
)
def _in_report(tables: SweepTables) -> Figure:
    return kept_widths(tables.frame)
