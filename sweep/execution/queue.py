"""The order in which tasks start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush

from sweep.execution.tasks import KINDS, Task


class TaskQueue:
    """Hands out tasks whose dependencies are done; gives up tasks with a failed dependency.

    Baselines start before statistics, and statistics before cells, because later tasks depend on
    them. Within one kind the most expensive task starts first, so that no long task is left for
    the end.
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
        """The next task that can start, or None if all remaining tasks wait or have started."""
        return self.tasks[heappop(self._ready)[-1]] if self._ready else None

    def last(self) -> Task | None:
        """The least urgent cell that can start, or None."""
        least = max(self._ready, default=None)
        if least is None or KINDS[least[0]] != "cell":
            return None
        self._ready.remove(least)
        heapify(self._ready)
        return self.tasks[least[-1]]

    def ready(self) -> Iterator[Task]:
        """The tasks that can start, in no particular order."""
        return (self.tasks[entry[-1]] for entry in self._ready)

    def _is_ready(self, name: str) -> None:
        rank, cost = self.tasks[name].urgency
        heappush(self._ready, (rank, -cost, self._position[name], name))

    @property
    def finished(self) -> bool:
        """Whether every task has ended or was given up."""
        return self._left == 0

    def done(
        self, name: str, ok: bool, needless: Callable[[Task], bool] = lambda _: False
    ) -> list[Task]:
        """Records that a task has ended; returns the tasks that are given up because it failed.

        Parameters
        ----------
        needless : whether a task that depends on it can do without it if it failed.
        """
        self._left -= 1
        given_up = []
        for follower in self._followers.get(name, []):
            if follower not in self._open:
                continue
            if ok or needless(self.tasks[follower]):
                self._open[follower].discard(name)
                if not self._open[follower]:
                    self._is_ready(follower)
            else:
                del self._open[follower]
                given_up += [self.tasks[follower], *self.done(follower, ok=False)]
        return given_up
