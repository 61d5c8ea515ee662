"""The tables of a report, as text that HTML and Markdown both show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from results.analysis.accuracy import accuracy_table
from results.analysis.allocation import selection_against_allocation
from results.analysis.comparison import REFERENCE, paired_difference
from results.analysis.equal_macs import at_equal_macs
from results.analysis.intervals import LEVEL
from results.analysis.pareto import FRONT, pareto
from results.analysis.protocols import counted_name
from results.analysis.ranking import SETTING, rank_metrics
from results.analysis.study import FLOOR, POINT, PROCEDURE, same
from results.figures.panels import (
    Panel,
    comparable,
    panels,
    point_words,
    procedure_words,
    rule_words,
    study_words,
    target_words,
    varied_words,
)
from results.formatting import DASH, between, number, percent, probability, several, signed
from results.storage.schema import UNPRUNED


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table; `detail` and `below` are smaller, `strong` bold."""

    text: str
    detail: str = ""
    below: str = ""
    strong: bool = False
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a title; the columns from `text_columns` on hold numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    text_columns: int = 1
    note: str = ""


def by_target(panel: Panel) -> str:
    """The head of the first column, above metrics, where the others are target ratios."""
    return f"metric, by {panel.target}"


def size_entries(row: pd.Series) -> tuple[Entry, Entry]:
    """The parameters and the MACs that are left, and those of what a network is compared with."""
    return _left(row, "parameter_ratio"), _left(row, "macs_ratio")


def ratio_entry(row: pd.Series) -> Entry:
    """The target ratio of a row, with what it counts."""
    counted = row["ratio_of"]
    return Entry(f"{row['ratio']:g}", "" if pd.isna(counted) else counted_name(counted))


SIZES = ("parameters left", "MACs left")
"""The heads of the columns of `size_entries`."""


def _left(row: pd.Series, name: str) -> Entry:
    own, other = number(row[name]), number(row.get(f"{name}_reference", row[name]))
    return Entry(own, "" if own == other else f"reference {other}")


def accuracies(cells: pd.DataFrame) -> list[Table]:
    """Test accuracy after fine-tuning: a table for each panel, metrics by ratios."""
    table = accuracy_table(comparable(cells))
    seeds = table["seeds"].max() if len(table) else 0

    def entry(row: pd.Series, best: float) -> Entry:
        marks = "*" if row["collapsed"] else ""
        half = (row["high"] - row["low"]) / 2
        detail = "" if pd.isna(half) else f"± {percent(half)}"
        if row["seeds"] < seeds:
            detail = f"{detail} ({row['seeds']})".strip()
        return Entry(percent(row["mean"]) + marks, detail, strong=row["mean"] == best)

    table = table.assign(error=100 * table["test_error"])
    return _by_panel(cells, table, "mean", entry)


def differences(cells: pd.DataFrame, reference: str = REFERENCE) -> list[Table]:
    """Differences to the reference after fine-tuning: a table for each panel."""
    if reference not in set(comparable(cells)["metric"]):
        return []
    table = paired_difference(comparable(cells), None, reference)
    return _by_panel(cells, _measured(table), "difference_points", _difference)


def equal_macs(cells: pd.DataFrame, reference: str = REFERENCE) -> list[Table]:
    """Differences to the reference at equal multiply-accumulates: a table for each panel."""
    if reference not in set(comparable(cells)["metric"]):
        return []
    table = at_equal_macs(comparable(cells), None, reference)
    return _by_panel(cells, _measured(table), "difference_points", _difference, "macs_ratio")


def _measured(table: pd.DataFrame) -> pd.DataFrame:
    known = table.dropna(subset="difference_points")
    return known.assign(error=known["test_error_points"])


def _difference(row: pd.Series, _: float) -> Entry:
    sure = bool(row["p_holm"] < 1 - LEVEL)
    detail = between(row["low_points"], row["high_points"])
    return Entry(signed(row["difference_points"]), detail, strong=sure)


def _by_panel(
    cells: pd.DataFrame,
    table: pd.DataFrame,
    column: str,
    entry: Callable[[pd.Series, float], Entry],
    by: str = "ratio",
) -> list[Table]:
    """A table for each panel: a line for each metric, a column for each value of `by`."""
    made = []
    for panel in panels(comparable(cells)):
        rows = panel.of(table)
        places = sorted(rows[by].unique())
        best = rows.groupby(by)[column].max()
        heads = {place: _head(rows[rows[by] == place], place, by) for place in places}
        lines = []
        for metric, own in rows.groupby("metric"):
            found = {}
            for _, row in own.iterrows():
                shown = entry(row, best[row[by]])
                below = _parameters(row) if by == "macs_ratio" else _sizes(row, heads[row[by]])
                found[row[by]] = replace(shown, below=below)
            lines.append((Entry(str(metric)), *(found.get(place, Entry(DASH)) for place in places)))
        if lines:
            titles = (by_target(panel) if by == "ratio" else "metric", *heads.values())
            made.append(Table(panel.title, titles, tuple(lines), note=_shared_images(rows)))
    return made


def _head(rows: pd.DataFrame, place: float, by: str) -> str:
    """The value of a column, with the size of all its networks, or of all references."""
    if by == "macs_ratio":
        return f"MACs {place:g}"
    own = {_size(row) for _, row in rows.iterrows()}
    compared = _compared(rows.columns)
    other = {_size(row, "_reference") for _, row in rows.iterrows()} if compared else own
    if len(own) == 1 and own == other:
        return f"{place:g} ({own.pop()})"
    alike = len(other) == 1 and compared
    return f"{place:g} (reference: {other.pop()})" if alike else f"{place:g}"


def _sizes(row: pd.Series, head: str) -> str:
    """The parameters and MACs that are left, as far as the head of the column does not say them."""
    if "(parameters" in head:
        return ""
    if not _compared(row.index) or "(reference" in head:
        return _size(row)
    return f"{_size(row)}; reference: {_size(row, '_reference')}"


def _parameters(row: pd.Series) -> str:
    """The parameters that are left of two networks with equal MACs."""
    own, other = (number(row[name]) for name in ("parameter_ratio", "parameter_ratio_reference"))
    return f"parameters {own}, reference {other}"


def _size(row: pd.Series, of: str = "") -> str:
    parameters, macs = (number(row[f"{name}{of}"]) for name in ("parameter_ratio", "macs_ratio"))
    return f"parameters {parameters}, MACs {macs}"


def _compared(names: pd.Index) -> bool:
    return "macs_ratio_reference" in names


def _shared_images(rows: pd.DataFrame) -> str:
    """What the finite number of test images adds to the intervals over seeds."""
    images, error = rows["test_images"].dropna(), rows["error"].max()
    if images.empty or pd.isna(error):
        return ""
    return (
        f"All seeds share the same {images.iloc[0]:,} test images. Their number adds a standard "
        f"error of at most {number(error)} points, which is in no interval."
    )


def ranks(cells: pd.DataFrame) -> list[Table]:
    """Mean ranks of the metrics, a table for each setting."""
    table = rank_metrics(cells)
    made = []
    for _, rows in table.groupby(list(SETTING), dropna=False, sort=False):
        first = rows.iloc[0]
        others = varied_words(first, table, [name for name in SETTING if name not in POINT])
        title = ", ".join([*point_words(first, table), *target_words(first, table), *others])
        lines = tuple(
            (
                Entry(str(row["metric"])),
                Entry(number(row["mean_rank"])),
                Entry(percent(row["accuracy"])),
                *size_entries(row),
            )
            for _, row in rows.iterrows()
        )
        heads = ("metric", "mean rank", "accuracy, %", *SIZES)
        made.append(Table(title, heads, lines, note=_rank_note(first)))
    return made


def _rank_note(row: pd.Series) -> str:
    dropped = f", {row['dropped']} left out since a cell is missing" if row["dropped"] else ""
    text = f"{several(row['blocks'], 'baseline')}{dropped}"
    if row["note"]:
        return f"{text}; {row['note']}."
    return (
        f"{text}. Friedman's chi-square {number(row['friedman'])}, p {probability(row['p'])}; mean "
        f"ranks that differ by more than {number(row['critical_difference'])} are different."
    )


def allocations(cells: pd.DataFrame) -> Table | None:
    """Which part of a global ranking's accuracy is due to its channels, and which to widths."""
    table = selection_against_allocation(cells)
    if table.empty:
        return None
    lines = tuple(
        (
            Entry(", ".join([*study_words(row, table), *procedure_words(row, table)])),
            Entry(str(row["normalisation"])),
            Entry(str(row["widths_of"])),
            Entry(str(row["metric"])),
            Entry(str(row["effect"])),
            ratio_entry(row),
            Entry(signed(row["difference_points"]), between(row["low_points"], row["high_points"])),
            *size_entries(row),
            Entry(str(row["seeds"])),
            Entry(probability(row["p_holm"])),
        )
        for _, row in table.iterrows()
    )
    heads: tuple[str, ...] = ("data set", "normalisation", "widths of", "metric", "effect")
    heads += ("ratio", "difference, points", *SIZES, "seeds", "p (Holm)")
    return Table("", heads, lines, text_columns=5)


_FRONT_STUDY = [name for name in FRONT if name not in PROCEDURE]


def _front_words(row: pd.Series, everything: pd.DataFrame) -> list[str]:
    """The data set of a front, and what tells it from others of the set."""
    return [*study_words(row, everything, _FRONT_STUDY), *procedure_words(row, everything)]


def _front_rule(row: pd.Series, everything: pd.DataFrame) -> str:
    """The budget of a point, and its floor where points of other floors are on the same front."""
    if row["metric"] == UNPRUNED:
        return ""
    rivals = everything[same(everything, row, FRONT)]
    return ", ".join([*rule_words(row, everything), *varied_words(row, rivals, FLOOR)])


def front(cells: pd.DataFrame) -> Table | None:
    """The networks on the Pareto fronts of accuracy and parameters that have a pruned network."""
    table = pareto(cells, "parameters")
    table = table[table["on_front"]]
    pruned = (table["metric"] != UNPRUNED).groupby([table[name] for name in FRONT], dropna=False)
    table = table[pruned.transform("any")]
    if table.empty:
        return None
    everything = comparable(cells)
    lines = tuple(
        (
            Entry(", ".join(_front_words(row, everything))),
            Entry(str(row["metric"])),
            Entry(_front_rule(row, everything)),
            ratio_entry(row),
            Entry(number(row["parameters"], 0)),
            *size_entries(row),
            Entry(
                percent(row["accuracy"]),
                "" if pd.isna(row["low"]) else f"± {percent((row['high'] - row['low']) / 2)}",
            ),
            Entry(str(row["seeds"])),
        )
        for _, row in table.iterrows()
    )
    heads: tuple[str, ...] = ("data set", "metric", "budget", "ratio", "parameters", *SIZES)
    heads += ("accuracy, %", "seeds")
    return Table("", heads, lines, text_columns=3)
