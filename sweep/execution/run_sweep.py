"""Runs the missing cells of a plan under the lease of its results folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from results import Store
from results.formatting import several
from results.storage.lease import Lease
from results.storage.plan_file import (
    Comparison,
    PlanError,
    PlannedCells,
    read_plan,
    write_plan,
)
from sweep.execution.executor import Executor, Follow, Job
from sweep.execution.merging import FileMerger
from sweep.execution.messages import say
from sweep.execution.tasks import Outcome, Task, missing_tasks
from sweep.planning.cells import Cell
from sweep.planning.grid import Plan
from sweep.spec.fields import Spec
from sweep.spec.kept import keep_spec
from sweep.stages.kept_networks import BestSeeds, KeptNetworks
from sweep.stages.rows import Row, version_of
from sweep.stages.sources import FOLDER as SOURCES
from sweep.stages.sources import keep_sources, with_plugins_in
from sweep.stages.weights import store_weights
from sweep.stages.workspace import Workspace

_WAITING = "waiting for another run on this folder to end: {}"


def run_sweep(
    spec: Spec,
    planned: Plan,
    chosen: Plan,
    store: Store,
    executor: Executor,
    retry: frozenset[str],
    console: Console,
    data: Path | None = None,
    debugger: bool = False,
) -> None:
    """Runs the cells of a plan that have no row.

    Parameters
    ----------
    planned, chosen : all cells of the spec, and those of them that run.
    retry : statuses of rows that count as missing.
    console : for the notes of the plan and the progress.
    data : the folder of the images, which is kept beside the spec.
    debugger : whether to open the debugger where a task fails; needs the executor `serial`.

    Raises
    ------
    UserError, SchemaError, StoreError
        If the run cannot start or go on. No existing result is overwritten.
    """
    store.create()
    workspace = Workspace(
        store.folder.absolute(), spec.name, spec.keep != "none", tuple(spec.plugins)
    )
    with Lease(workspace.folder, lambda holder: say(console, _WAITING.format(holder))) as lease:
        labels = {cell.key: cell.label for cell in planned.cells}
        rows = store.read(["key", "status", "finetuned_validation_top1"]).to_pylist()
        seen = any(row["key"] in labels for row in rows)
        comparisons = _comparisons(planned, store, seen)
        write_plan(store.folder, PlannedCells(planned.name, labels, comparisons))
        made_by = f"prune-sweep {version_of('prune-sweep')}"
        kept = with_plugins_in(store.folder, SOURCES, spec)
        keep_spec(store.folder, kept, f"{made_by} --data {data.resolve()}" if data else made_by)
        there = {row["key"] for row in rows if row["status"] not in retry}
        missing = [cell for cell in chosen.cells if cell.key not in there]
        follow = [
            _removing_networks(spec, workspace, planned, missing, rows),
            _merging_files(store, missing, console),
        ]
        done = len(chosen.cells) - len(missing)
        part = f"{len(chosen.cells)} of " * (len(chosen.cells) < len(planned.cells))
        say(
            console,
            f"{spec.name}: {part}{several(len(planned.cells), 'cell')}, {done} done before, "
            f"{len(missing)} to run in {store.folder}",
        )
        if missing:
            store_weights(workspace, missing)
            keep_sources(store.folder, missing)
            tasks = missing_tasks(workspace, missing)
            executor.execute(Job(spec, workspace, tasks, console, lease.check, follow, debugger))


def _comparisons(planned: Plan, store: Store, seen: bool) -> tuple[Comparison, ...]:
    """The planned comparisons; those that are new although rows could be seen are marked.

    Those that an earlier spec of the folder named in advance stay: leaving them out of a later spec
    must not hide them.
    """
    before: tuple[Comparison, ...] = ()
    with suppress(PlanError):
        before = read_plan(store.folder).comparisons
    known = {replace(one, in_advance=True): one for one in before}
    named = planned.comparisons
    now = tuple(known.get(one, replace(one, in_advance=not seen)) for one in named)
    return now + tuple(one for one in before if one.in_advance and one not in now)


def _removing_networks(
    spec: Spec, workspace: Workspace, planned: Plan, missing: list[Cell], rows: list[Row]
) -> Follow:
    """Removes networks that are not kept: old ones at once, new ones as their cells end."""
    if spec.keep != "best":
        return lambda *_: None
    running = {cell.key for cell in missing}
    done = {
        row["key"]: row["finetuned_validation_top1"]
        for row in rows
        if row["status"] == "ok" and row["key"] not in running
    }
    best = BestSeeds(KeptNetworks(workspace.folder), planned.cells, done, running)

    def follow(task: Task, outcome: Outcome) -> None:
        if isinstance(task.work, Cell):
            best.ended(task.work, outcome.validation_accuracy)

    return follow


def _merging_files(store: Store, missing: list[Cell], console: Console) -> Follow:
    """Merges the files of finished cells; files of an earlier run are merged at once.

    Cells that run again keep their own files until the next run. On some file systems another
    machine still reads the old content of a replaced file for a while.
    """
    alone = store.single()
    again = alone.intersection(cell.key for cell in missing)
    merger = FileMerger(store, alone - again, lambda text: say(console, text))

    def follow(task: Task, outcome: Outcome) -> None:
        if isinstance(task.work, Cell) and task.work.key not in again:
            merger.ended(task.work.key)

    return follow
