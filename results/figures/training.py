"""How baselines were trained, and pruned networks fine-tuned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.analysis.protocols import counted_name
from results.analysis.study import FINETUNING, SETTING, STUDY, check_one_study, completed
from results.analysis.sweep_tables import SweepTables
from results.figures.accuracy import legend_below
from results.figures.front import metric_handles
from results.figures.panels import (
    comparable,
    even_columns,
    grid,
    networks_of,
    of_smallest_ratio,
    outer,
    point_words,
    scope_order,
    set_title,
    title_room,
    varied_words,
)
from results.figures.registry import report_figure
from results.figures.style import INK, Look, looks, said, styled
from results.storage.schema import SCRATCH

_PANEL = ["dataset", "finetune", *SETTING, "scratch"]
_PLAIN = [name for name in STUDY if name not in FINETUNING]
_WIDTH, _HEIGHT = 4.1, 2.6
_ASIDE = 0.03
"""Room beside the first and the last epoch, as a part of their number."""


@styled
def training_curves(
    history: pd.DataFrame,
    ratio: float | None = None,
    metrics: Iterable[str] = (),
    networks: Mapping[str, str] = {},
) -> Figure:
    """Training loss by epoch: of each baseline, and of fine-tuning by metric.

    A line of panels for each data set: its baselines, a curve for each, then for each setting and
    recipe of fine-tuning the mean over the seeds of each metric. Networks trained from scratch are
    not fine-tuned and have panels of their own. The epochs of an iterative schedule are counted
    through its steps.

    Parameters
    ----------
    history : what `results.load_history` returned.
    ratio : target of the cells to show; the smallest one of each panel if not given.
    metrics : all of the sweep, so that each looks as it does in the other figures.
    networks : the network of each data set, for the titles.

    Raises
    ------
    ValueError
        If a metric has two cells for one seed and point: their mean would be of two studies.
    """
    baselines = history[history["stage"] == "baseline"].dropna(subset="loss")
    cells = _counted(completed(history[history["stage"] == "finetune"])).dropna(subset="loss")
    cells = cells.assign(scratch=cells["metric"].isin([SCRATCH]))
    if baselines.empty and cells["ratio"].isna().all():
        return said("No cell has told its losses, so there is no training to draw.")
    chosen = of_smallest_ratio(cells, _PANEL) if ratio is None else cells[cells["ratio"] == ratio]
    twice = chosen[chosen.duplicated([*_PANEL, "metric", "seed", "epoch"])]
    if len(twice):
        first = twice.iloc[0]
        raise ValueError(
            f"{first['metric']} has two trainings for {first['dataset']}, seed {first['seed']}, "
            f"{first['budget']}, ratio {first['ratio']:g}; select cells until it has one"
        )
    panels = [
        (dataset, part, rows)
        for dataset in sorted({*baselines["dataset"].dropna(), *chosen["dataset"].dropna()})
        for part, rows in _parts(dataset, baselines, chosen)
    ]
    if not panels:
        return said(f"No cell of ratio {ratio:g} has told its losses.")
    most = max(sum(name == dataset for name, _, _ in panels) for dataset, _, _ in panels)
    titles = [
        ", ".join(filter(None, [dataset, networks.get(dataset), part]))
        for dataset, part, _ in panels
    ]
    height = _HEIGHT + title_room(titles, _WIDTH - 0.5)
    figure, axes = grid(len(panels), _WIDTH, height, even_columns(most))
    drawn = chosen["metric"].dropna().unique()
    styles = looks([*metrics, *drawn])
    for (_, part, rows), title, place in zip(panels, titles, axes, strict=True):
        set_title(place, title, _WIDTH - 0.5)
        if part == "baselines":
            for key, curve in rows.groupby("baseline_key"):
                _curve(place, curve.set_index("epoch")["loss"], str(key), INK)
        else:
            _metrics(place, rows, styles)
        _limits(place)
    outer(axes, "epoch", "training loss, nats")
    if len(drawn):
        handles = metric_handles({name: look for name, look in styles.items() if name in drawn})
        legend_below(figure, handles, free=0)
    return figure


def _limits(axes: Axes) -> None:
    """From zero to above the highest loss, and whole epochs even where there is only one."""
    highest, last = axes.dataLim.y1, axes.dataLim.x1
    axes.set_ylim(0, 1.08 * highest if highest > 0 else 1)
    aside = _ASIDE * max(last, 2)
    axes.set_xlim(1 - aside, last + aside)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=7))


def _counted(cells: pd.DataFrame) -> pd.DataFrame:
    """The epochs of fine-tuning, numbered through all steps of an iterative schedule."""
    ordered = cells.sort_values(["key", "step", "epoch"])
    through = ordered.groupby("key").cumcount() + 1
    return ordered.assign(epoch=ordered["epoch"].where(ordered["step"].isna(), through))


def _parts(
    dataset: str, baselines: pd.DataFrame, cells: pd.DataFrame
) -> list[tuple[str, pd.DataFrame]]:
    own = baselines[baselines["dataset"] == dataset]
    parts = [("baselines", own)] if len(own) else []
    groups = [rows for _, rows in cells[cells["dataset"] == dataset].groupby(_PANEL, dropna=False)]
    groups.sort(key=lambda rows: scope_order(rows.iloc[0]))
    for rows in groups:
        first, ratio = rows.iloc[0], rows["ratio"].iloc[0]
        if first["scratch"]:
            recipe, training = [], "training from scratch"
        else:
            recipe = varied_words(first, cells[~cells["scratch"]], ["finetune"])
            training = "fine-tuning"
        at = f"{training} at {ratio:g} {counted_name(first['ratio_of'])}"
        parts.append((", ".join([*recipe, *point_words(first, cells), at]), rows))
    return parts


def _metrics(axes: Axes, rows: pd.DataFrame, metrics: dict[str, Look]) -> None:
    for at, (metric, look) in enumerate(metrics.items()):
        curve = rows[rows["metric"] == metric].groupby("epoch")["loss"].mean()
        if len(curve):
            _curve(axes, curve, metric, look.colour, look, f"metric{at}-training")


def _curve(
    axes: Axes,
    curve: pd.Series,
    label: str,
    colour: str,
    look: Look | None = None,
    gid: str = "baseline",
) -> None:
    (line,) = axes.plot(curve.index.to_numpy(float), curve.to_numpy(float), color=colour)
    line.set(linewidth=1.3, label=label, gid=gid)
    if look is not None:
        line.set_linestyle(look.dash or "-")
    # A single epoch is a point, which no line shows.
    if len(curve) == 1:
        line.set(marker=look.marker if look else "o", markersize=4)


@report_figure(
    "training",
    "Training",
    "Training loss of the baselines, a line a seed, and during fine-tuning, or training from "
    "scratch, at the smallest ratio of each panel, mean over the seeds. The epochs of an iterative "
    "schedule are counted through its steps.",
    position=60,
)
def _in_report(tables: SweepTables) -> Figure:
    history, good = tables.history, comparable(tables.frame)
    check_one_study(good, _PLAIN)
    check_one_study(good, FINETUNING, ["finetune"])
    told = history["stage"].eq("baseline") | history["key"].isin(good["key"])
    return training_curves(history[told], metrics=good["metric"], networks=networks_of(good))
