"""What Tune is offered, and when."""

from dataclasses import asdict
from pathlib import Path

import pytest
from idle_tasks import idle
from rich.console import Console

from sweep.execution.progress import Progress
from sweep.execution.scheduler import Scheduler
from sweep.execution.tasks import KINDS, Outcome, missing_tasks
from sweep.execution.tune.trials import ReadyTasks, wave_of
from sweep.planning.grid import plan
from sweep.stages.workspace import Workspace


@pytest.fixture
def searcher(tmp_path: Path) -> ReadyTasks:
    """Six tasks of which two can run at once; `second` waits for `first`."""
    needs = {"second": ["first"]}
    names = ["first", "second", "third", "fourth", "fifth", "sixth"]
    tasks = [idle(name, *needs.get(name, ()), kind="cell") for name in names]
    progress = Progress(Console(quiet=True), tasks, dict.fromkeys(KINDS, 2), tmp_path)
    return ReadyTasks(Scheduler(Workspace(tmp_path, "sweep"), tasks, progress), at_once=2)


def offered(searcher: ReadyTasks, trial: str) -> str | None:
    config = searcher.suggest(trial)
    return config["task"] if isinstance(config, dict) else config


def ended(searcher: ReadyTasks, trial: str) -> None:
    outcome = asdict(Outcome("ok"))
    searcher.on_trial_complete(trial, {f"outcome/{name}": x for name, x in outcome.items()})


def test_no_more_trials_wait_than_can_run(searcher):
    assert [offered(searcher, trial) for trial in "abc"] == ["first", "third", None]
    searcher.begun("a")
    assert [offered(searcher, trial) for trial in "cd"] == ["sixth", None]


def test_a_free_process_gets_a_trial_of_its_own_and_takes_none_that_waits(searcher):
    assert [offered(searcher, trial) for trial in "ab"] == ["first", "third"]
    searcher.begun("a")
    # What waits is the least urgent.
    assert [offered(searcher, trial) for trial in "cd"] == ["sixth", None]
    ended(searcher, "a")
    # For the free process; the processes of `third` and `sixth` may be starting.
    assert [offered(searcher, trial) for trial in "de"] == ["second", None]
    searcher.begun("d")
    assert offered(searcher, "e") is None
    ended(searcher, "d")
    assert [offered(searcher, trial) for trial in "ef"] == ["fourth", None]


def test_what_others_wait_for_never_waits_itself(spec, tmp_path):
    tasks = missing_tasks(Workspace(tmp_path, "s"), plan(spec({"seeds": [0, 1, 2]})).cells)
    progress = Progress(Console(quiet=True), tasks, dict.fromkeys(KINDS, 2), tmp_path)
    searcher = ReadyTasks(Scheduler(Workspace(tmp_path, "s"), tasks, progress), at_once=2)
    kinds = {task.name: task for task in tasks}
    first = [offered(searcher, trial) for trial in "ab"]
    assert {kinds[name].kind for name in first} == {"baseline"}
    searcher.begun("a")
    searcher.begun("b")
    # A third baseline could start, and is kept for the first process that is free.
    assert offered(searcher, "c") is None
    ended(searcher, "a")
    third = offered(searcher, "d")
    assert kinds[third].kind == "baseline"
    searcher.begun("d")
    waits = kinds[offered(searcher, "e")]
    assert waits.kind == "cell"
    assert waits.cost == min(task.cost for task in tasks if task.kind == "cell")


def test_what_was_lost_is_offered_again_and_no_longer_waits(searcher):
    assert [offered(searcher, trial) for trial in "ab"] == ["first", "third"]
    searcher.scheduler.retries = 1
    searcher.scheduler.crashed(searcher.lost("a"), "its process was lost")
    assert searcher.lost("a") is None
    assert [offered(searcher, trial) for trial in "cd"] == ["first", None]


@pytest.mark.parametrize(("slots", "trials"), [(1, 1_000), (64, 1_000), (512, 4_096)])
def test_many_slots_have_longer_experiments(slots: int, trials: int) -> None:
    assert wave_of(slots) == trials
