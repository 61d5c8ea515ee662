"""What figures say of the multiply-accumulates, or parameters, that are left."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

import pandas as pd
from matplotlib.axes import Axes

from results.analysis.study import macs_ratio
from results.figures.panels import NO_BREAK, title_lines
from results.figures.style import FAINT

_SIZE = 7.5
# Inches that a letter of this size takes on average, and points between lines.
_LETTER, _LINE = 0.058, 10


def titled(axes: Axes, title: str, words: str, width: float) -> None:
    """Gives a panel of so many inches a title, and smaller words between the two."""
    lines = wrap(words, max(int(width / _LETTER), 1))
    axes.set_title("\n".join(title_lines(title, width)), pad=5 + _LINE * len(lines))
    note = axes.annotate("\n".join(lines), (0, 1), (0, 4), "axes fraction", "offset points")
    note.set(fontsize=_SIZE, color=FAINT, verticalalignment="bottom", gid="macs")


def left_words(cells: pd.DataFrame, ratios: Sequence[float]) -> str:
    """What the metrics leave at some ratios of what these do not count, as a range over metrics.

    Parameters
    ----------
    cells : rows of one panel; means are over the seeds.

    Returns
    -------
    Text such as `MACs left: 0.02 to 0.94 at 0.3`, or `parameters left: ...` where the ratios count
    MACs; empty if nothing is known.
    """
    by_macs = (cells["ratio_of"] == "macs").all()
    left = parameters_left(cells) if by_macs else macs_left(cells)
    parts = []
    for ratio in ratios:
        means = left[left["ratio"] == ratio]["left"]
        if len(means):
            ends = list(dict.fromkeys(f"{value:.2f}" for value in (means.min(), means.max())))
            # No line breaks within a range.
            parts.append(
                " to ".join(ends).replace(" ", NO_BREAK) + f"{NO_BREAK}at{NO_BREAK}{ratio:g}"
            )
    return f"{'parameters' if by_macs else 'MACs'} left: {', '.join(parts)}" if parts else ""


def macs_left(cells: pd.DataFrame) -> pd.DataFrame:
    """`left` of each metric and ratio: a fraction of the MACs, mean over the rows that have it."""
    return _means(cells.assign(left=macs_ratio(cells)))


def parameters_left(cells: pd.DataFrame) -> pd.DataFrame:
    """The same of the parameters."""
    return _means(cells.assign(left=cells["parameter_ratio"].astype(float)))


def _means(cells: pd.DataFrame) -> pd.DataFrame:
    known = cells.dropna(subset="left")
    return known.groupby(["metric", "ratio"], as_index=False)["left"].mean()
