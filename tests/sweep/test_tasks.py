"""What is left to do is asked for once, and in an order in which it can be done."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.execution.queue import TaskQueue
from sweep.execution.run_task import run_task
from sweep.execution.tasks import Task, missing_tasks
from sweep.planning.grid import plan
from sweep.stages.baseline import baseline
from sweep.stages.statistics import statistics
from sweep.stages.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path, "small")
    workspace.store.create()
    return workspace


def kinds(tasks: list[Task]) -> dict[str, int]:
    return {kind: sum(task.kind == kind for task in tasks) for kind in {t.kind for t in tasks}}


def test_baselines_and_statistics_are_asked_for_once(spec, workspace):
    cells = plan(spec({"seeds": [0, 1]})).cells
    tasks = missing_tasks(workspace, cells)
    assert kinds(tasks) == {"baseline": 2, "statistics": 2, "cell": 16}
    assert len({task.name for task in tasks}) == len(tasks)
    needs = {task.name: task.needs for task in tasks}
    for task in tasks:
        assert task.needs <= needs.keys()
        if task.kind == "statistics":
            assert {need.partition("-")[0] for need in task.needs} == {"baseline"}
        if task.kind == "cell":
            wanted = {"baseline", "statistics"} if task.work.importance.statistics else {"baseline"}
            assert {need.partition("-")[0] for need in task.needs} == wanted


def test_an_object_store_is_asked_twice_however_many_cells_there_are(spec, object_store):
    few = plan(spec({"ratios": [0.3]})).cells
    many = plan(spec({"seeds": [0, 1, 2], "ratios": [0.3, 0.4, 0.5, 0.6]})).cells
    workspace = Workspace(object_store.new_prefix(), "s")
    asked = []
    for cells in (few, many):
        object_store.requests.clear()
        missing_tasks(workspace, cells)
        asked.append(len(object_store.requests))
    assert asked[0] == asked[1] <= 4


def test_a_rewound_baseline_is_trained_once_and_first(spec, workspace):
    changes = {"recipe.epochs": 3, "finetune": {"epochs": 1, "rewind": "weights"}}
    tasks = missing_tasks(workspace, plan(spec(changes)).cells)
    whole, early = (task for task in tasks if task.kind == "baseline")
    assert early.label == "digits seed 0 baseline after 2 epochs"
    assert all({whole.name, early.name} <= task.needs for task in tasks if task.kind == "cell")


def test_statistics_of_all_metrics_are_one_task(spec, workspace):
    metrics = ["entropy_gaussian", "entropy_histogram", "mutual_information(bins=10)"]
    cells = plan(spec({"metrics": metrics})).cells
    (task,) = (task for task in missing_tasks(workspace, cells) if task.kind == "statistics")
    asked = {request for cell in cells for request in cell.importances[0].statistics.requests}
    assert task.work.requests == asked
    assert len(asked) == 3


def test_statistics_of_other_images_are_another_task(spec, workspace):
    cells = plan(spec({"metrics": ["entropy_gaussian", "entropy_gaussian(images=50)"]})).cells
    assert kinds(missing_tasks(workspace, cells)) == {"baseline": 1, "statistics": 2, "cell": 8}


def test_borrowed_widths_need_the_statistics_of_their_metric(spec, workspace):
    controls = {"widths_of": ["entropy_gaussian"], "ratios": [0.6], "unpruned": False}
    cells = plan(spec({"metrics": ["output_l1"], "controls": controls})).cells
    tasks = missing_tasks(workspace, cells)
    assert kinds(tasks) == {"baseline": 1, "statistics": 1, "cell": 5}
    waiting = [task for task in tasks if task.kind == "cell" and len(task.needs) == 2]
    assert [task.work.budget.label for task in waiting] == ["widths_of(entropy_gaussian)"]


def test_what_is_stored_is_not_asked_for(spec, workspace):
    cells = plan(spec()).cells
    stored = next(
        cell.importances[0].statistics for cell in cells if cell.importances[0].statistics
    )
    trained = baseline(workspace, stored.baseline)
    assert kinds(missing_tasks(workspace, cells)) == {"statistics": 1, "cell": 8}
    statistics(workspace, stored, trained)
    tasks = missing_tasks(workspace, cells)
    assert kinds(tasks) == {"cell": 8}
    assert {task.needs for task in tasks} == {frozenset()}
    more = plan(spec({"metrics": ["entropy_gaussian", "entropy_histogram"]})).cells
    (task,) = (task for task in missing_tasks(workspace, more) if task.kind == "statistics")
    assert task.needs == frozenset()


def test_cells_that_are_done_ask_for_nothing(workspace):
    assert missing_tasks(workspace, []) == []


def test_images_that_have_changed_since_the_plan_fail_by_name(spec, workspace, tmp_path):
    cell = plan(spec()).cells[0]
    dataset = replace(cell.baseline.dataset, fingerprint="0" * 16)
    changed = replace(cell.baseline, dataset=dataset)
    outcome = run_task(workspace, Task("b", "b", changed))
    assert outcome.status == "failed"
    assert "has changed since the sweep was planned" in outcome.error


def test_what_others_wait_for_goes_first_and_then_what_takes_longest(spec, workspace):
    controls = {"scratch": True, "ratios": [0.3], "unpruned": False}
    changes = {"seeds": [0, 1], "ratios": [0.3, 0.6], "controls": controls, "recipe.epochs": 9}
    queue = TaskQueue(missing_tasks(workspace, plan(spec(changes)).cells))
    handed_out = []
    while (task := queue.next()) is not None:
        handed_out.append(task)
        queue.done(task.name, ok=True)
    assert [task.kind for task in handed_out[:4]] == ["baseline"] * 2 + ["statistics"] * 2
    cells = [task.work for task in handed_out[4:]]
    scratch = [cell for cell in cells if cell.importance is None]
    # Nine epochs at 0.3 are more than one at 0.6 with its evaluations.
    assert cells[: len(scratch)] == scratch
    ratios = [cell.ratio for cell in cells[len(scratch) :]]
    assert ratios == sorted(ratios, reverse=True)
    assert len(scratch) == 2
    assert len(ratios) == 16


@dataclass(frozen=True)
class Plain(Task):
    """A task of no work, which is as urgent as it says."""

    rank: int = 0

    @property
    def urgency(self) -> tuple[int, float]:
        return self.rank, 0.0


def plain(name: str, needs: frozenset[str], rank: int = 0) -> Task:
    return Plain(name, name, None, needs, rank)  # type: ignore[arg-type]


Graph = dict[str, frozenset[str]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Tasks by name, each needing some of those before it."""
    names = [f"t{at}" for at in range(draw(st.integers(0, 12)))]
    return {
        name: frozenset(draw(st.sets(st.sampled_from(names[:at])) if at else st.just(set())))
        for at, name in enumerate(names)
    }


@given(graph=graphs(), failing=st.sets(st.integers(0, 11)), seed=st.integers(0, 999))
def test_the_queue_hands_out_each_task_once_and_after_its_needs(graph, failing, seed):
    tasks = [plain(name, needs, at % 3) for at, (name, needs) in enumerate(graph.items())]
    bad = {f"t{at}" for at in failing} & graph.keys()
    order = random.Random(seed)
    order.shuffle(tasks)
    queue = TaskQueue(tasks)
    running: list[str] = []
    handed_out: list[str] = []
    done: set[str] = set()
    given_up: list[str] = []
    while not queue.finished:
        while (task := queue.next()) is not None:
            assert graph[task.name] <= done
            handed_out.append(task.name)
            running.append(task.name)
            if order.random() < 0.3:
                break
        name = running.pop(order.randrange(len(running)))
        given_up += [task.name for task in queue.done(name, ok=name not in bad)]
        if name not in bad:
            done.add(name)
    assert not running
    assert queue.next() is None
    assert sorted([*handed_out, *given_up]) == sorted(graph)
    doomed: set[str] = set()
    for name, needs in graph.items():
        if needs & (bad | doomed):
            doomed.add(name)
    assert set(given_up) == doomed


def test_a_need_that_is_no_task_is_met_already():
    queue = TaskQueue([plain("a", frozenset({"stored"}))])
    assert queue.next().name == "a"
