"""Tasks as Ray Tune trials.

Each trial runs one task to its end and writes its own result. Tune only schedules: its state is
never needed to continue a sweep. A task that must wait for another is not a trial yet, so no
processor is reserved while it waits.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import sweep.execution.tune.ray_cluster  # noqa: F401  sets what Ray reads when it is imported

# isort: split
import torch
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from prune_core.memory import keep_freed_memory
from results import StoreError
from sweep.execution.capacity import Capacity
from sweep.execution.resources import StageResources
from sweep.execution.run_task import ERROR_LENGTH, run_task
from sweep.execution.scheduler import Scheduler
from sweep.execution.tasks import Outcome, Task
from sweep.execution.tune.live import Live, Posting, identity
from sweep.execution.watchdog import Watchdog, forget, timed_out
from sweep.stages.observer import SILENT
from sweep.stages.workspace import Workspace

# Trials of one Tune experiment, which keeps about 45 kB of memory and two files for each until it
# ends. At its end slots wait for the last trial and for new processes, so many slots have longer
# ones.
WAVE = 1_000
WAVE_OF_SLOT = 8
_OUTCOME = tuple(field.name for field in fields(Outcome))


class TaskTrial(tune.Trainable):
    """A trial: one task, run to its end in one step."""

    def setup(
        self,
        config: dict[str, Any],
        workspace: Workspace,
        tasks: dict[str, Task],
        timeout: float | None,
        mailbox: Any,
    ) -> None:
        """Keeps what every task needs; called once for each process."""
        self.workspace, self.tasks, self.mailbox = workspace, tasks, mailbox
        self.watchdog = Watchdog(workspace.folder, timeout)
        keep_freed_memory()
        torch.set_num_threads(max(1, int(self.trial_resources.required_resources.get("CPU", 1))))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Lets Tune use the process for the next task: a task leaves nothing behind."""
        return True

    def step(self) -> dict[str, Any]:
        """Runs the task."""
        task = self.tasks[self.config["task"]]
        observer = Posting(self.mailbox, self.trial_id) if self.mailbox else SILENT
        with self.watchdog.watching(task.name):
            outcome = run_task(self.workspace, task, observer)
        observer.close()
        return {"done": True, "outcome": asdict(outcome)}

    def cleanup(self) -> None:
        """Ends the watching process."""
        self.watchdog.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: results are in the results folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load."""


class _NotKept:
    """Pickled as nothing: Tune saves its state for a restore, which is never used here."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class ReadyTasks(_NotKept, Searcher):
    """Gives Tune the tasks that can start, and records how they ended.

    One more trial is offered for each that ends, to use its process again; see `InOrder`.

    Parameters
    ----------
    at_once : how many trials may be queued, as many as can run: with an empty queue, Tune ends
        the process of a finished trial instead of using it again.
    told : whether a trial's config describes its task, for loggers.
    """

    def __init__(self, scheduler: Scheduler, at_once: int, told: bool = False) -> None:
        super().__init__(metric="done", mode="max")
        self.scheduler, self.at_once, self.told = scheduler, at_once, told
        self.trials: dict[str, Task] = {}
        self._waiting: set[str] = set()
        self._free = 0
        # Tune swallows what is raised when a trial ends, so it is kept and raised later.
        self.problem: Exception | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A task's name; None while all that is left must wait, or enough trials do."""
        if self.problem is not None:
            raise self.problem
        if self.scheduler.finished:
            return Searcher.FINISHED
        if len(self._waiting) >= self.at_once + min(self._free, self.at_once):
            return None
        # Queue only small cells beyond the free slots: a queued baseline would delay every cell
        # that needs it.
        waits = len(self.trials) >= self.at_once and self._free == 0
        task = self.scheduler.spare() if waits else self.scheduler.next()
        if task is None:
            return None
        self.trials[trial_id] = task
        self._waiting.add(trial_id)
        return {"task": task.name, "stage": task.kind, **(identity(task) if self.told else {})}

    def begun(self, trial_id: str) -> None:
        """A trial has its process."""
        self._waiting.discard(trial_id)
        self._free = max(0, self._free - 1)
        self.scheduler.started(self.trials[trial_id])

    def lost(self, trial_id: str) -> Task | None:
        """The task of a trial that ended without an outcome; None if that is known already."""
        self._waiting.discard(trial_id)
        return self.trials.pop(trial_id, None)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Passes a task's outcome on; errors come with their reason through `Followed`."""
        if not error and result is not None:
            # Tune flattens nested results on the way.
            outcome = Outcome(**{name: result[f"outcome/{name}"] for name in _OUTCOME})
            self._free += 1
            try:
                self.scheduler.ended(self.trials.pop(trial_id), outcome)
            except Exception as problem:
                self.problem = problem

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a sweep goes on from its results folder."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing to save."""


class InOrder(FIFOScheduler):
    """Lets Tune start trials in the order in which they were offered.

    If a scheduler chooses, Tune gives a free process to the trial that has waited longest, and
    ends the process that was being started for that trial. Where starting a process takes longer
    than a trial, no second process would ever get to work. Without a choice, the free process
    goes to the newest trial, which has no process yet.
    """

    def choose_trial_to_run(self, *arguments: Any) -> None:
        """See `FIFOScheduler`."""


class Followed(_NotKept, tune.Callback):
    """Tells the scheduler when a trial really begins, and when its process or all room is lost."""

    def __init__(self, searcher: ReadyTasks, capacity: Capacity) -> None:
        self.searcher, self.capacity = searcher, capacity

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """See `tune.Callback`."""
        scheduler = self.searcher.scheduler
        if self.capacity.look(len(scheduler.progress.running), scheduler.open_kinds):
            scheduler.progress.slots = self.capacity.slots

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See `tune.Callback`."""
        self.searcher.begun(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See `tune.Callback`."""
        # Tune tells of a lost process once for everything that it was waiting for.
        if (task := self.searcher.lost(trial.trial_id)) is None:
            return
        scheduler = self.searcher.scheduler
        if (reason := timed_out(scheduler.workspace.folder, task.name)) is not None:
            scheduler.stopped(task, Outcome("timeout", reason))
        else:
            scheduler.crashed(task, _reason(trial))


def _reason(trial: Any) -> str:
    """Why a trial's process ended: what it raised, where it raised anything."""
    try:
        text = Path(trial.error_file).read_text()
    except (OSError, TypeError):
        text = ""
    raised = [line for line in text.splitlines() if StoreError.__name__ in line]
    return raised[-1].strip()[:ERROR_LENGTH] if raised else "its process was lost"


def execute(
    scheduler: Scheduler,
    capacity: Capacity,
    timeout: float | None = None,
    live: Live | None = None,
) -> None:
    """Runs every task as a Tune trial; Ray must have been started.

    Parameters
    ----------
    capacity : what each trial gets, and how many can run at once.
    timeout : seconds that a task may take; None for as long as it likes.
    live : shows training curves while they are made.

    Raises
    ------
    ClusterError
        If the cluster has lost all nodes for what is left.
    """
    tasks = scheduler.queue.tasks
    # How many wait is for `ReadyTasks` to say, so Tune's own limit must not come first.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(2 * capacity.trials_at_once + 1)
    forget(scheduler.workspace.folder)
    trainable = tune.with_resources(
        tune.with_parameters(
            TaskTrial,
            workspace=scheduler.workspace,
            tasks=tasks,
            timeout=timeout,
            mailbox=live.mailbox if live else None,
        ),
        _bundles(capacity.resources),
    )
    while not scheduler.finished:
        searcher = ReadyTasks(scheduler, capacity.trials_at_once, told=live is not None)
        scratch = Path(tempfile.mkdtemp(prefix="prune-sweep-"))
        try:
            tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=InOrder(),
                    num_samples=wave_of(capacity.trials_at_once),
                    reuse_actors=True,
                    trial_name_creator=_named if live else None,
                ),
                run_config=tune.RunConfig(
                    name="trials",
                    storage_path=str(scratch),
                    # Tries are the scheduler's: Tune gives up a trial at once where a process
                    # is lost while two calls to it are open.
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    callbacks=[Followed(searcher, capacity), *([live] if live else [])],
                    verbose=0,
                ),
            ).fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if searcher.problem is not None:
            raise searcher.problem
        for task in list(searcher.trials.values()):
            scheduler.crashed(task, "Tune ended without a word of it")


def wave_of(slots: int) -> int:
    """How many trials are one experiment, where so many can run at once."""
    return max(WAVE, WAVE_OF_SLOT * slots)


def _named(trial: Any) -> str:
    return str(trial.config["name"])


def _bundles(resources: StageResources) -> Callable[[dict[str, Any]], tune.PlacementGroupFactory]:
    factories = {
        stage: tune.PlacementGroupFactory([one.bundle]) for stage, one in resources.items()
    }
    return lambda config: factories[config["stage"]]
