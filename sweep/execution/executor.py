"""Executors run the tasks of a sweep; all share one protocol.

To add an executor, write a class with the methods of `Executor` and decorate it with
`@executor("name")`. Then `prune-sweep run --executor name` uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console

from sweep.execution.messages import say
from sweep.execution.progress import Progress
from sweep.execution.scheduler import Scheduler
from sweep.execution.tasks import Outcome, Task
from sweep.spec.fields import Spec
from sweep.stages.workspace import Workspace

Follow = Callable[[Task, Outcome], None]


@dataclass(frozen=True)
class Job:
    """The tasks of one run, with everything that an executor needs.

    Attributes
    ----------
    may_go_on : called before a task starts; raises an error to end the run.
    follow : callbacks for each task that has ended and will not be retried. The row of a cell is
        written before the call.
    debugger : whether to open the debugger where a task fails. Only the executor `serial` can.
    """

    spec: Spec
    workspace: Workspace
    tasks: list[Task]
    console: Console
    may_go_on: Callable[[], None] = lambda: None
    follow: Sequence[Follow] = ()
    debugger: bool = False

    def say(self, text: str) -> None:
        """Prints a line for the user."""
        say(self.console, text)

    def progress(self, slots: Mapping[str, int]) -> Progress:
        """The progress display of the run; a context manager.

        Parameters
        ----------
        slots : for each kind, the number of tasks that can run at once.
        """
        return Progress(self.console, self.tasks, slots, self.workspace.folder)

    def scheduler(self, progress: Progress, retries: int = 0) -> Scheduler:
        """A scheduler that hands out the tasks in order and tracks them.

        Parameters
        ----------
        retries : how often a task is retried after its process was lost.
        """
        return Scheduler(self.workspace, self.tasks, progress, retries, self.may_go_on, self.follow)


class Executor(Protocol):
    """Runs the tasks of a job."""

    def check(self, spec: Spec) -> None:
        """Refuses a spec that this executor cannot run; called before anything is written.

        Raises
        ------
        UserError
            Naming what to change or to install.
        """

    def execute(self, job: Job) -> None:
        """Runs every task of the job that can be run.

        Raises
        ------
        UserError, StoreError
            If the run cannot continue; finished cells are kept.
        """


EXECUTORS: dict[str, Executor] = {}
"""Every executor by the name that `--executor` takes."""


def executor(name: str) -> Callable[[type[Executor]], type[Executor]]:
    """Registers an executor class, whose constructor takes no arguments."""

    def register(kind: type[Executor]) -> type[Executor]:
        if name in EXECUTORS:
            raise ValueError(f"executor '{name}' is already registered")
        EXECUTORS[name] = kind()
        return kind

    return register
