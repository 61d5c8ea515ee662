"""The registry of the report's figures.

To add a figure, write a function from `SweepTables` to a matplotlib Figure and put
`@report_figure(...)` above it: every report then has it. The function returns None for a sweep
that has nothing of what the figure shows; that report is without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from results.analysis.sweep_tables import SweepTables

Draw = Callable[[SweepTables], Figure | None]


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    Attributes
    ----------
    name : for files and links.
    title, caption : what it shows, and how it is computed.
    position : figures with smaller ones come first.
    draw : may raise ValueError where the cells cannot be compared; None leaves the figure out.
    """

    name: str
    title: str
    caption: str
    position: int
    draw: Draw


REPORT_FIGURES: dict[str, ReportFigure] = {}
"""Every figure of the report by its name."""


def report_figure(
    name: str, title: str, caption: str, position: int = 1_000
) -> Callable[[Draw], Draw]:
    """Registers a function as a figure of the report; see `ReportFigure`."""

    def register(draw: Draw) -> Draw:
        if name in REPORT_FIGURES:
            raise ValueError(f"a figure '{name}' is already registered")
        REPORT_FIGURES[name] = ReportFigure(name, title, caption, position, draw)
        return draw

    return register


def in_order() -> list[ReportFigure]:
    """The figures in the order of the report."""
    return sorted(REPORT_FIGURES.values(), key=lambda figure: figure.position)
