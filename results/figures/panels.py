"""What belongs into one panel, and figures of many panels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.analysis.study import STUDY, beside_scratch, check_alike
from results.storage.schema import UNPRUNED

PANEL = [*STUDY, "scope", "budget", "normalisation"]
"""Columns in which all cells of a panel agree."""

_SCOPES = ("local", "global", "widths_of")
_WORDS = {
    "width": "width {:g}",
    "train_images": "{:,} images",
    "test_images": "{:,} test images",
    "epochs": "{:,} epochs",
    "baseline_images": "of {:,} images",
    "finetune_epochs": "{:,} epochs of fine-tuning",
    "finetune_images": "on {:,} images",
    "min_channels": "at least {} channels",
    "min_channels_fraction": "at least {:g} of the channels",
    "round_to": "multiples of {}",
}
_COLUMNS = 3
_LEAST_WIDTH = 6.4
LETTER = 0.07
"""Inches that a letter takes on average."""


@dataclass(frozen=True)
class Panel:
    """The cells that are ok of one study, budget and normalisation, and what to call them."""

    title: str
    rows: pd.DataFrame

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of another table that belong to this panel."""
        first, chosen = self.rows.iloc[0], pd.Series(True, index=table.index)
        for name in PANEL:
            wanted = first[name]
            same = table[name].isna() if pd.isna(wanted) else table[name] == wanted
            chosen &= same.fillna(False).astype(bool)
        return table[chosen]


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """The pruned cells that are ok, with networks trained from scratch beside what they control.

    Raises
    ------
    ValueError
        If cells of one study differ in something that no column of a study shows.
    """
    cells = frame[(frame["status"] == "ok") & (frame["metric"] != UNPRUNED)]
    check_alike(cells)
    return beside_scratch(cells)


def check_one_study(cells: pd.DataFrame, columns: Iterable[str]) -> None:
    """Refuses several studies of one data set, for figures that average over a data set.

    Parameters
    ----------
    cells : what `comparable` returned.
    columns : those of a study, such as `STUDY`.

    Raises
    ------
    ValueError
        Naming the data set, the column and two of its values.
    """
    for dataset, rows in cells.groupby("dataset"):
        for name in columns:
            values = rows[name].drop_duplicates()
            if len(values) > 1:
                raise ValueError(
                    f"the cells of {dataset} are of several studies: {name} is {values.iloc[0]} "
                    f"and {values.iloc[1]}; this figure averages over a data set, so select one"
                )


def panels(cells: pd.DataFrame) -> list[Panel]:
    """One panel for each study, scope, budget and normalisation, local before global.

    Parameters
    ----------
    cells : what `comparable` returned.
    """
    found = [
        Panel(_title(rows.iloc[0], cells), rows) for _, rows in cells.groupby(PANEL, dropna=False)
    ]
    return sorted(found, key=lambda panel: _order(panel.rows.iloc[0]))


def study_words(
    row: pd.Series, everything: pd.DataFrame, names: Iterable[str] = STUDY
) -> list[str]:
    """The data set of a row, and what else of these columns tells it from others of the set."""
    others = everything[everything["dataset"] == row["dataset"]]
    words = [str(row["dataset"])]
    for name in names:
        if name != "dataset" and _vary(others[name]) and pd.notna(row[name]):
            words.append(_WORDS.get(name, "{}").format(row[name]))
    return words


def point_words(row: pd.Series, everything: pd.DataFrame) -> list[str]:
    """The scope of a row, its budget and normalisation where there are several of them."""
    alike = everything[everything["scope"] == row["scope"]]
    several = _vary(alike["budget"]) or row["scope"] == "widths_of"
    words = [str(row["budget"] if several else row["scope"])]
    normalisation = row["normalisation"]
    named = _vary(alike["normalisation"]) or normalisation != "none"
    if named and pd.notna(normalisation):
        words.append("raw scores" if normalisation == "none" else str(normalisation))
    return words


def scope_order(row: pd.Series) -> tuple[str, ...]:
    """What rows of one study are ordered by: local, then global, raw scores first."""
    scope = row["scope"]
    at = _SCOPES.index(scope) if scope in _SCOPES else len(_SCOPES)
    normalisation = str(row["normalisation"])
    return str(at), str(row["budget"]), str(normalisation != "none"), normalisation


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
    words = [*study_words(row, everything), *point_words(row, everything)]
    # Ratios of channels stand beside ratios of parameters in one report.
    if row.get("ratio_of") == "channels":
        words.append("ratio of channels")
    return ", ".join(words)


def _order(row: pd.Series) -> tuple[str, ...]:
    return *(str(row[name]) for name in STUDY), *scope_order(row)
