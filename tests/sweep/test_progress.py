"""What a person sees while a sweep runs, and what `status` reads of it."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from results.formatting import rough_duration
from results.storage.processes import this_process
from sweep.execution.progress import Count, Progress, read_progress
from sweep.execution.tasks import KINDS, Outcome, Task, missing_tasks
from sweep.planning.grid import plan
from sweep.stages.workspace import Workspace

ONE, TWO = dict.fromkeys(KINDS, 1), dict.fromkeys(KINDS, 2)


@pytest.fixture
def tasks(spec, tmp_path: Path) -> list[Task]:
    """A baseline, its statistics and 8 cells."""
    return missing_tasks(Workspace(tmp_path, "small"), plan(spec()).cells)


def console(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=60)


def waited(done: Callable[[], bool]) -> bool:
    until = time.monotonic() + 30
    while not done() and time.monotonic() < until:
        time.sleep(0.05)
    return done()


def printed(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (89.4, "89 s"),
        (89.6, "90 s"),
        (90, "2 min"),
        (89.4 * 60, "89 min"),
        (90 * 60, "1 h 30 min"),
        (119.9 * 60, "2 h 0 min"),
        (47.9 * 3600, "47 h 54 min"),
        (48 * 3600, "2 d 0 h"),
        (100 * 3600, "4 d 4 h"),
    ],
)
def test_durations_in_words(seconds, words):
    assert rough_duration(seconds) == words


def test_without_a_terminal_every_end_is_a_line(tasks, tmp_path):
    on = console()
    with Progress(on, tasks, ONE, tmp_path) as progress:
        progress.started(tasks[0])
        progress.ended(tasks[0], Outcome("ok", None, 61.25, 0.98765))
        progress.ended(tasks[2], Outcome("failed", "ValueError: [bold]two\n lines[/bold]", 1.0))
    first, second = printed(on).splitlines()
    assert first == "[ 1/10] ok       digits seed 0 baseline  98.77 %  61.2 s"
    assert second.startswith("[ 2/10] failed   digits seed 0 output_l1 local 0.3  ")
    assert "ValueError: [bold]two lines[/bold]" in second


def test_the_time_left_comes_from_what_each_kind_took_for_its_cost(tasks, tmp_path):
    cells = [task for task in tasks if task.kind == "cell"]
    costs = [task.cost for task in cells]
    assert {round(cost / min(costs), 6) for cost in costs} == {1.0, 2.0}
    small, large = min(costs), max(costs)
    with Progress(console(), tasks, TWO, tmp_path) as progress:
        assert progress.seconds_left() is None
        for task in tasks[:2]:
            progress.ended(task, Outcome("ok", None, 50.0))
        cells.sort(key=lambda task: -task.cost)
        for task in cells[:2]:
            progress.ended(task, Outcome("ok", None, 4.0))
        # Nothing is known of a fixed part yet.
        left = sum(task.cost for task in cells[2:])
        assert progress.seconds_left() == pytest.approx(4.0 * left / large / 2)
        for task in cells[2:5]:
            progress.ended(task, Outcome("ok", None, 1.0 + 3.0 * task.cost / large))
        assert progress.seconds_left() == pytest.approx(3 * (1.0 + 3.0 * small / large) / 2)
        for task in cells[5:]:
            progress.ended(task, Outcome("ok", None, 2.5))
        assert progress.seconds_left() == 0


@pytest.mark.parametrize(
    ("seconds", "each"),
    [
        ((10.0, 16.0), 10.0),  # 4 seconds for each, and 6 for each unit of cost
        ((10.0, 9.0), 9.5),  # costlier ones were quicker: costs say nothing
        ((10.0, 30.0), 14.0),  # less than nothing fixed: in proportion
        ((10.0,), 10.0),
    ],
)
def test_costs_and_seconds_make_a_line_where_they_can(seconds, each):
    count = Count(total=10, cost_left=10.0 - len(seconds))
    for cost, spent in zip((1.0, 2.0), seconds, strict=False):
        count.took(cost, spent)
    assert count.seconds_left == pytest.approx((10 - len(seconds)) * each)


def test_on_a_terminal_the_table_counts_every_task(tasks, tmp_path):
    on = console(terminal=True)
    with Progress(on, tasks, ONE, tmp_path) as progress:
        progress.ended(tasks[0], Outcome("ok", None, 1.0))
        progress.started(tasks[2])
        progress.ended(tasks[3], Outcome("failed", "why [red]", 1.0))
        progress._live.refresh()
    text = printed(on)
    assert "failed: digits seed 0 output_l1 local 0.6: why [red]" in text.replace("\n", " ")
    rows = [line.split() for line in text.splitlines()]
    assert ["cells", "0", "1", "1", "6"] in rows


def test_the_table_has_the_epochs_of_a_long_training(tasks, tmp_path, monkeypatch):
    on, of_digits = console(terminal=True), tasks[0]
    looks = []

    def epochs_done(folder, key):
        looks.append((str(folder), key))
        return 1

    monkeypatch.setattr("sweep.execution.progress.epochs_done", epochs_done)
    with Progress(on, tasks, ONE, tmp_path) as progress:
        progress.started(of_digits)
        progress._live.refresh()
        assert not looks
        monkeypatch.setattr("sweep.execution.progress.SECONDS_BETWEEN_LOOKS", 0.0)
        progress._live.refresh()
    assert set(looks) == {(str(tmp_path), of_digits.work.key)}
    assert f"{of_digits.label}, 1 of {of_digits.work.recipe.epochs} epochs done" in printed(on)


def test_status_reads_what_runs_and_nothing_when_it_has_ended(tasks, tmp_path):
    with Progress(console(), tasks, ONE, tmp_path) as progress:
        found = read_progress(tmp_path)
        assert found is not None
        assert (found["running"], found["seconds_left"]) == ([], None)
        assert found["cells_left"] == sum(task.kind == "cell" for task in tasks) > 0
        assert progress.running == {}
    assert read_progress(tmp_path) is None


def test_a_run_that_dies_of_an_error_has_ended(tasks, tmp_path):
    with pytest.raises(KeyboardInterrupt), Progress(console(), tasks, ONE, tmp_path):
        raise KeyboardInterrupt
    assert read_progress(tmp_path) is None


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def record(**changes: object) -> dict[str, object]:
    made = {"active": True, **this_process(), "running": ["x"], "seconds_left": None}
    return made | changes


@pytest.mark.parametrize(
    ("content", "counts"),
    [
        (record(), True),
        (record(active=False), False),
        (record(pid="of a dead process"), False),
        (record(pid="of a dead process", host="another machine"), True),
        (record(pid="of a dead process", pid_namespace="another container"), True),
        # Process 1 is alive, and for anyone but root it is somebody else's.
        (record(pid=1), True),
        (record(pid=2**70), False),
        (record(pid="x"), False),
        ([], False),
        ({}, False),
    ],
    ids=[
        "ours",
        "ended",
        "dead",
        "dead elsewhere",
        "container",
        "another's",
        "absurd",
        "text",
        "list",
        "empty",
    ],
)
def test_whose_progress_counts(content, counts, tmp_path):
    text = json.dumps(content).replace('"of a dead process"', str(dead_pid()))
    (tmp_path / "progress.json").write_text(text)
    assert (read_progress(tmp_path) is not None) == counts


@pytest.mark.parametrize("text", ["", "{", '{"active": tru'])
def test_a_damaged_record_does_not_count(text, tmp_path):
    (tmp_path / "progress.json").write_text(text)
    assert read_progress(tmp_path) is None


def test_no_record_is_no_progress(tmp_path):
    assert read_progress(tmp_path) is None


def test_what_changes_within_a_second_is_written_when_it_is_over(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr("sweep.execution.progress.SECONDS_BETWEEN", 0.2)
    with Progress(console(), tasks, TWO, tmp_path) as progress:
        for task in tasks[:2]:
            progress.started(task)
        both = [task.label for task in tasks[:2]]
        assert waited(lambda: read_progress(tmp_path)["running"] == both)
        progress.postponed(tasks[0], "out of memory")
        assert waited(lambda: read_progress(tmp_path)["running"] == both[1:])
        progress.started(tasks[0])  # is still to be written when the run ends
    time.sleep(0.4)
    assert read_progress(tmp_path) is None
