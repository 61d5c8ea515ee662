"""What compensation adds, in words and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from results.analysis.compensation import mean_compensation_gain
from results.analysis.study import any_compensation
from results.figures.panels import Panel, comparable, panels
from results.formatting import DASH, between, several, signed, spoken
from results.report.tables import Entry, Table
from results.storage.schema import ONE_SHOT

_STAGES = (
    ("recalibrated", "recalibrated", "before any training"),
    ("finetuned", "finetuned", "after fine-tuning"),
    ("compensated", "pruned", "neither recalibrated"),
    ("compensated", "recalibrated", "against recalibration alone"),
)
"""Stage with compensation, stage without, and the head of the column that compares the two."""

_COUNTS = ("metrics", "left_out", "seeds")

_NOTE = (
    "Test accuracy with compensation minus that of the same network without, in percentage points: "
    "the mean over the metrics for each seed, and in brackets the 95 % t interval of these means "
    "over the seeds, not corrected for the number of rows. Before any training: batch "
    "normalisation is re-estimated in both. Neither recalibrated: both networks right after "
    "pruning. Against recalibration alone: the compensated network, batch normalisation not "
    "re-estimated, minus the pruned one after re-estimating it. Left out: metrics that lack a pair "
    "in some seed, and networks that were pruned in several steps, because those of later steps "
    "were trained before. Where entries of a line are of unequal metrics or seeds, the numbers "
    "stand in each entry."
)


@dataclass(frozen=True)
class Gains:
    """A sentence and a table for each setting with compensation, and how both are computed."""

    sentences: tuple[str, ...]
    tables: tuple[Table, ...]
    note: str = _NOTE


def compensation(cells: pd.DataFrame) -> Gains | None:
    """What compensation adds in the mean over the metrics; None without a pair of networks.

    The sentences compare networks before any training, batch normalisation re-estimated on both
    sides, and fine-tuned ones.
    """
    if not any_compensation(cells):
        return None
    known = comparable(cells)
    # In later steps of an iterative schedule networks were trained before, and differ in it.
    known = known[known["schedule"] == ONE_SHOT]
    tables = [mean_compensation_gain(known, at, without) for at, without, _ in _STAGES]
    found = [(panel, [panel.of(table) for table in tables]) for panel in panels(known)]
    found = [(panel, own) for panel, own in found if len(own[0]) or len(own[1])]
    if not found:
        return None
    return Gains(
        tuple(f"{panel.title}: {_sentence(*own[:2])}" for panel, own in found),
        tuple(_table(panel, own) for panel, own in found),
    )


def _table(panel: Panel, tables: Sequence[pd.DataFrame]) -> Table:
    heads = (panel.target, *(head for _, _, head in _STAGES), "metrics", "seeds")
    ratios = sorted({ratio for table in tables for ratio in table["ratio"]})
    return Table(panel.title, heads, tuple(_line(ratio, tables) for ratio in ratios))


def _line(ratio: float, tables: Sequence[pd.DataFrame]) -> tuple[Entry, ...]:
    places = [table[table["ratio"] == ratio] for table in tables]
    found = [rows.iloc[0] if len(rows) else None for rows in places]
    known = [row for row in found if row is not None]
    alike = len({tuple(row[list(_COUNTS)]) for row in known}) == 1
    return (
        Entry(f"{ratio:g}"),
        *(Entry(DASH) if row is None else _gain(row, alike) for row in found),
        *(_counts(known[0]) if alike else (Entry(DASH), Entry(DASH))),
    )


def _gain(row: pd.Series, alike: bool) -> Entry:
    """A mean gain, with its numbers of metrics and seeds if not all entries of the line agree."""
    below = "" if alike else _counted(row)
    return Entry(signed(row["difference_points"], 1), _interval(row), below)


def _counts(row: pd.Series) -> tuple[Entry, Entry]:
    left_out = f"{row['left_out']} left out" if row["left_out"] else ""
    return Entry(str(row["metrics"]), left_out), Entry(str(row["seeds"]))


def _counted(row: pd.Series) -> str:
    left_out = f" ({row['left_out']} left out)" if row["left_out"] else ""
    return f"{several(row['metrics'], 'metric')}{left_out}, {several(row['seeds'], 'seed')}"


def _sentence(before: pd.DataFrame, after: pd.DataFrame) -> str:
    stages = {"before any training": before, "after fine-tuning": after}
    stages = {when: rows for when, rows in stages.items() if len(rows)}
    (first, own), *later = stages.items()
    of = _metrics(own)
    parts = [f"{first}, in the mean over {of}, compensation {_effect(own)}"]
    for when, rows in later:
        other = "" if (found := _metrics(rows)) == of else f" in the mean over {found},"
        parts.append(f"{when},{other} it {_effect(rows)}")
    return f"{'; '.join(parts)}."


def _metrics(rows: pd.DataFrame) -> str:
    """How many metrics the means of all ratios have."""
    least, most = rows["metrics"].min(), rows["metrics"].max()
    return several(int(least), "metric") if least == most else f"{least} to {most} metrics"


def _effect(rows: pd.DataFrame) -> str:
    """Where compensation raises accuracy, where it lowers it, and where nothing is sure."""
    raised, lowered = rows["low_points"] > 0, rows["high_points"] < 0
    known = rows["low_points"].notna()
    open_, single = rows[known & ~raised & ~lowered], rows[~known]
    parts = [
        f"{verb} accuracy at {_ratios(chosen, rows)}{_most(chosen)}"
        for verb, chosen in (("raises", rows[raised]), ("lowers", rows[lowered]))
        if len(chosen)
    ]
    if len(open_):
        zero = "interval contains" if len(open_) == 1 else "intervals contain"
        where = _ratios(open_, rows)
        parts.append(f"leaves it open at {where}, where the 95 % {zero} zero")
    if len(single):
        first, *others = zip(single["difference_points"], single["ratio"], strict=True)
        changes = [f"{signed(first[0], 1)} points at {first[1]:g}"]
        changes += [f"{signed(points, 1)} at {ratio:g}" for points, ratio in others]
        reason = "one seed" if (single["seeds"] == 1).all() else "equal in all seeds"
        parts.append(f"changes accuracy by {spoken(changes)} ({reason}: no interval)")
    return spoken(parts)


def _most(rows: pd.DataFrame) -> str:
    """The largest change, with its interval."""
    row = rows.loc[rows["difference_points"].abs().idxmax()]
    where = f", most at {row['ratio']:g}," if len(rows) > 1 else ""
    return f"{where} by {abs(row['difference_points']):.1f} points {_interval(row)}"


def _ratios(chosen: pd.DataFrame, rows: pd.DataFrame) -> str:
    if len(chosen) == len(rows) > 1:
        return "every ratio"
    return spoken([f"{ratio:g}" for ratio in chosen["ratio"]])


def _interval(row: pd.Series) -> str:
    return between(row["low_points"], row["high_points"], 1)
