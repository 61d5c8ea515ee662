"""`prune-sweep run`: plan, run what is missing, show what came out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

import results
from results import Store
from results.lease import Lease
from results.places import DiskFolder, Where, folder_of
from sweep import loggers, serial
from sweep.cells import Cell
from sweep.conductor import Conductor
from sweep.gathering import Gathering
from sweep.networks import BestSeeds, Networks
from sweep.placement import shares, this_machine
from sweep.plan import Plan, plan
from sweep.progress import Progress
from sweep.room import Room
from sweep.rows import Row
from sweep.spec import Spec
from sweep.stages import Place
from sweep.status import PLAN
from sweep.tasks import KINDS, Outcome, Task, missing_tasks

if TYPE_CHECKING:
    from sweep.live import Live

Executor = Literal["ray", "serial"]
Follow = Callable[[Task, Outcome], None]

_WAITING = "waiting for another run on this folder, {}, to end"


def run(
    spec: Spec,
    folder: Where,
    data: Path | None,
    executor: Executor,
    retry: frozenset[str],
    console: Console,
    only: Sequence[str] = (),
) -> bool:
    """Runs the cells of a spec that have no row, and prints a table of accuracies.

    Parameters
    ----------
    folder : the results folder, a path or URI.
    retry : statuses of rows that count as missing.
    only : keys of cells, or their beginnings, to run no others.

    Returns
    -------
    Whether every cell of the spec, or of `only`, is there and ok.

    Raises
    ------
    UserError, SchemaError, StoreError
        For input that cannot be run; nothing has been written over.
    """
    loggers.check(spec.loggers)
    store = Store(folder)
    store.check()
    planned = plan(spec, data)
    chosen = planned.only(only) if only else planned
    for note in planned.notes:
        console.print(note, markup=False)
    store.create()
    place = Place(store.folder.absolute(), spec.name, spec.keep != "none")
    with Lease(place.folder, lambda holder: _say(console, _WAITING.format(holder))) as lease:
        _remember(store, planned)
        rows = store.read(["key", "status", "finetuned_validation_top1"]).to_pylist()
        there = {row["key"] for row in rows if row["status"] not in retry}
        missing = [cell for cell in chosen.cells if cell.key not in there]
        follow = [
            _keeping(spec, place, planned, missing, rows),
            _gathering(store, missing, console),
        ]
        cells = f"{len(chosen.cells)} cell{'s' if len(chosen.cells) > 1 else ''}"
        done = len(chosen.cells) - len(missing)
        _say(
            console,
            f"{spec.name}: {cells}, {done} done before, {len(missing)} to run in {store.folder}",
        )
        if missing:
            _execute(spec, place, missing, executor, console, lease, follow)
    return conclude(console, chosen, store)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _keeping(
    spec: Spec, place: Place, planned: Plan, missing: list[Cell], rows: list[Row]
) -> Follow:
    """What removes networks as cells end; those that a run before left behind go at once."""
    if spec.keep != "best":
        return lambda *_: None
    running = {cell.key for cell in missing}
    done = {
        row["key"]: row["finetuned_validation_top1"]
        for row in rows
        if row["status"] == "ok" and row["key"] not in running
    }
    best = BestSeeds(Networks(place.folder), planned.cells, done, running)

    def follow(task: Task, outcome: Outcome) -> None:
        if isinstance(task.work, Cell):
            best.ended(task.work, outcome.validation_accuracy)

    return follow


def _gathering(store: Store, missing: list[Cell], console: Console) -> Follow:
    """What merges the files of cells that ended; those that a run before left are merged at once.

    A file that is written over is left to the next run: some file systems show another machine's
    old one for a while.
    """
    alone = store.single()
    again = alone.intersection(cell.key for cell in missing)
    gathering = Gathering(store, alone - again, lambda text: _say(console, text))

    def follow(task: Task, outcome: Outcome) -> None:
        if isinstance(task.work, Cell) and task.work.key not in again:
            gathering.ended(task.work.key)

    return follow


def _execute(
    spec: Spec,
    place: Place,
    missing: list[Cell],
    executor: Executor,
    console: Console,
    lease: Lease,
    follow: Sequence[Follow],
) -> None:
    tasks = missing_tasks(place, missing)
    if executor == "serial":
        if spec.timeout_s is not None:
            _say(console, "timeout_s is not heeded by --executor serial: nothing watches a task")
        if spec.loggers:
            _say(console, "loggers are not heeded by --executor serial: they are Ray Tune's")
        with Progress(console, tasks, dict.fromkeys(KINDS, 1), place.folder) as progress:
            conductor = Conductor(place, tasks, progress, may_go_on=lease.check, follow=follow)
            serial.execute(conductor, shares(spec.resources, [this_machine()]))
        return
    from sweep import tuned
    from sweep.preflight import check_place
    from sweep.ray_cluster import Cluster

    with Cluster(_ray_log(place)) as cluster:
        if len(cluster.nodes()) > 1:
            check_place(place)
        resources = spec.resources
        room = Room(
            shares(resources, cluster.nodes()),
            cluster.nodes,
            spec.wait_for_nodes_s,
            resources.scale_to,
            cluster.make_room,
        )
        room.check({task.kind for task in tasks})
        with (
            closing(room),
            _live(spec, place, console) as live,
            Progress(console, tasks, room.slots, place.folder) as progress,
        ):
            conductor = Conductor(place, tasks, progress, spec.retries, lease.check, follow)
            tuned.execute(conductor, room, spec.timeout_s, live)


def _live(spec: Spec, place: Place, console: Console) -> AbstractContextManager[Live | None]:
    if not spec.loggers:
        return nullcontext()
    from sweep.live import Live, Recorder

    def say(text: str) -> None:
        _say(console, text)

    folder = loggers.folder_of(place.folder, spec.name)
    made = [(name, loggers.make(name, spec.name, folder)) for name in spec.loggers]
    say(f"live: {', '.join(spec.loggers)}; what stays on this machine is in {folder}")
    return Live([Recorder(name, logger, say) for name, logger in made])


def _ray_log(place: Place) -> Path:
    """A file on this machine, which keeps open what an object store would take at the end."""
    folder = folder_of(place.folder)
    local = folder.path if isinstance(folder, DiskFolder) else Path("runs") / place.sweep
    local.mkdir(parents=True, exist_ok=True)
    return local / "ray.log"


def conclude(console: Console, planned: Plan, store: Store) -> bool:
    """Prints the accuracies of the planned cells; returns whether all are there and ok."""
    frame = results.load(store.folder)
    frame = _as_planned(frame, planned)
    good = frame[frame["status"] == "ok"]
    for dataset, rows in good.groupby("dataset"):
        _accuracies(console, str(dataset), rows)
    bad = frame[frame["status"] != "ok"]
    for status, rows in bad.groupby("status"):
        console.print(f"{len(rows)} cells {status}, such as:", markup=False)
        first = rows.iloc[0]
        console.print(
            f"  {first['metric']} {first['scope']} {first['ratio']:g}: {first['error']}",
            markup=False,
            soft_wrap=True,
        )
    absent = len(planned.cells) - len(frame)
    summary = f"{len(good)} of {len(planned.cells)} cells ok"
    if absent:
        summary += f", {absent} not run"
    _say(console, f"{summary}; pandas: results.load({str(store.folder)!r})")
    return len(good) == len(planned.cells)


def _as_planned(frame: pd.DataFrame, planned: Plan) -> pd.DataFrame:
    """The rows of the planned cells, under the names that this spec has for them.

    A row holds the names of the spec that ran it first; names are no part of a cell's key.
    """
    cells = {cell.key: cell for cell in planned.cells}
    frame = frame[frame["key"].isin(cells)].copy()
    frame["dataset"] = [cells[key].baseline.dataset.name for key in frame["key"]]
    frame["metric"] = [cells[key].metric for key in frame["key"]]
    frame["budget"] = [cells[key].budget.label for key in frame["key"]]
    return frame


def _accuracies(console: Console, dataset: str, rows: pd.DataFrame) -> None:
    control = 100 * rows.drop_duplicates("baseline_key")["baseline_test_top1"].mean()
    seeds = rows["seed"].nunique()
    means = results.accuracy_table(rows).to_dict("records")
    short = "; (n) of n seeds" if any(mean["seeds"] < seeds for mean in means) else ""
    console.print(
        f"{dataset}: test accuracy in % after fine-tuning, by parameter ratio, mean of {seeds} "
        f"seed{'s' if seeds > 1 else ''}; unpruned {control:.2f}; * a layer is at its floor{short}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    ratios = sorted(rows["ratio"].unique())
    table = Table("budget", "normalisation", "metric", box=None, pad_edge=False)
    for ratio in ratios:
        table.add_column(f"{ratio:g}", justify="right")
    lines: dict[tuple[str, str, str], dict[float, str]] = {}
    for mean in means:
        mark = "*" if mean["collapsed"] else " "
        line = lines.setdefault((mean["budget"], mean["normalisation"], mean["metric"]), {})
        fewer = f" ({mean['seeds']})" if mean["seeds"] < seeds else ""
        line[mean["ratio"]] = f"{100 * mean['mean']:.2f}{mark}{fewer}"
    for names, line in lines.items():
        table.add_row(*map(Text, names), *(line.get(ratio, "-") for ratio in ratios))
    _print_whole(console, table)


def _print_whole(console: Console, table: Table) -> None:
    """Prints a table at its own width: wrapped lines can be read, cut figures cannot."""
    width = console.width
    options = console.options.update(max_width=sys.maxsize)
    console.width = max(width, Measurement.get(console, options, table).maximum)
    console.print(table)
    console.width = width


def _remember(store: Store, planned: Plan) -> None:
    content = {"name": planned.name, "cells": {cell.key: cell.label for cell in planned.cells}}
    store.folder.write(PLAN, json.dumps(content).encode())
