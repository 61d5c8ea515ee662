"""What is handed out, and what becomes of a task that fails."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from idle_tasks import idle
from rich.console import Console

from results import Store
from sweep.execution.progress import Progress
from sweep.execution.scheduler import Scheduler
from sweep.execution.tasks import KINDS, Outcome, Task
from sweep.planning.grid import plan
from sweep.spec.fields import Spec
from sweep.stages.rows import identity_row
from sweep.stages.workspace import Workspace

OK, OUT_OF_MEMORY = Outcome("ok"), Outcome("out_of_memory", "too large")


def scheduler(folder: Path, *tasks: Task, **options: object) -> Scheduler:
    progress = Progress(Console(quiet=True), list(tasks), dict.fromkeys(KINDS, 2), folder)
    return Scheduler(Workspace(folder, "sweep"), list(tasks), progress, **options)  # type: ignore[arg-type]


def test_out_of_memory_is_tried_once_more_when_nothing_else_runs(tmp_path: Path) -> None:
    large, other, third = idle("large"), idle("other"), idle("third")
    run = scheduler(tmp_path, large, other, third)
    assert [run.next(), run.next()] == [large, other]
    run.ended(large, OUT_OF_MEMORY)
    assert run.next() == third
    assert run.next() is None
    run.ended(other, OK)
    assert run.next() is None
    run.ended(third, OK)
    assert not run.finished
    assert run.next() == large
    assert run.next() is None
    run.ended(large, OUT_OF_MEMORY)
    assert run.next() is None
    assert run.finished


def test_what_needs_it_waits_for_the_second_try(tmp_path: Path) -> None:
    large, follower = idle("large"), idle("follower", "large")
    run = scheduler(tmp_path, large, follower)
    run.ended(run.next(), OUT_OF_MEMORY)  # type: ignore[arg-type]
    assert run.next() == large
    run.ended(large, OK)
    assert run.next() == follower


def test_a_lost_lease_ends_the_run_before_the_next_task(tmp_path: Path) -> None:
    def stop() -> None:
        raise RuntimeError("another run has taken over")

    with pytest.raises(RuntimeError, match="taken over"):
        scheduler(tmp_path, idle("one"), may_go_on=stop).next()


def test_a_lost_process_is_replaced_as_often_as_asked(tmp_path: Path) -> None:
    fragile, follower = idle("fragile"), idle("follower", "fragile")
    run = scheduler(tmp_path, fragile, follower, retries=2)
    for _ in range(2):
        assert run.next() == fragile
        assert run.next() is None
        run.crashed(fragile, "its process was lost")
    assert run.next() == fragile
    run.crashed(fragile, "its process was lost")
    assert run.next() is None
    assert run.finished


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(
    ("before", "after"),
    [("ok", "ok"), ("failed", "timeout"), ("out_of_memory", "timeout"), (None, "timeout")],
)
def test_only_an_ok_row_outlives_the_loss_of_a_process(
    before: str | None, after: str, merged: bool, tmp_path: Path, spec: Callable[..., Spec]
) -> None:
    cells = plan(spec()).cells[:2]
    tasks = [Task(f"cell-{cell.key}", cell.label, cell) for cell in cells]
    told: list[Outcome] = []
    run = scheduler(tmp_path, *tasks, follow=[lambda _, outcome: told.append(outcome)])
    store = Store(tmp_path)
    store.create()
    written = {"status": before, "finished_at": datetime.now(UTC), "seconds": 5.0}
    written |= {"finetuned_test_top1": 0.5, "finetuned_validation_top1": 0.6}
    for cell in cells if before else []:
        store.write(identity_row(cell, "sweep") | written)
    if merged:
        store.compact()
    while (task := run.next()) is not None:
        run.stopped(task, Outcome("timeout", "the task took more than 1 s"))
    assert store.statuses() == {cell.key: after for cell in cells}
    # The others are told what the row says: a network of an ok cell is not removed.
    assert [outcome.status for outcome in told] == [after] * 2
    if after == "ok":
        assert told == [Outcome("ok", None, 5.0, 0.5, 0.6)] * 2


def test_an_ok_row_outlives_the_failure_of_its_baseline(
    tmp_path: Path, spec: Callable[..., Spec]
) -> None:
    done, missing = plan(spec()).cells[:2]
    baseline = idle("baseline")
    needs = frozenset({"baseline"})
    run = scheduler(
        tmp_path, baseline, *(Task(cell.key, cell.label, cell, needs) for cell in (done, missing))
    )
    store = Store(tmp_path)
    store.create()
    store.write(identity_row(done, "sweep") | {"status": "ok"})
    assert run.next() == baseline
    run.ended(baseline, Outcome("failed", "no images"))
    assert run.finished
    assert store.statuses() == {done.key: "ok", missing.key: "failed"}


def test_what_has_ended_for_good_is_told_once(tmp_path: Path) -> None:
    large, follower, fine = idle("large"), idle("follower", "large"), idle("fine")
    told: list[tuple[str, str]] = []
    run = scheduler(
        tmp_path,
        large,
        follower,
        fine,
        follow=[lambda task, outcome: told.append((task.name, outcome.status))],
    )
    assert [run.next(), run.next()] == [large, fine]
    run.ended(large, OUT_OF_MEMORY)
    assert told == []
    run.ended(fine, OK)
    assert run.next() == large
    run.ended(large, OUT_OF_MEMORY)
    assert told == [
        ("fine", "ok"),
        ("large", "out_of_memory"),
        ("follower", "out_of_memory"),
    ]
