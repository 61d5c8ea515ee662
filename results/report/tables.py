"""The tables of a report, as text that HTML and Markdown both show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from results.analysis.accuracy import accuracy_table
from results.analysis.allocation import selection_against_allocation
from results.analysis.claims import claims
from results.analysis.comparison import REFERENCE, paired_difference
from results.analysis.intervals import LEVEL
from results.analysis.pareto import pareto
from results.analysis.ranking import SETTING, rank_metrics
from results.analysis.study import TRAINED_STUDY
from results.figures.panels import comparable, panels, point_words, study_words
from results.formatting import DASH, between, number, percent, probability, several, signed
from results.storage.schema import UNPRUNED

_STAGES = {
    "finetuned": "After fine-tuning",
    "recalibrated": "After recalibration, before fine-tuning",
    "pruned": "After pruning alone",
}


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table; `detail` is smaller, `strong` bold."""

    text: str
    detail: str = ""
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

    return _by_panel(cells, table, "mean", entry)


def differences(cells: pd.DataFrame, reference: str = REFERENCE) -> list[Table]:
    """Differences to the reference after fine-tuning: a table for each panel."""
    if reference not in set(comparable(cells)["metric"]):
        return []
    table = paired_difference(comparable(cells), None, reference)

    def entry(row: pd.Series, _: float) -> Entry:
        sure = bool(row["p_holm"] < 1 - LEVEL)
        detail = between(row["low_points"], row["high_points"])
        return Entry(signed(row["difference_points"]), detail, strong=sure)

    return _by_panel(cells, table.dropna(subset="difference_points"), "difference_points", entry)


def _by_panel(
    cells: pd.DataFrame,
    table: pd.DataFrame,
    column: str,
    entry: Callable[[pd.Series, float], Entry],
) -> list[Table]:
    made = []
    for panel in panels(comparable(cells)):
        rows = panel.of(table)
        ratios = sorted(rows["ratio"].unique())
        best = rows.groupby("ratio")[column].max()
        lines = []
        for metric, own in rows.groupby("metric"):
            found = {row["ratio"]: entry(row, best[row["ratio"]]) for _, row in own.iterrows()}
            lines.append((Entry(str(metric)), *(found.get(ratio, Entry(DASH)) for ratio in ratios)))
        if lines:
            heads = ("metric", *(f"{ratio:g}" for ratio in ratios))
            made.append(Table(panel.title, heads, tuple(lines)))
    return made


def ranks(cells: pd.DataFrame) -> list[Table]:
    """Mean ranks of the metrics, a table for each setting."""
    table = rank_metrics(cells)
    made = []
    for _, rows in table.groupby(list(SETTING), dropna=False, sort=False):
        first = rows.iloc[0]
        title = ", ".join(point_words(first, table))
        if len(table["finetune_epochs"].drop_duplicates()) > 1:
            title += f", {first['finetune_epochs']} epochs of fine-tuning"
        lines = tuple(
            (
                Entry(str(row["metric"])),
                Entry(number(row["mean_rank"])),
                Entry(percent(row["accuracy"])),
            )
            for _, row in rows.iterrows()
        )
        made.append(
            Table(title, ("metric", "mean rank", "accuracy, %"), lines, note=_rank_note(first))
        )
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


def judged_claims(cells: pd.DataFrame) -> tuple[list[Table], list[str]]:
    """The claims that were put to the test, a table a stage, and those that were not, as texts.

    What the networks do after fine-tuning comes first.
    """
    table = claims(cells)
    run = table[table["verdict"] != "not run"]
    absent = [text for text in table["claim"].unique() if text not in set(run["claim"])]
    heads: tuple[str, ...] = ("data set", "metric", "verdict", "claimed, points", "found, points")
    heads += ("seeds", "p (Holm)", "collapsed")
    made = []
    for stage, title in _STAGES.items():
        rows = run[run["stage"] == stage]
        if len(rows):
            lines = tuple(_claim(row, run) for _, row in rows.iterrows())
            made.append(Table(title, heads, lines, text_columns=3))
    return made, absent


def _claim(row: pd.Series, run: pd.DataFrame) -> tuple[Entry, ...]:
    agrees = pd.notna(row["size_agrees"]) and bool(row["size_agrees"])
    said = "the size agrees" if agrees else row["note"]
    point = ", ".join([*study_words(row, run), *point_words(row, run)])
    return (
        Entry(f"{point}, {row['claimed_ratio']:g}"),
        Entry(str(row["metric"])),
        Entry(row["verdict"], said, kind=row["verdict"]),
        Entry(signed(row["claimed_points"]), "about" if row["about"] else ""),
        Entry(signed(row["difference_points"]), between(row["low_points"], row["high_points"])),
        Entry(str(row["seeds"])),
        Entry(probability(row["p_holm"])),
        Entry(str(row["collapsed"]), f"reference {row['collapsed_reference']}"),
    )


def allocations(cells: pd.DataFrame) -> Table | None:
    """Which part of a global ranking's accuracy is due to its channels, and which to widths."""
    table = selection_against_allocation(cells)
    if table.empty:
        return None
    lines = tuple(
        (
            Entry(", ".join(study_words(row, table))),
            Entry(str(row["normalisation"])),
            Entry(str(row["widths_of"])),
            Entry(str(row["metric"])),
            Entry(str(row["effect"])),
            Entry(f"{row['ratio']:g}"),
            Entry(signed(row["difference_points"]), between(row["low_points"], row["high_points"])),
            Entry(str(row["seeds"])),
            Entry(probability(row["p_holm"])),
        )
        for _, row in table.iterrows()
    )
    heads: tuple[str, ...] = ("data set", "normalisation", "widths of", "metric", "effect")
    heads += ("ratio", "difference, points", "seeds", "p (Holm)")
    return Table("", heads, lines, text_columns=5)


def front(cells: pd.DataFrame) -> Table | None:
    """The networks on the Pareto front of accuracy and parameters."""
    table = pareto(cells, "parameters")
    table = table[table["on_front"]]
    if table.empty or not (table["metric"] != UNPRUNED).any():
        return None
    everything = comparable(cells)
    lines = tuple(
        (
            Entry(", ".join(study_words(row, everything, TRAINED_STUDY))),
            Entry(str(row["metric"])),
            Entry("" if row["metric"] == UNPRUNED else ", ".join(point_words(row, everything))),
            Entry(f"{row['ratio']:g}"),
            Entry(number(row["parameters"], 0)),
            Entry(
                percent(row["accuracy"]),
                "" if pd.isna(row["low"]) else f"± {percent((row['high'] - row['low']) / 2)}",
            ),
            Entry(str(row["seeds"])),
        )
        for _, row in table.iterrows()
    )
    heads = ("data set", "metric", "budget", "ratio", "parameters", "accuracy, %", "seeds")
    return Table("", heads, lines, text_columns=3)
