"""Which of many metrics a panel shows in colour, and the legend that names them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from results.analysis.comparison import REFERENCE
from results.figures.style import CONTROL_MARKERS, REST, Look, behind, forwarded

_ALL, _BEST = 6, 3
# Points from a panel to its legend, letters of a name that leave room for another, and inches.
_BELOW, _SHORT, _LINE = 34, 21, 0.17


def best(points: pd.DataFrame) -> pd.Series[float]:
    """The mean accuracy over the ratios of each metric that has all of them, highest first."""
    wide = points.pivot_table("mean", "metric", "ratio").dropna()
    return wide.mean(axis="columns").sort_values(ascending=False, kind="stable")


def coloured(points: pd.DataFrame, forward: Iterable[str] = ()) -> list[str]:
    """The metrics of a panel that it shows in colour, the highest mean first.

    These are all metrics if there are at most six. Else they are the best three, the controls, the
    reference of the differences and those that are brought forward; all others are grey. If fewer
    than three metrics have all ratios, the mean is over the ratios that all metrics share.

    Parameters
    ----------
    points : rows of `results.figures.accuracy.accuracy_points` of one panel.
    forward : names of metrics.
    """
    names = _ranked(points)
    if len(names) <= _ALL:
        return names
    wanted = {*names[:_BEST], *CONTROL_MARKERS, REFERENCE, *forward}
    return [name for name in names if name in wanted]


def _ranked(points: pd.DataFrame) -> list[str]:
    """All metrics, the highest mean first; those that lack ratios last, if three have all."""
    wide = points.pivot_table("mean", "metric", "ratio")
    shared = wide.dropna(axis="columns")
    # Without any shared ratio, each has the mean of its own.
    means = (wide if shared.empty else shared).mean(axis="columns")
    ranked = means.sort_values(ascending=False, kind="stable")
    whole = best(points)
    first = whole.index if len(whole) >= _BEST else []
    return [str(name) for name in dict.fromkeys([*first, *ranked.index])]


def known(metrics: Iterable[str], forward: Sequence[str]) -> None:
    """Refuses to bring metrics forward that are not there.

    Raises
    ------
    ValueError
        With the names of those that are.
    """
    names = sorted(set(metrics))
    if absent := [name for name in forward if name not in names]:
        raise ValueError(f"forward has {absent[0]!r}; allowed: {', '.join(names)}")


def any_grey(shown: Iterable[Sequence[str]], drawn: Iterable[pd.DataFrame]) -> bool:
    """Whether some panel has more metrics than it shows in colour."""
    return any(
        len(names) < points["metric"].nunique() for names, points in zip(shown, drawn, strict=True)
    )


def panel_looks(
    metrics: Mapping[str, Look], shown: Sequence[str], forward: Sequence[str]
) -> dict[str, Look]:
    """The looks of a panel: grey for what it does not show in colour, thick for what is forward."""
    found = {name: look if name in shown else behind(look) for name, look in metrics.items()}
    return found | {name: forwarded(metrics[name]) for name in forward}


def name_coloured(
    axes: Iterable[Axes], metrics: Mapping[str, Look], shown: Iterable[Sequence[str]]
) -> None:
    """Names the coloured metrics below each panel and its label."""
    for place, names in zip(axes, shown, strict=True):
        entries = metric_handles({name: metrics[name] for name in names})
        below = ScaledTranslation(0, -_BELOW / 72, place.figure.dpi_scale_trans)
        legend = place.legend(
            handles=entries,
            loc="upper left",
            bbox_to_anchor=(0, 0),
            bbox_transform=place.transAxes + below,
            borderaxespad=0,
            fontsize=8,
            ncols=_columns(names),
        )
        legend.set_gid("names-below")


def legend_room(shown: Iterable[Sequence[str]]) -> float:
    """Inches that `name_coloured` needs below a panel."""
    return max(_LINE * math.ceil(len(names) / _columns(names)) for names in shown)


def _columns(names: Sequence[str]) -> int:
    return 2 if max(map(len, names)) <= _SHORT else 1


def metric_handles(metrics: Mapping[str, Look]) -> list[Line2D]:
    """An entry of a legend for each metric."""
    return [
        Line2D(
            [], [], color=look.colour, linestyle=look.dash or "-", marker=look.marker, label=name
        )
        for name, look in metrics.items()
    ]


def grey_handle(words: str) -> Line2D:
    """The entry of a legend for the curves that are not in colour."""
    return Line2D([], [], color=REST, linewidth=1, label=words)
