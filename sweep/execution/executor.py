"""What runs the tasks of a sweep, behind one protocol.

To add an executor, write a class with the methods of `Executor` and put `@executor("name")` above
it: `prune-sweep run --executor name` then uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console

from sweep.errors import SpecError
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
    may_go_on : called before a task starts; raises to end the run.
    follow : each called when a task has ended for good, with its row, if it is a cell, in place.
    """

    spec: Spec
    workspace: Workspace
    tasks: list[Task]
    console: Console
    may_go_on: Callable[[], None] = lambda: None
    follow: Sequence[Follow] = ()

    def say(self, text: str) -> None:
        """Prints a line for the person who runs the sweep."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def progress(self, slots: Mapping[str, int]) -> Progress:
        """What a person sees while tasks run; a context manager.

        Parameters
        ----------
        slots : for each kind of task, how many can run at once.
        """
        return Progress(self.console, self.tasks, slots, self.workspace.folder)

    def scheduler(self, progress: Progress, retries: int = 0) -> Scheduler:
        """Hands out the tasks in their order, and follows them.

        Parameters
        ----------
        retries : how often a task is handed out again after its process was lost.
        """
        return Scheduler(self.workspace, self.tasks, progress, retries, self.may_go_on, self.follow)


class Executor(Protocol):
    """Runs the tasks of a job."""

    def check(self, spec: Spec) -> None:
        """Refuses a spec that this executor cannot run, before anything is written.

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
            If the run cannot go on; finished cells are kept.
        """


EXECUTORS: dict[str, Executor] = {}
"""Every executor by the name that `--executor` takes."""


def executor(name: str) -> Callable[[type[Executor]], type[Executor]]:
    """Registers a class of executors, which is made without arguments."""

    def register(kind: type[Executor]) -> type[Executor]:
        if name in EXECUTORS:
            raise ValueError(f"executor '{name}' is already registered")
        EXECUTORS[name] = kind()
        return kind

    return register


def executor_named(name: str) -> Executor:
    """The executor of a name.

    Raises
    ------
    SpecError
        Naming those that there are.
    """
    # The packaged ones register themselves when they are imported.
    import sweep.execution.serial
    import sweep.execution.tune.executor  # noqa: F401

    if name not in EXECUTORS:
        raise SpecError(f"--executor {name} is unknown; allowed: {', '.join(sorted(EXECUTORS))}")
    return EXECUTORS[name]
