"""The remaining work as tasks with dependencies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prune_core.cost import multiply_accumulates
from sweep.planning.baselines import Baseline
from sweep.planning.cells import Cell
from sweep.planning.images_seen import images_seen
from sweep.planning.scores import Statistics
from sweep.stages.workspace import Workspace

KINDS = ("baseline", "statistics", "cell")


@dataclass(frozen=True)
class Task:
    """A stage to run, and the names of the tasks that it depends on (`needs`)."""

    name: str
    label: str
    work: Baseline | Statistics | Cell
    needs: frozenset[str] = frozenset()

    @property
    def kind(self) -> str:
        """`baseline`, `statistics` or `cell`."""
        return type(self.work).__name__.lower()

    @property
    def training(self) -> dict[str, Any] | None:
        """The key and the epochs of the baseline that it trains."""
        if not isinstance(self.work, Baseline):
            return None
        return {"key": self.work.key, "epochs": self.work.recipe.epochs}

    @property
    def urgency(self) -> tuple[int, float]:
        """The rank of its kind, where 0 starts first, and its cost."""
        return KINDS.index(self.kind), self.cost

    @property
    def cost(self) -> float:
        """Multiply-accumulates, to compare the expected times of tasks of one kind.

        A training step counts as three forward passes. The widths after a global ranking are not
        known in advance, so the MACs of a pruned network are estimated as ratio times full MACs.
        """
        work = self.work
        baseline = work if isinstance(work, Baseline) else work.baseline
        trained, inferred = images_seen(work)
        left = work.ratio if isinstance(work, Cell) else 1.0
        return (3 * trained + inferred) * left * multiply_accumulates(baseline.architecture)


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes
    ----------
    status : as in the `cells` table.
    error : why the status is not ok.
    traceback : of the exception that ended the task, as in the `cells` table.
    seconds : wall-clock time of the task.
    accuracy : top-1 on the test images, of the baseline or after fine-tuning.
    validation_accuracy : top-1 on the validation images after fine-tuning; None unless the task is
        a cell that is ok.
    """

    status: str
    error: str | None = None
    seconds: float = 0.0
    accuracy: float | None = None
    validation_accuracy: float | None = None
    traceback: str | None = None


def missing_tasks(workspace: Workspace, cells: Iterable[Cell]) -> list[Task]:
    """Tasks for these cells and for their baselines and statistics that are not stored yet."""
    baselines: dict[str, Task] = {}
    requests: dict[tuple[str, int], set[Statistics]] = {}
    tasks: list[Task] = []
    # Each look into an object store takes tens of milliseconds, so all of them are listed at once.
    trained, collected = workspace.artifacts.baselines(), workspace.artifacts.statistics()
    for cell in cells:
        needs = set()
        baseline = cell.baseline
        for one in cell.baselines:
            name = f"baseline-{one.key}"
            if one.key not in trained:
                baselines.setdefault(name, Task(name, one.label, one))
                needs.add(name)
        for statistics in cell.statistics:
            if not collected.issuperset(map(statistics.key, statistics.requests)):
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
        of = f"{images:,} images" if images else "the network"
        label = f"{baseline.dataset.name} seed {baseline.seed} statistics of {of}"
        work = Statistics(baseline, images, union)
        tasks.append(Task(f"statistics-{key}-{images}", label, work, needs))
    return tasks
