"""Hands out tasks to an executor and tracks them; all executors share it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from results.formatting import several
from results.storage.failure_logs import log_of, with_log, without_log
from sweep.execution.progress import Progress
from sweep.execution.queue import TaskQueue
from sweep.execution.run_task import write_row
from sweep.execution.tasks import Outcome, Task
from sweep.planning.cells import Cell
from sweep.planning.scores import Statistics
from sweep.stages.workspace import Workspace

_OUTCOME = ("status", "seconds", "finetuned_test_top1", "finetuned_validation_top1")


class Scheduler:
    """Hands out tasks, tracks them, and writes the rows of cells that never ran.

    A task that ran out of memory may have shared its device with other tasks. It is retried once,
    alone, at the end. A task whose process or node was lost is retried at once.

    If statistics for several metrics raise an error, it may be that of one metric. So cells that
    need only some of them run nevertheless, and collect these themselves.

    Parameters
    ----------
    retries : how often a task is retried after its process was lost.
    may_go_on : called before a task is handed out; raises an error to end the run.
    follow : callbacks for each task that has ended and will not be retried. The row of a cell is
        written before the call.
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
        """The next task that can start, or None if all remaining tasks wait or have started."""
        self.may_go_on()
        task = self._again.popleft() if self._again else self.queue.next()
        if task is None and self._alone and not self._out:
            task = self._alone.popleft()
            self._tried_alone.add(task.name)
        if task is not None:
            self._out.add(task.name)
        return task

    def spare(self) -> Task | None:
        """The least urgent cell, which can wait in a queue without delaying others, or None."""
        self.may_go_on()
        if (task := self.queue.last()) is not None:
            self._out.add(task.name)
        return task

    @property
    def finished(self) -> bool:
        """Whether all tasks have ended."""
        return self.queue.finished

    def open_kinds(self) -> Iterator[str]:
        """The kinds of the tasks that have started, followed by those of the ready tasks."""
        yield from (self.queue.tasks[name].kind for name in self._out)
        yield from (task.kind for task in (*self._again, *self._alone, *self.queue.ready()))

    def started(self, task: Task) -> None:
        """Call when a task has started."""
        self.progress.started(task)

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Call when a task has returned its outcome; the row of a cell has been written."""
        raised = outcome.status == "failed"
        self._ended(task, outcome, lambda follower: raised and _needs_less(follower, task))

    def _ended(self, task: Task, outcome: Outcome, needless: Callable[[Task], bool]) -> None:
        self._out.discard(task.name)
        if outcome.status == "out_of_memory" and task.name not in self._tried_alone:
            self._alone.append(task)
            self.progress.postponed(task, "out of memory; the task will be retried once, alone")
            return
        given_up = self.queue.done(task.name, outcome.status == "ok", needless)
        self._tell(task, outcome)
        because = replace(outcome, error=f"{task.label}: {outcome.error}", seconds=0.0)
        for follower in given_up:
            self._tell(follower, self._settled(follower, because))

    def stopped(self, task: Task, outcome: Outcome) -> None:
        """Call when a task has ended without a row and must not be retried; writes the row."""
        self._ended(task, self._settled(task, outcome), lambda _: False)

    def crashed(self, task: Task, reason: str) -> None:
        """Call when the process or node of a task was lost; retries the task or gives it up."""
        self._crashes[task.name] += 1
        if self._crashes[task.name] > self.retries:
            error = f"{without_log(reason)}, {several(self._crashes[task.name], 'time')}"
            if log_of(reason) is not None:
                error = with_log(error, task.name)
            self.stopped(task, Outcome("failed", error))
            return
        self._out.discard(task.name)
        self._again.append(task)
        self.progress.postponed(task, f"{reason}; the task will be retried")

    def _tell(self, task: Task, outcome: Outcome) -> None:
        self.progress.ended(task, outcome)
        for follow in self.follow:
            follow(task, outcome)

    def _settled(self, task: Task, outcome: Outcome) -> Outcome:
        """Writes the row of a cell that ended without one; returns the outcome that counts.

        A process may write the row just before it is lost. An ok row is a complete measurement of
        the cell, and the loss of a process does not make it wrong. So it stays and counts, also if
        an earlier run wrote it (`--retry ok`). Rows with other statuses are replaced.
        """
        if not isinstance(task.work, Cell):
            return outcome
        row = self.workspace.store.row(task.work.key, _OUTCOME)
        if row is not None and row["status"] == "ok":
            seconds, accuracy, validation = (row[name] for name in _OUTCOME[1:])
            return Outcome("ok", None, seconds or 0.0, accuracy, validation)
        # The host and versions are unknown: only the lost process had them.
        figures = {"traceback": outcome.traceback}
        write_row(self.workspace, task.work, figures, outcome.status, outcome.error)
        return outcome


def _needs_less(task: Task, collected: Task) -> bool:
    """Whether a task is a cell that needs only some of the statistics of another task."""
    work = collected.work
    if not (isinstance(work, Statistics) and isinstance(task.work, Cell)):
        return False
    needed = [one.requests for one in task.work.statistics if one.images == work.images]
    return frozenset().union(*needed) < work.requests
