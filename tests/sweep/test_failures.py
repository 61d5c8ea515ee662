"""A failed task keeps its story: a traceback in its row, a log, and a debugger for who asks."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from object_store import ObjectStore
from rich.console import Console

import prune_core as pc
from prune_core.images import Location, Origin
from prune_core.statistics import Collector
from results.storage.failure_logs import log_of
from sweep.execution.executor import Job
from sweep.execution.progress import Progress
from sweep.execution.run_task import run_task
from sweep.execution.serial import Serial
from sweep.execution.tasks import KINDS, Outcome, Task, missing_tasks
from sweep.planning.baselines import Baseline
from sweep.planning.cells import Cell
from sweep.planning.grid import plan
from sweep.planning.scores import Statistics
from sweep.stages.workspace import Workspace


def files(text: str) -> list[str]:
    return [line.split('"')[1] for line in text.splitlines() if line.startswith('  File "')]


@pytest.fixture
def broken() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Makes the images of the source `broken` fail, with the message that a function returns."""
    messages: list[Callable[[], object]] = []

    @pc.image_source("broken", "images that cannot be read", "a test", flip_keeps_label=True)
    def read(location: Location) -> Origin:
        message = messages[-1]()
        raise ValueError(message)

    yield messages.append
    del pc.SOURCES["broken"]


@pytest.fixture
def cell(spec) -> Cell:
    """A cell of the source `broken` that needs statistics."""
    found = next(one for one in plan(spec()).cells if one.importances[0].statistics)
    dataset = replace(found.baseline.dataset, source="broken")
    return replace(found, baseline=replace(found.baseline, dataset=dataset))


def run_in(folder: object, work: Baseline | Statistics | Cell, name: str) -> Outcome:
    workspace = Workspace(folder, "small")  # type: ignore[arg-type]
    workspace.store.create()
    return run_task(workspace, Task(name, "what failed", work))


def read_row(folder: object) -> dict[str, object]:
    columns = ["key", "status", "error", "traceback", "host", "version_torch"]
    (row,) = Workspace(folder, "small").store.read(columns).to_pylist()  # type: ignore[arg-type]
    return row


def test_a_failed_cell_has_a_traceback_in_its_row_and_a_log(cell, broken, tmp_path):
    broken(lambda: "a\udcff.png is no image")
    name = f"cell-{cell.key}"
    outcome = run_in(tmp_path, cell, name)
    row = read_row(tmp_path)
    assert (row["status"], row["error"]) == ("failed", outcome.error)
    assert outcome.error.startswith("ValueError: a\\udcff.png is no image (test_failures.py:")
    assert outcome.error.endswith(f"; log: logs/{name}.txt")
    assert "sweep/stages/cell.py" in files(row["traceback"])
    assert files(row["traceback"])[-1].endswith("test_failures.py")
    log = (tmp_path / log_of(outcome.error)).read_text()
    for words in (
        f"task: {name}\n",
        "label: what failed\n",
        f"host: {row['host']}\n",
        f"version_torch: {row['version_torch']}\n",
        "started_at: 20",
        "failed_at: 20",
        "Traceback (most recent call last):\n",
        f'  File "{Path(__file__)}", line ',
    ):
        assert words in log


@pytest.mark.parametrize("kind", ["baseline", "statistics"])
def test_a_failed_baseline_or_statistics_task_has_a_log(kind, cell, broken, tmp_path):
    broken(lambda: "no image")
    work = cell.baseline
    if kind == "statistics":
        work = replace(cell.importances[0].statistics, baseline=cell.baseline)
    name = f"{kind}-{cell.baseline.key}"
    outcome = run_in(tmp_path, work, name)
    assert outcome.error.endswith(f"; log: logs/{name}.txt")
    log = (tmp_path / "logs" / f"{name}.txt").read_text()
    assert "sweep/stages/baseline.py" in log
    assert f"version_torch: {torch.__version__}\n" in log


def test_an_object_store_has_the_log_too(cell, broken, object_store: ObjectStore):
    broken(lambda: "no image")
    where = object_store.new_prefix()
    outcome = run_in(where, cell, "cell-1")
    assert read_row(where)["error"] == outcome.error
    logs = Workspace(where, "small").store.folder / "logs"
    assert b"ValueError: no image" in logs.read("cell-1.txt")


def test_a_log_that_cannot_be_written_loses_no_row(cell, broken, tmp_path):
    broken(lambda: "no image")
    (tmp_path / "logs").write_text("a file")
    outcome = run_in(tmp_path, cell, "cell-1")
    row = read_row(tmp_path)
    assert row["error"] == outcome.error
    assert row["error"].startswith("ValueError: no image (test_failures.py:")
    assert "; its log could not be written: " in row["error"]
    assert files(row["traceback"])


def test_a_later_failure_replaces_the_log(cell, broken, tmp_path):
    for message in ("first", "second"):
        broken(lambda said=message: said)
        run_in(tmp_path, cell, "cell-1")
    log = (tmp_path / "logs" / "cell-1.txt").read_text()
    assert "first" not in log
    assert "second" in log


@pytest.fixture
def tasks(cell: Cell) -> list[Task]:
    """A task of each kind; none needs another, so all of them run and fail."""
    statistics = replace(cell.importances[0].statistics, baseline=cell.baseline)  # type: ignore[type-var]
    work: dict[str, Baseline | Statistics | Cell] = dict(
        zip(KINDS, (cell.baseline, statistics, cell), strict=True)
    )
    return [Task(f"{kind}-1", f"a {kind}", one) for kind, one in work.items()]


def run_serially(spec: object, folder: Path, tasks: list[Task], debugger: bool) -> str:
    """What `--executor serial` prints while it runs the tasks."""
    workspace, out = Workspace(folder, "small"), io.StringIO()
    workspace.store.create()
    console = Console(file=out, width=500)
    Serial().execute(Job(spec, workspace, tasks, console, debugger=debugger))  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("leave", ["c", "q", "n", "run", ""], ids=["c", "q", "n", "run", "end"])
def test_the_debugger_opens_where_each_task_failed_and_the_run_continues(
    leave, spec, tasks, broken, tmp_path, monkeypatch, capsys
):
    broken(lambda: "no image")
    typed = f"p message, 6 * 7\nup\n{leave}\n" if leave else "p message, 6 * 7\nup\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed * 3 if leave else typed))
    on_interrupt = signal.getsignal(signal.SIGINT)
    printed = run_serially(spec(), tmp_path, tasks, debugger=True)
    shown = capsys.readouterr().out
    # Without a last command the input ends in the first debugger, and the others end at once.
    assert shown.count("('no image', 42)") == (3 if leave else 1)
    assert shown.count("-> raise ValueError(message)") == 3
    assert signal.getsignal(signal.SIGINT) is on_interrupt
    for kind in KINDS:
        assert f"a {kind} failed" in printed
        assert (tmp_path / "logs" / f"{kind}-1.txt").is_file()
    assert printed.count("\nValueError: no image\n") == 3
    assert read_row(tmp_path)["status"] == "failed"


def test_no_debugger_opens_unasked(spec, tasks, broken, tmp_path, monkeypatch):
    broken(lambda: "no image")
    typed = io.StringIO("c\n")
    monkeypatch.setattr(sys, "stdin", typed)
    printed = run_serially(spec(), tmp_path, tasks, debugger=False)
    assert typed.tell() == 0
    assert [line.split()[1] for line in printed.splitlines()] == ["failed"] * 3
    assert read_row(tmp_path)["status"] == "failed"


def test_memory_of_the_cpu_that_ran_out_gives_one_more_try(spec, tasks, broken, tmp_path):
    tried = []
    broken(lambda: tried.append(0) or torch.empty(10**18))
    printed = run_serially(spec(), tmp_path, tasks[2:], debugger=False)
    assert len(tried) == 2
    assert "a cell: out of memory; the task will be retried once, alone" in printed
    row = read_row(tmp_path)
    assert row["status"] == "out_of_memory"
    assert "DefaultCPUAllocator" in row["error"]


def test_cells_name_the_log_of_the_baseline_that_they_need(spec, tasks, broken, tmp_path):
    broken(lambda: "no image")
    baseline, _, cell = tasks
    follower = replace(cell, needs=frozenset([baseline.name]))
    run_serially(spec(), tmp_path, [baseline, follower], debugger=False)
    row = read_row(tmp_path)
    error = row["error"]
    assert "sweep/stages/baseline.py" in files(row["traceback"])
    assert error.startswith("a baseline: ValueError: no image (test_failures.py:")
    assert log_of(error) == "logs/baseline-1.txt"
    assert (tmp_path / "logs" / "baseline-1.txt").is_file()


@dataclass(frozen=True)
class Broken:
    """A statistic whose collector raises an error."""

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> Collector:
        raise ValueError("my bug")


@pytest.mark.parametrize("shared", [True, False])
def test_the_statistic_of_one_metric_fails_no_cell_of_another(shared, spec, tmp_path):
    @pc.metric(source="a test", needs=frozenset([Broken()]))
    def mine(layer):
        """Scores that need a broken statistic."""

    try:
        metrics = ["mine", "entropy_gaussian"] if shared else ["mine"]
        none = {"epochs": 0}
        changes = {"metrics": metrics, "ratios": [0.3], "recipe": none, "finetune": none}
        cells = plan(spec(changes)).cells
        workspace = Workspace(tmp_path, "small")
        workspace.store.create()
        run_serially(spec(changes), tmp_path, missing_tasks(workspace, cells), debugger=False)
    finally:
        del pc.METRICS["mine"]
    rows = workspace.store.read(["metric", "status", "error"]).to_pylist()
    assert len(rows) == len(cells)
    for row in rows:
        if row["metric"] == "mine":
            assert row["status"] == "failed"
            assert "ValueError: my bug" in row["error"]
            assert ("log: logs/cell-" in row["error"]) == shared
        else:
            assert row["status"] == "ok", row["error"]


def test_the_live_table_makes_room_for_the_debugger(tasks, tmp_path):
    on = Console(file=io.StringIO(), force_terminal=True, width=60)
    plain = sys.stdout
    with Progress(on, tasks, dict.fromkeys(KINDS, 1), tmp_path) as progress:
        assert sys.stdout is not plain
        with progress.paused():
            assert sys.stdout is plain
        assert sys.stdout is not plain
        progress.ended(tasks[0], Outcome("failed", "no image"))
    assert sys.stdout is plain
    assert "a baseline: no image" in on.file.getvalue()
