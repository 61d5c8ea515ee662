"""Training curves while a sweep runs: from the trials, through the driver, to Tune's loggers.

A trial sends each epoch to a mailbox, an actor on the driver's node, and goes on; the driver
empties it every second. So a trial is one call from beginning to end, with and without loggers,
and neither it nor Tune waits for a logger that is slow or out of reach.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import sweep.execution.tune.ray_cluster  # noqa: F401  sets what Ray reads when it is imported

# isort: split
import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.logger import LoggerCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prune_core.training import Epoch
from sweep.execution.tasks import Task
from sweep.plan.cells import Cell, Statistics
from sweep.stages.observer import Observer

EMPTY_EVERY_S = 1.0
# What a logger has not sent by then, such as to a server that does not answer, is given up.
LAST_WORDS_S = 60.0

Letter = tuple[str, int, dict[str, float]]


@ray.remote(num_cpus=0, max_restarts=-1)
class Mailbox:
    """Keeps what trials say until the driver takes it."""

    def __init__(self) -> None:
        self._letters: list[Letter] = []

    def put(self, letter: Letter) -> None:
        """Adds figures of a trial: its identifier, the step, and the figures."""
        self._letters.append(letter)

    def take(self) -> list[Letter]:
        """All that came since the last time, in its order."""
        letters, self._letters = self._letters, []
        return letters


class Posting(Observer):
    """Sends what a task says to the mailbox, without waiting for it."""

    def __init__(self, mailbox: Any, trial_id: str) -> None:
        self.mailbox, self.trial_id, self.epochs = mailbox, trial_id, 0
        self._sent: Any = None

    def epoch(self, stage: str, epoch: Epoch) -> None:
        """See `Observer`."""
        self.epochs += 1
        self._send({f"{stage}/loss": epoch.loss, f"{stage}/accuracy": epoch.accuracy})

    def figures(self, figures: Mapping[str, object]) -> None:
        """See `Observer`."""
        numbers = {
            name: float(value)
            for name, value in figures.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        if numbers:
            self._send(numbers)

    def close(self) -> None:
        """See `Observer`; waits until all has arrived, since the driver looks once more only."""
        if self._sent is not None:
            with suppress(RayError):
                ray.get(self._sent, timeout=10)

    def _send(self, figures: dict[str, float]) -> None:
        with suppress(RayError):
            self._sent = self.mailbox.put.remote((self.trial_id, max(1, self.epochs), figures))


class Recorder:
    """Passes calls on to one of Tune's loggers in a thread of its own.

    Parameters
    ----------
    name : of the logger, as in the spec.
    say : tells the person that the logger failed; the sweep goes on without it.
    """

    def __init__(self, name: str, logger: LoggerCallback, say: Callable[[str], None]) -> None:
        self.name, self.logger, self._say = name, logger, say
        self._calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._failed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, method: str, *arguments: Any) -> None:
        """Calls a method of the logger, later."""
        if not self._failed:
            self._calls.put((method, arguments))

    def close(self, seconds: float) -> None:
        """Waits until the logger has done what it was asked for, but not for ever."""
        self.call("on_experiment_end", [])
        self._calls.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say(f"{self.name} took too long; not all that happened is shown there")

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            method, arguments = call
            try:
                getattr(self.logger, method)(*arguments)
            except Exception as error:
                self._failed = True
                self._say(f"{self.name} failed and shows no more; the sweep goes on: {error}")
                return


class Live(tune.Callback):
    """Follows trials for some loggers; a context manager around all trials of a run."""

    def __init__(self, recorders: list[Recorder]) -> None:
        self.recorders = recorders
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.mailbox = Mailbox.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
        self._trials: dict[str, Any] = {}
        self._emptied = 0.0

    def __enter__(self) -> Live:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # Whoever interrupts a sweep does not want to wait for its pictures.
        seconds = LAST_WORDS_S if kind is None else 5.0
        for recorder in self.recorders:
            recorder.close(seconds)
        ray.kill(self.mailbox)

    def __getstate__(self) -> dict[str, Any]:
        # Tune copies and pickles callbacks for a restore, which is never made here.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See `tune.Callback`."""
        self._trials[trial.trial_id] = trial
        self._all("log_trial_start", trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """See `tune.Callback`."""
        if time.monotonic() - self._emptied >= EMPTY_EVERY_S:
            self._empty()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See `tune.Callback`."""
        self._end(trial, failed=False)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See `tune.Callback`."""
        self._end(trial, failed=True)

    def _end(self, trial: Any, failed: bool) -> None:
        self._empty()
        # Tune may tell more than once of a process that was lost.
        if self._trials.pop(trial.trial_id, None) is not None:
            self._all("log_trial_end", trial, failed)

    def _empty(self) -> None:
        self._emptied = time.monotonic()
        letters: list[Letter] = []
        with suppress(RayError):
            letters = ray.get(self.mailbox.take.remote(), timeout=10)
        for trial_id, step, figures in letters:
            if (trial := self._trials.get(trial_id)) is not None:
                result = {"training_iteration": step, **figures}
                self._all("log_trial_result", step, trial, result)

    def _all(self, method: str, *arguments: Any) -> None:
        for recorder in self.recorders:
            recorder.call(method, *arguments)


def identity(task: Task) -> dict[str, Any]:
    """What a task is, as hyperparameters; `name` is its label in safe characters."""
    work = task.work
    baseline = work.baseline if isinstance(work, Cell | Statistics) else work
    found: dict[str, Any] = {
        "name": safe_name(task),
        "dataset": baseline.dataset.name,
        "variant": baseline.variant,
        "width": baseline.width,
        "seed": baseline.seed,
    }
    if isinstance(work, Cell):
        found |= {
            "metric": work.metric,
            "scope": work.budget.scope,
            "budget": work.budget.label,
            "normalisation": work.budget.normalisation,
            "ratio": work.ratio,
        }
    return found


def safe_name(task: Task) -> str:
    """The task's label and the beginning of its key: labels of two recipes are the same."""
    key = task.name.split("-")[1]
    return re.sub(r"[^0-9A-Za-z_.=]+", "-", task.label)[:110].strip("-") + f"-{key[:8]}"
