"""Runs tasks as Ray Tune trials.

Each trial runs one task and writes its own result. Tune only schedules: its state is never needed
to continue a sweep. A task with open dependencies is not a trial yet, so it reserves no CPUs.
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
from sweep.execution.failures import ERROR_LENGTH
from sweep.execution.resources import StageResources
from sweep.execution.run_task import run_task
from sweep.execution.scheduler import Scheduler
from sweep.execution.tasks import Outcome, Task
from sweep.execution.tune.live import Live, Sender, identity
from sweep.execution.watchdog import Watchdog, forget, timed_out
from sweep.stages.observer import SILENT
from sweep.stages.workspace import Workspace

# Trials per Tune experiment. Tune keeps about 45 kB of memory and two files per trial until the
# experiment ends, so its size is limited. At its end, slots are idle until the last trial has ended
# and new processes have started, so more slots need a longer experiment.
WAVE = 1_000
WAVE_OF_SLOT = 8
_OUTCOME = tuple(field.name for field in fields(Outcome))


class TaskTrial(tune.Trainable):
    """A trial: one task, run in one step."""

    def setup(
        self,
        config: dict[str, Any],
        work: tuple[Workspace, dict[str, Task]],
        timeout: float | None,
        mailbox: Any,
    ) -> None:
        """Stores what every task needs; called once per process."""
        (self.workspace, self.tasks), self.mailbox = work, mailbox
        self.watchdog = Watchdog(self.workspace.folder, timeout)
        keep_freed_memory()
        torch.set_num_threads(max(1, int(self.trial_resources.required_resources.get("CPU", 1))))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Lets Tune reuse the process for the next task; a task leaves no state behind."""
        return True

    def step(self) -> dict[str, Any]:
        """Runs the task."""
        task = self.tasks[self.config["task"]]
        observer = Sender(self.mailbox, self.trial_id) if self.mailbox else SILENT
        with self.watchdog.watching(task.name):
            outcome = run_task(self.workspace, task, observer)
        observer.close()
        return {"done": True, "outcome": asdict(outcome)}

    def cleanup(self) -> None:
        """Ends the watchdog process."""
        self.watchdog.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Does nothing: results are in the results folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Does nothing: there is no checkpoint."""


class _NotKept:
    """Pickles as an empty state: Tune saves objects for a restore, which is never used here."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class ReadyTasks(_NotKept, Searcher):
    """Gives Tune the tasks that can start, and records how they ended.

    For each trial that ends, one more trial is offered, so that Tune reuses its process; see
    `InOrder`.

    Parameters
    ----------
    at_once : how many trials may be queued; equal to the number that can run at once. If the
        queue is empty, Tune ends the process of a finished trial instead of reusing it.
    told : whether a trial's config describes its task for the loggers.
    """

    def __init__(self, scheduler: Scheduler, at_once: int, told: bool = False) -> None:
        super().__init__(metric="done", mode="max")
        self.scheduler, self.at_once, self.told = scheduler, at_once, told
        self.trials: dict[str, Task] = {}
        self._waiting: set[str] = set()
        self._free = 0
        # Tune ignores errors in `on_trial_complete`, so store the error and raise it later.
        self.problem: Exception | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of the next trial; None if no task can start or enough trials are queued."""
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
        """Call when a trial has got its process."""
        self._waiting.discard(trial_id)
        self._free = max(0, self._free - 1)
        self.scheduler.started(self.trials[trial_id])

    def lost(self, trial_id: str) -> Task | None:
        """The task of a trial that ended without an outcome; None if it was already returned."""
        self._waiting.discard(trial_id)
        return self.trials.pop(trial_id, None)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Passes a task's outcome to the scheduler; `Followed` handles errors."""
        if not error and result is not None:
            # Tune flattens nested results.
            outcome = Outcome(**{name: result[f"outcome/{name}"] for name in _OUTCOME})
            self._free += 1
            try:
                self.scheduler.ended(self.trials.pop(trial_id), outcome)
            except Exception as problem:
                self.problem = problem

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: a sweep continues from its results folder."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: there is no saved state."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Does nothing; see `save`."""


class InOrder(FIFOScheduler):
    """Chooses no trial, so that Tune starts trials in the order in which they were offered.

    If a scheduler chose a trial, Tune would give a free process to the trial that has waited
    longest, and end the process that is starting for that trial. If starting a process takes
    longer than a trial, a second process would never start working. Without a choice, Tune gives
    the free process to the newest trial, which has no process yet.
    """

    def choose_trial_to_run(self, *arguments: Any) -> None:
        """See `FIFOScheduler`."""


class Followed(_NotKept, tune.Callback):
    """Tells the scheduler when a trial starts, loses its process, or when nodes change."""

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
        # Tune may report the same lost process several times.
        if (task := self.searcher.lost(trial.trial_id)) is None:
            return
        scheduler = self.searcher.scheduler
        if (reason := timed_out(scheduler.workspace.folder, task.name)) is not None:
            scheduler.stopped(task, Outcome("timeout", reason))
        else:
            scheduler.crashed(task, _reason(trial))


def _reason(trial: Any) -> str:
    """Why a trial's process ended: its StoreError if it raised one."""
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
    capacity : the resources of each trial, and how many trials can run at once.
    timeout : time limit of a task in seconds; None for no limit.
    live : shows training curves during training; None for no curves.

    Raises
    ------
    ClusterError
        If no node of the cluster can run the remaining tasks.
    """
    tasks = scheduler.queue.tasks
    # `ReadyTasks` limits the queued trials, so Tune's own limit must be higher.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(2 * capacity.trials_at_once + 1)
    forget(scheduler.workspace.folder)
    trainable = tune.with_resources(
        tune.with_parameters(
            TaskTrial,
            # One value, because the workspace loads the plug-ins whose classes tasks may have.
            work=(scheduler.workspace, tasks),
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
                    # The scheduler retries tasks, not Tune: Tune gives up a trial if its process
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
            scheduler.crashed(task, "Ray Tune ended without a result of the task")


def wave_of(slots: int) -> int:
    """The number of trials in one Tune experiment, for a number of parallel trials."""
    return max(WAVE, WAVE_OF_SLOT * slots)


def _named(trial: Any) -> str:
    return str(trial.config["name"])


def _bundles(resources: StageResources) -> Callable[[dict[str, Any]], tune.PlacementGroupFactory]:
    factories = {
        stage: tune.PlacementGroupFactory([one.bundle]) for stage, one in resources.items()
    }
    return lambda config: factories[config["stage"]]
