"""What is said in a report, whatever the form it is written in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from results.conclusion import conclusion
from results.places import folder_of
from results.report import facts, tables
from results.report.facts import Failure
from results.report.gathering import Sweep
from results.report.tables import Table
from results.report.wording import several
from results.study import SCRATCH

PLAN = "plan.json"
Made = TypeVar("Made")


@dataclass(frozen=True)
class Part(Generic[Made]):
    """A part of the report, or the reason why the cells do not give one."""

    content: Made
    problem: str = ""


@dataclass(frozen=True)
class Content:
    """All words and tables of a report."""

    title: str
    summary: str
    folders: tuple[str, ...]
    conclusion: Part[list[str]]
    statuses: list[tuple[str, int]]
    datasets: Table
    baselines: Table
    grid: list[tuple[str, str]]
    claims: Part[tuple[list[Table], list[str]]]
    accuracies: Part[list[Table]]
    differences: Part[list[Table]]
    ranks: Part[list[Table]]
    allocations: Part[Table | None]
    front: Part[Table | None]
    failures: list[Failure]
    more_failures: int
    provenance: list[tuple[str, str]]
    example_key: str
    example_identity: str


def content(sweep: Sweep) -> Content:
    """What there is to say of a sweep."""
    frame = sweep.frame
    failures, more = facts.failures(frame)
    key, identity = facts.identity(frame)
    none: tuple[list[Table], list[str]] = ([], [])
    return Content(
        title=", ".join(dict.fromkeys(frame["sweep"].dropna())) or "A sweep without cells",
        summary=_summary(sweep),
        folders=tuple(str(folder_of(folder)) for folder in sweep.folders),
        conclusion=_part(lambda: conclusion(frame), []),
        statuses=facts.statuses(frame, _planned(sweep.folders)),
        datasets=facts.datasets(frame),
        baselines=facts.baselines(frame),
        grid=facts.grid(frame),
        claims=_part(lambda: tables.judged_claims(frame), none),
        accuracies=_part(lambda: tables.accuracies(frame), []),
        differences=_part(lambda: tables.differences(frame), []),
        ranks=_part(lambda: tables.ranks(frame), []),
        allocations=_part(lambda: tables.allocations(frame), None),
        front=_part(lambda: tables.front(frame), None),
        failures=failures,
        more_failures=more,
        provenance=facts.provenance(frame),
        example_key=key,
        example_identity=identity,
    )


def _part(make: Callable[[], Made], otherwise: Made) -> Part[Made]:
    try:
        return Part(make())
    except ValueError as error:
        # Cells that must not be put side by side: the statistics say which, and why.
        return Part(otherwise, str(error))


def _summary(sweep: Sweep) -> str:
    frame = sweep.frame
    counts = [
        several(len(frame), "cell"),
        several(frame["dataset"].nunique(), "data set"),
        several(frame.loc[frame["metric"] != SCRATCH, "metric"].nunique(), "metric"),
        several(frame["ratio"].nunique(), "parameter ratio"),
        several(frame["seed"].nunique(), "seed"),
    ]
    return " · ".join(counts)


def _planned(folders: tuple[str, ...]) -> set[str]:
    """The keys of the cells that the last run in each folder was to make."""
    keys: set[str] = set()
    for name in folders:
        folder = folder_of(name)
        try:
            if folder.has(PLAN):
                keys |= set(json.loads(folder.read(PLAN))["cells"])
        except (OSError, ValueError, KeyError, TypeError):
            # A damaged plan takes nothing from the rows.
            continue
    return keys
