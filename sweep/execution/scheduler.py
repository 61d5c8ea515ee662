"""Hands out tasks to an executor and follows them: the same for every executor."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

from sweep.execution.progress import Progress
from sweep.execution.queue import TaskQueue
from sweep.execution.run_task import write_row
from sweep.execution.tasks import Outcome, Task
from sweep.plan.cells import Cell
from sweep.stages.workspace import Workspace


class Scheduler:
    """Hands out tasks, follows them, and writes the rows of cells that never ran.

    A task that ran out of memory may have shared its device with others, so it runs once more at
    the end, alone. A task whose process or node was lost is handed out again at once.

    Parameters
    ----------
    retries : how often a task is handed out again after its process was lost.
    may_go_on : called before a task is handed out; raises to end the run.
    follow : each called when a task has ended for good, with its row, if it is a cell, in place.
    """

    def __init__(
        self,
        workspace: Workspace,
        tasks: list[Task],
        progress: Progress,
        retries: int = 0,
        may_go_on: Callable[[], None] = lambda: None,
        follow: Sequence[Callable[[Task, Outcome], None]] = (),
    ) -> None:
        self.workspace, self.progress, self.may_go_on = workspace, progress, may_go_on
        self.follow = follow
        self.retries, self.queue = retries, TaskQueue(tasks)
        self._out: set[str] = set()
        self._again: deque[Task] = deque()
        self._alone: deque[Task] = deque()
        self._tried_alone: set[str] = set()
        self._crashes: Counter[str] = Counter()

    def next(self) -> Task | None:
        """A task that can start now, or None: then others must end first, or all are out."""
        self.may_go_on()
        task = self._again.popleft() if self._again else self.queue.next()
        if task is None and self._alone and not self._out:
            task = self._alone.popleft()
            self._tried_alone.add(task.name)
        if task is not None:
            self._out.add(task.name)
        return task

    def spare(self) -> Task | None:
        """A cell that may wait until nothing else is left, or None."""
        self.may_go_on()
        if (task := self.queue.last()) is not None:
            self._out.add(task.name)
        return task

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.queue.finished

    def open_kinds(self) -> Iterator[str]:
        """The kinds of the tasks that are out or could be, those first that are out."""
        yield from (self.queue.tasks[name].kind for name in self._out)
        yield from (task.kind for task in (*self._again, *self._alone, *self.queue.ready()))

    def started(self, task: Task) -> None:
        """A task began."""
        self.progress.started(task)

    def ended(self, task: Task, outcome: Outcome) -> None:
        """A task ended by itself; its row, if it is a cell, has been written."""
        self._out.discard(task.name)
        if outcome.status == "out_of_memory" and task.name not in self._tried_alone:
            self._alone.append(task)
            self.progress.postponed(task, "out of memory; it is tried once more alone")
            return
        given_up = self.queue.done(task.name, outcome.status == "ok")
        self._tell(task, outcome)
        because = Outcome(outcome.status, f"{task.label}: {outcome.error}")
        for follower in given_up:
            self._write_failure(follower, because)
            self._tell(follower, because)

    def stopped(self, task: Task, outcome: Outcome) -> None:
        """A task ended without writing its row, and is not to be tried again."""
        self._write_failure(task, outcome)
        self.ended(task, outcome)

    def crashed(self, task: Task, reason: str) -> None:
        """The process or node that ran a task was lost."""
        self._crashes[task.name] += 1
        if self._crashes[task.name] > self.retries:
            self.stopped(task, Outcome("failed", f"{reason}, {self._crashes[task.name]} times"))
            return
        self._out.discard(task.name)
        self._again.append(task)
        self.progress.postponed(task, f"{reason}; it is tried again")

    def _tell(self, task: Task, outcome: Outcome) -> None:
        self.progress.ended(task, outcome)
        for follow in self.follow:
            follow(task, outcome)

    def _write_failure(self, task: Task, outcome: Outcome) -> None:
        if isinstance(task.work, Cell):
            # Where and with what it ran is known to the lost process alone.
            write_row(self.workspace, task.work, {}, outcome.status, outcome.error)
