"""How alike metrics rank the channels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from results.analysis.study import SCORED_STUDY, check_one_study
from results.analysis.sweep_tables import SweepTables
from results.figures.panels import LETTER, TITLE_LINE, comparable, grid, networks_of, title_lines
from results.figures.registry import report_figure
from results.figures.style import said, styled
from results.figures.widths import bare, heat_bar

_READABLE = 14
_LEAST = 1.4
"""Inches of a panel's width that a title needs."""


@styled
def agreement(correlations: pd.DataFrame, networks: Mapping[str, str] = {}) -> Figure:
    """Mean Kendall's tau between metrics over channel groups and baselines, by data set.

    Metrics that rank alike stand side by side, in all panels in the same order. A pair without
    any value, since one of the two gives all channels of each group the same score, is blank.

    Parameters
    ----------
    correlations : what `results.rank_agreement` returned.
    networks : the network of each data set, for the titles.
    """
    if correlations.empty:
        return said("No two metrics have scores of the same channels: nothing to compare.")
    names = similar_first(correlations)
    datasets = [str(name) for name in correlations["dataset"].drop_duplicates()]
    side, longest = 0.24 * len(names), max(map(len, names))
    columns = 3 if len(names) <= _READABLE else 2
    titles = [[dataset, *filter(None, [networks.get(dataset)])] for dataset in datasets]
    width = max(side, _LEAST)
    lines = [[line for word in words for line in title_lines(word, width)] for words in titles]
    height = side + 0.9 + LETTER * longest + TITLE_LINE * (max(map(len, lines)) - 1)
    figure, axes = grid(len(datasets), width + 0.4, height, columns, names)
    for dataset, title, place in zip(datasets, lines, axes, strict=True):
        image = _panel(place, matrix(correlations[correlations["dataset"] == dataset], names))
        place.set_title("\n".join(title))
        if not place.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            place.set_yticklabels([])
    heat_bar(figure, axes, image, "mean Kendall's tau")
    return figure


def matrix(correlations: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The mean correlation of each pair of metrics, [metrics, metrics], 1 on the diagonal."""
    means = correlations.groupby(["metric", "other_metric"])["correlation"].mean()
    table = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    table = table.mask(table == 0)
    for (one, other), value in means.items():
        table.loc[one, other] = table.loc[other, one] = value
    return table


def similar_first(correlations: pd.DataFrame) -> list[str]:
    """The metrics in an order in which similar ones are neighbours."""
    names = sorted({*correlations["metric"], *correlations["other_metric"]})
    if len(names) < 3:
        return names
    distances = 1 - matrix(correlations, names).fillna(0.0).to_numpy()
    np.fill_diagonal(distances, 0.0)
    tree = hierarchy.linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return [names[at] for at in hierarchy.leaves_list(tree)]


def _panel(axes: Axes, table: pd.DataFrame) -> ScalarMappable:
    image = axes.pcolormesh(table.to_numpy(), cmap="RdBu", vmin=-1, vmax=1)
    image.set(edgecolor="white", linewidth=0.6)
    places = np.arange(len(table)) + 0.5
    axes.set_xticks(places, table.columns, rotation=90)
    axes.set_yticks(places, table.index)
    axes.set_ylim(len(table), 0)
    axes.set_aspect("equal")
    bare(axes)
    if len(table) <= _READABLE:
        for (line, column), value in np.ndenumerate(table.to_numpy()):
            if line != column and not np.isnan(value):
                ink = "#fefefe" if abs(value) > 0.6 else "#111111"
                text = axes.text(column + 0.5, line + 0.5, f"{value:.1f}".replace("-0.0", "0.0"))
                text.set(ha="center", va="center", fontsize=6.5, color=ink)
    return image


@report_figure(
    "agreement",
    "How alike metrics rank channels",
    "Kendall's tau-b between the scores of two metrics within a channel group, averaged over "
    "groups and baselines: 1 is the same order, 0 none in common, \N{MINUS SIGN}1 the "
    "opposite.",
    position=50,
)
def _in_report(tables: SweepTables) -> Figure:
    cells = comparable(tables.frame)
    check_one_study(cells, SCORED_STUDY)
    return agreement(tables.agreement, networks_of(cells))
