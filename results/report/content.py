"""What is said in a report, whatever the form it is written in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Generic, TypeVar

import pandas as pd

from results.analysis.conclusion import remarks
from results.analysis.identities import Difference
from results.analysis.networks import network_names, same_weights
from results.analysis.study import UnlikeCells, any_finetuning, last_stage
from results.analysis.sweep_tables import SweepTables
from results.formatting import several
from results.report import facts, gains, tables, verdicts
from results.report.facts import Failure
from results.report.first_lines import FirstLines, first_lines
from results.report.gains import Gains
from results.report.steps import steps
from results.report.tables import Table
from results.storage.locations import folder_of
from results.storage.plan_file import Comparison, PlanError, PlannedCells, read_plan
from results.storage.schema import CONTROLS

Made = TypeVar("Made")


@dataclass(frozen=True)
class Part(Generic[Made]):
    """A part of the report, or the reason why the cells do not give one.

    Attributes
    ----------
    unlike : what the cells differ in, if they must not be averaged.
    """

    content: Made
    problem: str = ""
    unlike: Difference | None = None


@dataclass(frozen=True)
class Content:
    """All words and tables of a report.

    Attributes
    ----------
    refusal : the first difference for which parts cannot be computed, or None.
    finetuned : whether some pruned network was fine-tuned.
    stage : what the last accuracies of the pruned networks are, in words.
    weights : what intervals over seeds mean where baselines start from a file, or empty.
    """

    title: str
    summary: str
    folders: tuple[str, ...]
    refusal: Difference | None
    finetuned: bool
    stage: str
    leads: Part[FirstLines]
    remarks: Part[list[str]]
    planned: Part[Table | None]
    exploratory: Part[str]
    statuses: list[tuple[str, int]]
    datasets: Table
    baselines: Table
    weights: str
    control: Part[Table | None]
    grid: list[tuple[str, str]]
    claims: Part[tuple[list[Table], list[str]]]
    compensation: Part[Gains | None]
    accuracies: Part[list[Table]]
    differences: Part[list[Table]]
    equal_macs: Part[list[Table]]
    ranks: Part[list[Table]]
    allocations: Part[Table | None]
    steps: Part[list[Table]]
    front: Part[Table | None]
    failures: list[Failure]
    more_failures: int
    provenance: list[tuple[str, str]]
    example_key: str
    example_identity: str

    @property
    def selecting(self) -> str:
        """Lines of Python that select cells which may be averaged; empty without a refusal."""
        if self.refusal is None:
            return ""
        folders = self.folders[0] if len(self.folders) == 1 else list(self.folders)
        return f"frame = results.load({folders!r})\nframe = {self.refusal.line}"


def content(sweep: SweepTables) -> Content:
    """What there is to say of a sweep."""
    frame = sweep.frame
    failures, more = facts.failures(frame)
    key, identity = facts.identity(frame)
    plans = _plans(sweep.folders)
    planned = _comparisons(plans)
    none: tuple[list[Table], list[str]] = ([], [])
    made = Content(
        title=", ".join(dict.fromkeys(frame["sweep"].dropna())) or "A sweep without cells",
        summary=_summary(sweep),
        folders=tuple(str(folder_of(folder)) for folder in sweep.folders),
        refusal=None,
        finetuned=any_finetuning(frame),
        stage=last_stage(frame),
        leads=_part(lambda: first_lines(frame), FirstLines("")),
        remarks=_part(lambda: remarks(frame), []),
        planned=_part(lambda: verdicts.planned(frame, planned), None),
        exploratory=_part(lambda: verdicts.exploratory(frame, planned), ""),
        statuses=facts.statuses(frame, {key for plan in plans for key in plan.cells}),
        datasets=facts.datasets(frame),
        baselines=facts.baselines(frame),
        weights=same_weights(frame[frame["status"] == "ok"]),
        control=_part(lambda: verdicts.control(frame), None),
        grid=facts.grid(frame),
        claims=_part(lambda: verdicts.judged_claims(frame), none),
        compensation=_part(lambda: gains.compensation(frame), None),
        accuracies=_part(lambda: tables.accuracies(frame), []),
        differences=_part(lambda: tables.differences(frame), []),
        equal_macs=_part(lambda: tables.equal_macs(frame), []),
        ranks=_part(lambda: tables.ranks(frame), []),
        allocations=_part(lambda: tables.allocations(frame), None),
        steps=_part(lambda: steps(sweep), []),
        front=_part(lambda: tables.front(frame), None),
        failures=failures,
        more_failures=more,
        provenance=facts.provenance(frame),
        example_key=key,
        example_identity=identity,
    )
    parts = (getattr(made, field.name) for field in fields(made))
    unlike = (part.unlike for part in parts if isinstance(part, Part))
    return replace(made, refusal=next(filter(None, unlike), None))


def _part(make: Callable[[], Made], otherwise: Made) -> Part[Made]:
    try:
        return Part(make())
    except UnlikeCells as error:
        return Part(otherwise, str(error), error.difference)
    except ValueError as error:
        # Cells that must not be put side by side: the statistics say which, and why.
        return Part(otherwise, str(error))


def _summary(sweep: SweepTables) -> str:
    frame = sweep.frame
    pruned = frame[~frame["metric"].isin(CONTROLS)]
    counts = [
        several(len(frame), "cell"),
        several(frame["dataset"].nunique(), "data set"),
        _networks(frame),
        several(pruned["metric"].nunique(), "metric"),
        several(pruned["ratio"].nunique(), "target ratio"),
        several(frame["seed"].nunique(), "seed"),
    ]
    return " · ".join(filter(None, counts))


def _networks(frame: pd.DataFrame) -> str:
    """The name of the network, or how many there are."""
    names = [name for name in network_names(frame).dropna().unique() if name]
    return names[0] if len(names) == 1 else several(len(names), "network") if names else ""


def _plans(folders: tuple[str, ...]) -> list[PlannedCells]:
    """What the last run in each folder was to make."""
    plans = []
    for name in folders:
        # Without a plan, or with a damaged one, the rows are all there is to say.
        with suppress(PlanError, OSError):
            plans.append(read_plan(folder_of(name)))
    return plans


def _comparisons(plans: list[PlannedCells]) -> list[Comparison]:
    """The comparisons that the runs were made for, each once."""
    return list(dict.fromkeys(one for plan in plans for one in plan.comparisons))
