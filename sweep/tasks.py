"""What is left to do, as tasks that wait for one another, and how one task is run."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from heapq import heapify, heappop, heappush

import torch

from prune_core.cost import multiply_accumulates
from prune_core.network import Architecture
from prune_core.training import Diverged
from results import StoreError
from sweep import stages
from sweep.cells import Baseline, Cell, Statistics
from sweep.listener import SILENT, Listener
from sweep.passes import passes
from sweep.rows import Row, identity_row, provenance, score_columns
from sweep.stages import Place

ERROR_LENGTH = 2_000
KINDS = ("baseline", "statistics", "cell")


@dataclass(frozen=True)
class Task:
    """A stage to run, and the names of the tasks that must be done before."""

    name: str
    label: str
    work: Baseline | Statistics | Cell
    needs: frozenset[str] = frozenset()

    @property
    def kind(self) -> str:
        """`baseline`, `statistics` or `cell`."""
        return type(self.work).__name__.lower()

    @property
    def urgency(self) -> tuple[int, float]:
        """Whether others wait for its kind, smallest first, and its cost."""
        return KINDS.index(self.kind), self.cost

    @property
    def cost(self) -> float:
        """Its multiply-accumulates: roughly, how its time is to that of others of its kind.

        A training step counts as three passes. What a global ranking leaves is not known before,
        so a pruned network counts by its ratio.
        """
        work = self.work
        baseline = work if isinstance(work, Baseline) else work.baseline
        trained, inferred = passes(work)
        left = work.ratio if isinstance(work, Cell) else 1.0
        return (3 * trained + inferred) * left * _multiply_accumulates(baseline.architecture)


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes
    ----------
    status : as in the `cells` table.
    error : why it is not ok.
    seconds : wall-clock time of the task.
    accuracy : top-1 on the test images, of the baseline or after fine-tuning.
    validation_accuracy : the same on the validation images, of a cell that is ok.
    """

    status: str
    error: str | None = None
    seconds: float = 0.0
    accuracy: float | None = None
    validation_accuracy: float | None = None


@lru_cache(maxsize=256)
def _multiply_accumulates(architecture: Architecture) -> int:
    return multiply_accumulates(architecture)


def missing_tasks(place: Place, cells: Iterable[Cell]) -> list[Task]:
    """Tasks for these cells and for the baselines and statistics that they still need."""
    baselines: dict[str, Task] = {}
    requests: dict[tuple[str, int], set[Statistics]] = {}
    tasks: list[Task] = []
    artifacts = place.artifacts
    for cell in cells:
        needs = set()
        baseline = cell.baseline
        name = f"baseline-{baseline.key}"
        if name not in baselines and not artifacts.has_baseline(baseline.key):
            label = f"{baseline.dataset.name} seed {baseline.seed} baseline"
            baselines[name] = Task(name, label, baseline)
        if name in baselines:
            needs.add(name)
        for statistics in filter(None, (score.statistics for score in cell.scores)):
            if not all(artifacts.has_statistic(statistics.key(r)) for r in statistics.requests):
                requests.setdefault((baseline.key, statistics.images), set()).add(statistics)
                needs.add(f"statistics-{baseline.key}-{statistics.images}")
        tasks.append(Task(f"cell-{cell.key}", cell.label, cell, frozenset(needs)))
    return [*baselines.values(), *_statistics_tasks(requests, baselines), *tasks]


def _statistics_tasks(
    requests: dict[tuple[str, int], set[Statistics]], baselines: dict[str, Task]
) -> list[Task]:
    tasks = []
    for (key, images), wanted in requests.items():
        baseline = next(iter(wanted)).baseline
        union = frozenset().union(*(statistics.requests for statistics in wanted))
        needs = frozenset({f"baseline-{key}"} & baselines.keys())
        label = f"{baseline.dataset.name} seed {baseline.seed} statistics of {images:,} images"
        work = Statistics(baseline, images, union)
        tasks.append(Task(f"statistics-{key}-{images}", label, work, needs))
    return tasks


class TaskQueue:
    """Hands out tasks whose needs are done; a task whose need failed is given up.

    Of those that can start, baselines go before statistics and these before cells, since others
    wait for them; of one kind the costliest goes first, so that no long one is left for the end.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.tasks = {task.name: task for task in tasks}
        self._open = {
            name: {need for need in task.needs if need in self.tasks}
            for name, task in self.tasks.items()
        }
        self._position = {name: index for index, name in enumerate(self.tasks)}
        self._ready: list[tuple[int, float, int, str]] = []
        for name, needs in self._open.items():
            if not needs:
                self._is_ready(name)
        self._followers: dict[str, list[str]] = {}
        for name, needs in self._open.items():
            for need in needs:
                self._followers.setdefault(need, []).append(name)
        self._left = len(self.tasks)

    def next(self) -> Task | None:
        """A task that can start now, or None: then others must end first, or all are out."""
        return self.tasks[heappop(self._ready)[-1]] if self._ready else None

    def last(self) -> Task | None:
        """The least urgent cell that can start now, if there is one."""
        least = max(self._ready, default=None)
        if least is None or KINDS[least[0]] != "cell":
            return None
        self._ready.remove(least)
        heapify(self._ready)
        return self.tasks[least[-1]]

    def ready(self) -> Iterator[Task]:
        """The tasks that can start now, in no order."""
        return (self.tasks[entry[-1]] for entry in self._ready)

    def _is_ready(self, name: str) -> None:
        rank, cost = self.tasks[name].urgency
        heappush(self._ready, (rank, -cost, self._position[name], name))

    @property
    def finished(self) -> bool:
        """Whether every task has ended or was given up."""
        return self._left == 0

    def done(self, name: str, ok: bool) -> list[Task]:
        """Notes that a task ended; returns the tasks that are given up because it failed."""
        self._left -= 1
        given_up = []
        for follower in self._followers.get(name, []):
            if follower not in self._open:
                continue
            if ok:
                self._open[follower].discard(name)
                if not self._open[follower]:
                    self._is_ready(follower)
            else:
                del self._open[follower]
                given_up += [self.tasks[follower], *self.done(follower, ok=False)]
        return given_up


def run(place: Place, task: Task, listener: Listener = SILENT) -> Outcome:
    """Runs a task; a cell's row is written whatever happens, short of the results folder failing.

    Raises
    ------
    StoreError
        If the row cannot be written: the sweep cannot go on without its results folder.
    """
    began = datetime.now(UTC)
    row: Row = {}
    status, error, accuracy, validation = "ok", None, None, None
    try:
        if isinstance(task.work, Baseline):
            trained = stages.baseline(place, task.work, listener)
            row |= score_columns("baseline", trained.validation, trained.test)
            accuracy = trained.test.top1
        elif isinstance(task.work, Statistics):
            stages.statistics(place, task.work, stages.baseline(place, task.work.baseline))
        else:
            stages.cell(place, task.work, row, listener)
            accuracy, validation = row["finetuned_test_top1"], row["finetuned_validation_top1"]
    except StoreError:
        raise
    except Exception as problem:
        status, error = _diagnose(problem)
    listener.figures(row)
    if isinstance(task.work, Cell):
        write_row(place, task.work, provenance(task.work, began) | row, status, error)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    seconds = (datetime.now(UTC) - began).total_seconds()
    return Outcome(status, error, seconds, accuracy, validation)


def write_row(place: Place, cell: Cell, figures: Row, status: str, error: str | None) -> None:
    """Stores the row of a cell, with whatever is known of how it ran."""
    ending = {"status": status, "error": error, "finished_at": datetime.now(UTC)}
    place.store.write(identity_row(cell, place.sweep) | figures | ending)


def _diagnose(problem: Exception) -> tuple[str, str]:
    text = f"{type(problem).__name__}: {problem}"
    if isinstance(problem, Diverged):
        return "diverged", text
    if isinstance(problem, torch.OutOfMemoryError | MemoryError):
        return "out_of_memory", text[:ERROR_LENGTH]
    place = traceback.extract_tb(problem.__traceback__)[-1]
    return "failed", f"{text} ({place.filename.rsplit('/', 1)[-1]}:{place.lineno})"[:ERROR_LENGTH]
