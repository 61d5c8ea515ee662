"""The first lines of a report: who is ahead in each setting, by how much, and how sure this is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from results.analysis.leads import Lead, leads
from results.analysis.study import last_stage
from results.formatting import several, spoken
from results.report.tables import Entry, Table

_SHOWN = 12
_HEADS = ("setting", "who is ahead", "sure?")
_NOTE = (
    "The lead is the test accuracy, {stage}, averaged over the ratios, minus that of the second "
    "metric. The other seeds choose both metrics by held-out images, and the seed that is left out "
    "judges. Sure: all choose the same metric, and the 95 % interval of the lead lies above zero."
)
_APART = (
    " A metric that lacks a ratio or a seed takes no part. No lead is sure where one of these is "
    "more accurate in the cells that it has."
)


@dataclass(frozen=True)
class FirstLines:
    """Who is ahead.

    Attributes
    ----------
    headline : counts of many settings, or why there is none.
    table : a line for each of the first 12 settings.
    more : the lines of all others, or None.
    """

    headline: str
    table: Table | None = None
    more: Table | None = None


def first_lines(frame: pd.DataFrame) -> FirstLines:
    """Who is ahead in each setting, in words.

    Raises
    ------
    ValueError
        As `results.analysis.leads.leads`.
    """
    found = leads(frame)
    if not found:
        return FirstLines(
            "No setting has two metrics with all their cells, so there is nothing to compare."
        )
    lines = tuple(_line(lead) for lead in found)
    more = Table("", _HEADS, lines[_SHOWN:], len(_HEADS)) if lines[_SHOWN:] else None
    note = _NOTE.format(stage=last_stage(frame)) + _APART * any(lead.left_out for lead in found)
    table = Table("", _HEADS, lines[:_SHOWN], len(_HEADS), note)
    return FirstLines(_headline(found), table, more)


def _headline(found: Sequence[Lead]) -> str:
    """Which metrics are best in how many settings, and how many leads are sure."""
    if len(found) == 1:
        return ""
    if not (known := [lead for lead in found if lead.seeds > 1]):
        return "With one seed, it is not known who is ahead."
    counts = pd.Series([lead.metric for lead in known]).value_counts()
    best = spoken([f"{metric} in {count}" for metric, count in counts.items()])
    sure = sum(_verdict(lead)[0] == "sure" for lead in known)
    several = f"{len(known)} settings" + " of several seeds" * (len(known) < len(found))
    return f"Best of {several}: {best}. Sure leads: {sure or 'none'}."


def _line(lead: Lead) -> tuple[Entry, ...]:
    verdict, kind = _verdict(lead)
    return (
        Entry(lead.place),
        Entry(_words(lead), _reason(lead), _beside(lead)),
        Entry(verdict, strong=verdict == "sure", kind=kind),
    )


def _verdict(lead: Lead) -> tuple[str, str]:
    """Whether the lead is sure, and how the page marks it."""
    if lead.seeds < 2:
        return "one seed", "cannot tell"
    if lead.above_zero and lead.chosen == lead.seeds:
        return "sure", "confirmed"
    if lead.high < 0:
        return "surely behind", "contradicted"
    return "not sure", "cannot tell"


def _words(lead: Lead) -> str:
    if lead.seeds < 2:
        return f"{lead.metric} has the highest held-out accuracy, {lead.second} the second"
    points = f"{abs(lead.points):.2f}"
    if float(points) == 0:
        return f"{lead.metric} and {lead.second} are level"
    if lead.points > 0:
        return f"{lead.metric} is ahead of {lead.second} by {points} points"
    return f"{lead.metric} is chosen, but is {points} points below {lead.second}"


def _reason(lead: Lead) -> str:
    """Why the lead is sure or not."""
    if lead.seeds < 2:
        return "one seed cannot both choose and judge, so the lead is not known"
    if pd.isna(lead.low):
        return f"the same in all {lead.seeds} seeds, so there is no interval"
    interval = f"interval (95 %) from {_end(lead.low)} to {_end(lead.high)}, {lead.seeds} seeds"
    if lead.chosen == lead.seeds:
        return interval
    return f"{interval}; {lead.chosen} of {lead.seeds} choices are {lead.metric}"


def _beside(lead: Lead) -> str:
    """How many others are behind or take no part, and unequal multiply-accumulates."""
    words = []
    if lead.seeds > 1 and lead.metrics > 2:
        words.append(f"surely ahead of {lead.behind} of the {lead.metrics - 1} others")
    if lead.left_out:
        words.append(several(lead.left_out, "takes no part", "take no part") + _ahead(lead))
    own, other = f"{lead.macs:.2f}", f"{lead.macs_second:.2f}"
    if own != other:
        words.append(f"leaves {own} of the MACs, {lead.second} {other}")
    return "; ".join(words)


def _ahead(lead: Lead) -> str:
    """That metrics which take no part are better where they have cells."""
    count = lead.left_out_ahead
    if not count:
        return ""
    which = "it is" if lead.left_out == 1 else f"{count} of them {'is' if count == 1 else 'are'}"
    return f", and {which} more accurate in the cells that both have"


def _end(points: float) -> str:
    return f"{abs(points):.2f} {'above' if points > 0 else 'below'}"
