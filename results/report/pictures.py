"""The figures of a report, each with what it shows and how it is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from results import figures
from results.analysis.sweep_tables import SweepTables
from results.figures.style import said
from results.report.tables import REFERENCE


@dataclass(frozen=True)
class Picture:
    """A figure with its name (for files), title and caption."""

    name: str
    title: str
    caption: str
    figure: Figure


def pictures(sweep: SweepTables) -> list[Picture]:
    """All figures, in the order in which a reader wants them."""
    frame = sweep.frame
    good = frame[frame["status"] == "ok"]
    told = sweep.history["stage"].eq("baseline") | sweep.history["key"].isin(good["key"])
    drawn: list[tuple[str, str, str, Callable[[], Figure]]] = [
        (
            "accuracy",
            "Accuracy against size",
            "Mean top-1 accuracy on the test images after fine-tuning, over the achieved parameter "
            "ratio. Bands are 95 % t intervals of the mean over the seeds, or reach from one seed "
            "to the other where there are two. Hollow points have a layer at its floor in at least "
            "one seed; the dashed line is the unpruned network.",
            lambda: figures.accuracy(frame),
        ),
        (
            "differences",
            f"Differences to {REFERENCE}",
            f"Accuracy minus that of {REFERENCE} in percentage points, paired by the baseline that "
            "both prune, at three of the ratios. Bars are 95 % t intervals of the mean difference, "
            "not corrected for their number; one that ends in an arrow goes on beyond the axis.",
            lambda: figures.differences(frame, REFERENCE),
        ),
        (
            "pareto",
            "Accuracy against cost",
            "Mean accuracy over parameters, multiply-accumulates and, where measured, latency. "
            "Coloured points are on the Pareto front: no other network costs no more and is at "
            "least as accurate. Fronts are made of means; they know nothing of intervals.",
            lambda: figures.pareto_fronts(frame),
        ),
        (
            "widths",
            "What is left of each layer",
            "Channels kept in each convolution at the smallest ratio, mean over the seeds. Local "
            "budgets fix the widths, global ones let the metric decide.",
            lambda: figures.kept_widths(frame),
        ),
        (
            "agreement",
            "How alike metrics rank channels",
            "Kendall's tau-b between the scores of two metrics within a layer, averaged over "
            "layers and baselines: 1 is the same order, 0 none in common, \N{MINUS SIGN}1 the "
            "opposite.",
            lambda: figures.agreement(sweep.agreement),
        ),
        (
            "training",
            "Training",
            "Training loss of the baselines, a line a seed, and during fine-tuning at the smallest "
            "ratio, mean over the seeds.",
            lambda: figures.training_curves(sweep.history[told], metrics=good["metric"]),
        ),
    ]
    return [Picture(name, title, text, _drawn(draw)) for name, title, text, draw in drawn]


def _drawn(draw: Callable[[], Figure]) -> Figure:
    """The figure, or one that says why the cells cannot be put side by side."""
    try:
        return draw()
    except ValueError as error:
        return said(str(error))
