"""One look for all figures: colours that colour-blind people tell apart, and how files are written.

Figures are made without pyplot, so that nothing global changes and no display is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, FAINT, SOFT, GRID, PAPER = "#1f2328", "#656d76", "#b6bfc9", "#d8dee4", "#ffffff"
REST = "#b6bfca"
"""As `SOFT`, but in a page a curve of it gets its own colour when it is brought forward."""

# Okabe and Ito's colours; their black is the text's and their yellow cannot be seen on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
Dash = tuple[float, tuple[float, ...]] | None
_DASHES: tuple[Dash, ...] = (
    None,
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
CONTROL_MARKERS = {"random": "o", "scratch": "s"}
"""What every metric has to beat is drawn in the colour of the text."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that all machines draw the same
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a $ in a name is a $
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 2.8,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "path",
    "svg.hashsalt": "prune-sweep",
}
_DOTS_PER_INCH = 160

Parameters = ParamSpec("Parameters")


@dataclass(frozen=True)
class Look:
    """How one metric is drawn, in every figure of a sweep alike; widths and sizes in points."""

    colour: str
    dash: Dash
    marker: str
    width: float = 1.5
    size: float = 4.0


def looks(metrics: Iterable[str]) -> dict[str, Look]:
    """A look for each metric, no two alike up to 24 metrics, in alphabetical order."""
    names = sorted(set(metrics))
    found = {
        name: Look(INK, (0, (2.5, 1.5)), CONTROL_MARKERS[name])
        for name in names
        if name in CONTROL_MARKERS
    }
    for at, name in enumerate(name for name in names if name not in CONTROL_MARKERS):
        dash = _DASHES[at // len(COLOURS) % len(_DASHES)]
        found[name] = Look(COLOURS[at % len(COLOURS)], dash, _MARKERS[at % len(_MARKERS)])
    return {name: found[name] for name in names}


def behind(look: Look) -> Look:
    """The look of a metric among many that are not in colour."""
    return replace(look, colour=REST, dash=None, width=0.9, size=2.5)


def forwarded(look: Look) -> Look:
    """The look of a metric that the reader asked for."""
    return replace(look, width=2.8, size=5.5)


def styled(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Makes a function draw in the house style, whatever the user's own settings."""

    @wraps(draw)
    def drawn(*arguments: Parameters.args, **options: Parameters.kwargs) -> Figure:
        with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": mpl.rcParams["backend"]}):
            return draw(*arguments, **options)

    return drawn


def say(axes: Axes, words: str) -> None:
    """Puts words where the data would be."""
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=FAINT, wrap=True
    )


def said(words: str) -> Figure:
    """A small figure that says why there is nothing to draw."""
    figure = Figure(figsize=(6.4, 1.6), layout="constrained")
    say(figure.add_subplot(), words)
    return figure


def save(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Writes a figure as PNG and as SVG; the same figure gives the same bytes.

    Parameters
    ----------
    path : where, without the suffix: `figures/accuracy` writes `figures/accuracy.png` and
        `figures/accuracy.svg`. The folder is created.

    Returns
    -------
    The paths of the PNG and of the SVG.
    """
    png, svg = Path(f"{path}.png"), Path(f"{path}.svg")
    png.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(png, dpi=_DOTS_PER_INCH, metadata={"Software": None})
        # Dates and random identifiers would make a new file of the same figure.
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return png, svg
