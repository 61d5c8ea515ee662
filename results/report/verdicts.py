"""What a report tests: planned comparisons, the abstracts' claims, and fine-tuning alone."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results.analysis.claims import claims, claims_of
from results.analysis.comparison import NOT_EVALUATED
from results.analysis.finetuning_control import finetuning_control, lowered
from results.analysis.intervals import LEVEL
from results.analysis.planned import LATE, planned_differences
from results.analysis.study import TRAINED_STUDY
from results.figures.panels import point_words, study_words, target_words
from results.formatting import between, number, percent, probability, several, signed
from results.report.counting import comparisons_of_metrics
from results.report.tables import SIZES, Entry, Table, ratio_entry, size_entries
from results.storage.plan_file import Comparison

_STAGES = {
    "finetuned": "After fine-tuning",
    "recalibrated": "After recalibration, before fine-tuning",
    "pruned": "After pruning alone",
}
_KINDS = {
    "same sign, size refuted": "partly",
    "same sign, size open": "partly",
    "size refuted": "contradicted",
}


def planned(cells: pd.DataFrame, comparisons: Sequence[Comparison]) -> Table | None:
    """The comparisons that were named before the run."""
    table = planned_differences(cells, comparisons)
    if table.empty:
        return None
    lines = tuple(
        (
            Entry(_place(row, table)),
            Entry(
                str(row["metric"]),
                f"minus {row['reference']}",
                LATE if row["note"].startswith(LATE) else "",
            ),
            ratio_entry(row),
            Entry(
                *_found(row),
                strong=bool(row["p_holm"] < 1 - LEVEL) and not row["note"].startswith(LATE),
            ),
            *size_entries(row),
            *_power(row),
            Entry(probability(row["p_holm"])),
        )
        for _, row in table.iterrows()
    )
    heads: tuple[str, ...] = ("data set", "metric", "ratio", "difference, points", *SIZES)
    heads += ("detectable", "seeds", "p (Holm)")
    return Table("", heads, lines, text_columns=2)


def _place(row: pd.Series, table: pd.DataFrame) -> str:
    """The study and the setting of a row, as far as they tell it from the others."""
    return ", ".join([*study_words(row, table), *point_words(row, table)])


def exploratory(cells: pd.DataFrame, comparisons: Sequence[Comparison]) -> str:
    """How many comparisons of metrics are exploratory, in words; empty if there is none."""
    count, primary = comparisons_of_metrics(cells, comparisons)
    if not count:
        return ""
    but = " but those of the claims' primary family" if primary else ""
    start = (
        "All other p values of this report are exploratory"
        if comparisons
        else f"No comparison was named before the run, so all p values of this report{but} are "
        "exploratory"
    )
    chance = round(count * (1 - LEVEL))
    return (
        f"{start}, among them those of {several(count, 'comparison')} between metrics. If no "
        f"metric differed from another, about {chance or 'none'} of these would have p below 0.05 "
        "by chance; Holm's correction allows for that."
    )


def judged_claims(cells: pd.DataFrame) -> tuple[list[Table], list[str]]:
    """The claims that were put to the test, a table a stage, and those that were not, as texts.

    What the networks do after fine-tuning comes first, and there the primary comparisons. Stages
    at which the cells were not evaluated are left out.
    """
    table = claims(cells)
    run = table[table["verdict"] != "not run"]
    absent = [one.text for one in claims_of(cells) if one.text not in set(run["claim"])]
    run = run[run["note"] != NOT_EVALUATED]
    run = run.sort_values("family", ascending=False, kind="stable")
    heads: tuple[str, ...] = ("data set", "metric", "verdict", "claimed, points", "found, points")
    heads += ("detectable", "seeds", *SIZES, "p (Holm)", "collapsed")
    made = []
    for stage, title in _STAGES.items():
        rows = run[run["stage"] == stage]
        if len(rows):
            lines = tuple(_claim(row, run) for _, row in rows.iterrows())
            made.append(Table(title, heads, lines, text_columns=3))
    return made, absent


def _claim(row: pd.Series, run: pd.DataFrame) -> tuple[Entry, ...]:
    study = ", ".join(study_words(row, run))
    point = ", ".join([*point_words(row, run), *target_words(row, run)])
    verdict = str(row["verdict"])
    said = "; ".join(filter(None, [row["family"], row["note"]]))
    return (
        Entry(study, f"{point}, {row['claimed_ratio']:g}"),
        Entry(str(row["metric"])),
        Entry(verdict, said, kind=_KINDS.get(verdict, verdict)),
        Entry(signed(row["claimed_points"]), "about" if row["about"] else ""),
        Entry(signed(row["difference_points"]), between(row["low_points"], row["high_points"])),
        *_power(row),
        *size_entries(row),
        Entry(probability(row["p_holm"]), f"size {probability(row['p_size_holm'])}"),
        Entry(str(row["collapsed"]), f"reference {row['collapsed_reference']}"),
    )


def _found(row: pd.Series) -> tuple[str, str]:
    """A difference, and its interval or why there is none."""
    interval = between(row["low_points"], row["high_points"])
    return signed(row["difference_points"]), interval or row["note"]


def _power(row: pd.Series) -> tuple[Entry, Entry]:
    """What the comparison could have found, with the error of its test images, and its seeds."""
    error = row["test_error_points"]
    images = "" if pd.isna(error) else f"test images {number(error)}"
    return Entry(number(row["detectable_points"], 1), images), Entry(str(row["seeds"]))


def _trained(row: pd.Series, table: pd.DataFrame) -> str:
    return ", ".join(study_words(row, table, [*TRAINED_STUDY, "schedule"]))


def control(cells: pd.DataFrame) -> Table | None:
    """What fine-tuning alone does to the unpruned networks."""
    table = finetuning_control(cells)
    if table.empty:
        return None
    lines = tuple(
        (
            Entry(_trained(row, table)),
            Entry(percent(row["accuracy_reference"])),
            Entry(percent(row["accuracy"])),
            Entry(*_found(row)),
            *_power(row),
            Entry(probability(row["p_holm"])),
        )
        for _, row in table.iterrows()
    )
    heads: tuple[str, ...] = ("data set", "before, %", "after, %", "difference, points")
    heads += ("detectable", "seeds", "p (Holm)")
    said = [
        f"On {_trained(row, table)}, fine-tuning alone lowers the "
        f"unpruned network by {number(-row['difference_points'], 1)} points: the recipe may "
        "hide differences of such a size between metrics."
        for _, row in lowered(table).iterrows()
    ]
    return Table("", heads, lines, note=" ".join(said))
