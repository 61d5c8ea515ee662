"""What belongs into one panel, and figures of many panels."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.analysis.compensation import compensation_name
from results.analysis.networks import NETWORK, NETWORK_WORDS, network_name, network_names
from results.analysis.protocols import (
    finetune_name,
    schedule_name,
    target_name,
    target_names,
)
from results.analysis.scratch import beside_scratch
from results.analysis.study import SETTING, STUDY, check_alike, completed, same
from results.figures.style import GRID, INK
from results.storage.plan_file import DEFAULT_BUDGETS
from results.storage.schema import NO_COMPENSATION, ONE_SHOT, UNPRUNED

PANEL = [*STUDY, *SETTING]
"""Columns in which all cells of a panel agree."""

_SCOPES = ("local", "global", "widths_of")
_WORDS: dict[str, Callable[[Any], str]] = {
    **NETWORK_WORDS,
    "width": "width {:g}".format,
    "train_images": "{:,} images".format,
    "test_images": "{:,} test images".format,
    "epochs": "{:,} epochs".format,
    "baseline_images": "of {:,} images".format,
    "finetune": finetune_name,
    "schedule": schedule_name,
    "finetune_epochs": "{:,} epochs of fine-tuning".format,
    "finetune_images": "on {:,} images".format,
    "min_channels": "at least {:g} channels".format,
    "min_channels_fraction": "at least {:g} of the channels".format,
    "round_to": "multiples of {:g}".format,
}
_PROCEDURE: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("compensation", NO_COMPENSATION, compensation_name),
    ("schedule", ONE_SHOT, schedule_name),
)
_OPTIONS = re.compile(r"(?<=\S)\(")
NO_BREAK = "\N{NO-BREAK SPACE}"
_COLUMNS = 3
_LEAST_WIDTH = 6.4
LETTER = 0.07
"""Inches that a letter takes on average."""
_BOLD = 0.083
"""Inches that a letter of a title takes on average."""
TITLE_LINE = 0.17
"""Inches from one line of a title to the next."""


@dataclass(frozen=True)
class Panel:
    """The cells that are ok of one study and setting, with a title."""

    title: str
    rows: pd.DataFrame

    @property
    def ratio_of(self) -> str:
        """What the target ratios count."""
        return str(self.rows["ratio_of"].iloc[0])

    @property
    def target(self) -> str:
        """The same in words: `ratio of parameters`, `ratio of MACs` or `ratio of channels`."""
        return target_name(self.ratio_of)

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of another table that belong to this panel."""
        return table[same(table, self.rows.iloc[0], PANEL)]


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """The pruned cells that are ok, with networks trained from scratch beside what they control.

    Raises
    ------
    ValueError
        If cells of one study differ in something that no column of a study shows.
    """
    cells = frame[(frame["status"] == "ok") & (frame["metric"] != UNPRUNED)]
    cells = completed(cells)
    check_alike(cells)
    return beside_scratch(cells)


def panels(cells: pd.DataFrame) -> list[Panel]:
    """One panel for each study and setting, local first.

    Parameters
    ----------
    cells : what `comparable` returned.
    """
    found = [
        Panel(_title(rows.iloc[0], cells), rows) for _, rows in cells.groupby(PANEL, dropna=False)
    ]
    return sorted(found, key=lambda panel: _order(panel.rows.iloc[0]))


def of_smallest_ratio(cells: pd.DataFrame, names: Iterable[str] = PANEL) -> pd.DataFrame:
    """The cells of the smallest ratio of each panel, which has one value of each of these names."""
    smallest = cells.groupby(list(names), dropna=False)["ratio"].transform("min")
    return cells[cells["ratio"] == smallest]


def study_words(
    row: pd.Series, everything: pd.DataFrame, names: Iterable[str] = STUDY
) -> list[str]:
    """The data set of a row, and what else of these columns tells it from others of the set."""
    others = everything[everything["dataset"] == row["dataset"]]
    return [str(row["dataset"]), *varied_words(row, others, [n for n in names if n != "dataset"])]


def varied_words(row: pd.Series, others: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """The row's values in these columns of a study, as far as they tell it from the others.

    Only the others that agree in the earlier columns count: if two networks differ in their
    groups too, the network tells enough.
    """
    words = []
    for name in names:
        if _vary(others[name]):
            words.append("" if pd.isna(row[name]) else _WORDS.get(name, str)(row[name]))
            others = others[same(others, row, [name])]
    return [word for word in words if word]


def titled_study(
    row: pd.Series, everything: pd.DataFrame, names: Iterable[str] = STUDY
) -> list[str]:
    """The same words for a title, which always names the network."""
    alike = everything[same(everything, row, ["dataset", *NETWORK])]
    others = [name for name in names if name not in ("dataset", *NETWORK)]
    first = [str(row["dataset"]), network_name(row)]
    return [*filter(None, first), *varied_words(row, alike, others)]


def networks_of(cells: pd.DataFrame) -> dict[str, str]:
    """The network of each data set, for cells of one study for each data set."""
    names = network_names(cells).groupby(cells["dataset"]).first()
    return {str(dataset): str(name) for dataset, name in names.items() if name}


def set_title(axes: Axes, title: str, width: float) -> None:
    """Gives a panel of so many inches a title, in as many lines as it needs."""
    axes.set_title("\n".join(title_lines(title, width)))


def title_room(titles: Iterable[str], width: float) -> float:
    """Inches that the second and further lines of titles above panels of this width need."""
    lines = [len(title_lines(title, width)) for title in titles]
    return TITLE_LINE * (max(lines, default=1) - 1)


def title_lines(title: str, width: float) -> list[str]:
    """The lines of a title above a panel of so many inches, broken at commas where they can be.

    A part that is longer than a line is broken at its spaces, and before its options in brackets.
    """
    letters = max(int(width / _BOLD), 1)
    parts = (
        part.replace(" ", NO_BREAK) if len(part) < letters else _OPTIONS.sub(" (", part)
        for part in title.split(", ")
    )
    lines = wrap(", ".join(parts), letters, break_on_hyphens=False)
    return [line.replace(NO_BREAK, " ") for line in lines]


def point_words(row: pd.Series, everything: pd.DataFrame) -> list[str]:
    """The scope of a row; its budget, normalisation, compensation and schedule where these vary."""
    return [*rule_words(row, everything), *procedure_words(row, everything)]


def rule_words(row: pd.Series, everything: pd.DataFrame) -> list[str]:
    """The scope of a row, or its budget if that is not the only and usual one; normalisation."""
    scope, budget = row["scope"], row["budget"]
    alike = everything[everything["scope"] == scope]
    usual = pd.isna(budget) or DEFAULT_BUDGETS.get(scope) == budget
    words = [str(scope if usual and not _vary(alike["budget"]) else budget)]
    normalisation = row["normalisation"]
    named = _vary(alike["normalisation"]) or normalisation != "none"
    if named and pd.notna(normalisation):
        words.append("raw scores" if normalisation == "none" else str(normalisation))
    return words


def procedure_words(row: pd.Series, everything: pd.DataFrame) -> list[str]:
    """The compensation and schedule of a row, unless it and all others have the usual ones."""
    return [
        words(row[name])
        for name, usual, words in _PROCEDURE
        if pd.notna(row[name]) and (row[name] != usual or _vary(everything[name]))
    ]


def target_words(row: pd.Series, everything: pd.DataFrame) -> list[str]:
    """What the ratio of a row counts, unless that of it and all others counts parameters."""
    counted = row["ratio_of"]
    named = _vary(everything["ratio_of"].dropna()) or counted != "parameters"
    return [target_name(counted)] if named and pd.notna(counted) else []


def ratio_words(cells: pd.DataFrame) -> str:
    """What the target ratios of all rows count, such as `ratio of MACs`; `ratio` if they differ."""
    return target_names(cells["ratio_of"].dropna().unique())


def scope_order(row: pd.Series) -> tuple[str, ...]:
    """What rows of one study are ordered by: local, then global, with the usual values first."""
    scope = row["scope"]
    at = _SCOPES.index(scope) if scope in _SCOPES else len(_SCOPES)
    normalisation = str(row["normalisation"])
    words = [str(at), str(row["budget"]), str(normalisation != "none"), normalisation]
    return *words, *procedure_order(row)


def procedure_order(row: pd.Series) -> tuple[str, ...]:
    """What rows of one budget are ordered by: without compensation and in one shot first."""
    told = [(str(row[name]), usual) for name, usual, _ in _PROCEDURE]
    return tuple(word for value, usual in told for word in (str(value != usual), value))


def grid(
    count: int, width: float, height: float, columns: int = _COLUMNS, names: Iterable[str] = ()
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, each so many inches wide and high.

    Parameters
    ----------
    columns : panels beside each other, if there are as many.
    names : what is written to the left of the first panel of each line, to make room for it.
    """
    columns = min(columns, count)
    lines = math.ceil(count / columns)
    room = LETTER * max(map(len, names), default=0)
    size = max(width * columns + room, _LEAST_WIDTH), height * lines + 0.5
    figure = Figure(figsize=size, layout="constrained")
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.03)  # type: ignore[call-arg]
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for empty in axes[count:]:
        empty.set_axis_off()
    return figure, list(axes[:count])


def columns_of(found: list[Panel]) -> int:
    """As many columns as the first study has panels, so that studies start a line each."""
    names = [tuple(map(str, panel.rows[list(STUDY)].iloc[0])) for panel in found]
    counts = {names.count(name) for name in names}
    if counts == {1} or len(counts) > 1:
        return _COLUMNS
    return even_columns(counts.pop())


def even_columns(count: int) -> int:
    """Columns for so many panels, such that their lines are as full as can be."""
    return math.ceil(count / math.ceil(count / _COLUMNS))


def striped(axes: Axes, names: list[str]) -> None:
    """Makes a line for each name, the first one lowest, and a vertical one at 0."""
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    axes.grid(False, axis="y")
    for line in range(1, len(names), 2):
        axes.axhspan(line - 0.5, line + 0.5, color=GRID, alpha=0.35, linewidth=0, zorder=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)


def outer(axes: list[Axes], x: str = "", y: str = "") -> None:
    """Labels the axes of the lowest panels of each column, and of the first of each line."""
    for place in axes:
        spec = place.get_subplotspec()
        assert spec is not None
        if y and spec.is_first_col():
            place.set_ylabel(y)
        beneath = spec.rowspan.stop
        below = [
            other
            for other in axes
            if (found := other.get_subplotspec()) is not None
            and found.colspan.start == spec.colspan.start
            and found.rowspan.start >= beneath
        ]
        if x and not below:
            place.set_xlabel(x)


def _vary(column: pd.Series) -> bool:
    return len(column.drop_duplicates()) > 1


def _title(row: pd.Series, everything: pd.DataFrame) -> str:
    words = [*titled_study(row, everything), *point_words(row, everything)]
    return ", ".join([*words, *target_words(row, everything)])


def _order(row: pd.Series) -> tuple[str, ...]:
    return *(str(row[name]) for name in STUDY), *scope_order(row)
