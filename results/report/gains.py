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

_NOTE = (
    "Test accuracy with compensation minus that of the same network without, in percentage points: "
    "the mean over the metrics for each seed, and in brackets the 95 % t interval of these means "
    "over the seeds, not corrected for the number of rows. Before any training: batch "
    "normalisation is re-estimated in both. Neither recalibrated: both networks right after "
    "pruning. Against recalibration alone: the compensated network, batch normalisation not "
    "re-estimated, minus the pruned one after re-estimating it. Left out: metrics that lack a pair "
    "in some seed, and networks that were pruned in several steps, because those of later steps "
    "were trained before."
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
    found = [table[table["ratio"] == ratio] for table in tables]
    before = next(rows.iloc[0] for rows in found if len(rows))
    return (
        Entry(f"{ratio:g}"),
        *(_gain(rows.iloc[0]) if len(rows) else Entry(DASH) for rows in found),
        Entry(str(before["metrics"]), f"{before['left_out']} left out" * bool(before["left_out"])),
        Entry(str(before["seeds"])),
    )


def _gain(row: pd.Series) -> Entry:
    return Entry(signed(row["difference_points"], 1), _interval(row))


def _sentence(before: pd.DataFrame, after: pd.DataFrame) -> str:
    stages = {"before any training": before, "after fine-tuning": after}
    stages = {when: rows for when, rows in stages.items() if len(rows)}
    first, *later = stages.items()
    counts = first[1]["metrics"].agg(["min", "max"]).unique()
    of = several(int(counts[0]), "metric")
    of = of if len(counts) == 1 else f"{counts[0]} to {counts[1]} metrics"
    parts = [f"{first[0]}, in the mean over {of}, compensation {_effect(first[1])}"]
    parts += [f"{when}, it {_effect(rows)}" for when, rows in later]
    return f"{'; '.join(parts)}."


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
