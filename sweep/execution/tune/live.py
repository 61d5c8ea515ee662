"""Live training curves: trials send figures to the driver, which passes them to Tune's loggers.

A trial sends each epoch to a mailbox, an actor on the driver's node, and does not wait. The driver
empties the mailbox every second. So a trial stays a single call, with or without loggers, and a
slow or unreachable logger delays neither the trials nor Tune.
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
from sweep.planning.cells import Cell
from sweep.planning.scores import Statistics
from sweep.stages.observer import Observer

EMPTY_EVERY_S = 1.0
# At the end, wait this long for a logger, whose server may not answer; then drop the rest.
CLOSE_TIMEOUT_S = 60.0

Message = tuple[str, int, dict[str, float]]


@ray.remote(num_cpus=0, max_restarts=-1)
class Mailbox:
    """Keeps the messages of trials until the driver takes them."""

    def __init__(self) -> None:
        self._messages: list[Message] = []

    def put(self, message: Message) -> None:
        """Adds figures of a trial: its identifier, the step, and the figures."""
        self._messages.append(message)

    def take(self) -> list[Message]:
        """All messages since the last call, in order of arrival."""
        messages, self._messages = self._messages, []
        return messages


class Sender(Observer):
    """Sends the figures of a task to the mailbox without waiting for delivery."""

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
        """See `Observer`. Waits for delivery: the driver empties the mailbox only once more."""
        if self._sent is not None:
            with suppress(RayError):
                ray.get(self._sent, timeout=10)

    def _send(self, figures: dict[str, float]) -> None:
        with suppress(RayError):
            self._sent = self.mailbox.put.remote((self.trial_id, max(1, self.epochs), figures))


class Recorder:
    """Calls one of Tune's loggers in a separate thread.

    Parameters
    ----------
    name : the name of the logger in the spec.
    say : receives a message for the user if the logger fails; the sweep continues without it.
    """

    def __init__(self, name: str, logger: LoggerCallback, say: Callable[[str], None]) -> None:
        self.name, self.logger, self._say = name, logger, say
        self._calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._failed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, method: str, *arguments: Any) -> None:
        """Queues a call of a method of the logger."""
        if not self._failed:
            self._calls.put((method, arguments))

    def close(self, seconds: float) -> None:
        """Waits until the logger has processed all calls, at most `seconds`."""
        self.call("on_experiment_end", [])
        self._calls.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say(f"{self.name} took too long; it does not show all figures of this run")

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            method, arguments = call
            try:
                getattr(self.logger, method)(*arguments)
            except Exception as error:
                self._failed = True
                self._say(f"{self.name} failed and is turned off; the sweep continues: {error}")
                return


class Live(tune.Callback):
    """Passes the figures of trials to the loggers; a context manager around all trials of a run."""

    def __init__(self, recorders: list[Recorder]) -> None:
        self.recorders = recorders
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.mailbox = Mailbox.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
        self._trials: dict[str, Any] = {}
        self._emptied = 0.0

    def __enter__(self) -> Live:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # After an interrupt, the user should not wait long for the loggers.
        seconds = CLOSE_TIMEOUT_S if kind is None else 5.0
        for recorder in self.recorders:
            recorder.close(seconds)
        ray.kill(self.mailbox)

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles callbacks to restore an experiment, which is never done here.
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
        # Tune may report the same lost process several times.
        if self._trials.pop(trial.trial_id, None) is not None:
            self._all("log_trial_end", trial, failed)

    def _empty(self) -> None:
        self._emptied = time.monotonic()
        messages: list[Message] = []
        with suppress(RayError):
            messages = ray.get(self.mailbox.take.remote(), timeout=10)
        for trial_id, step, figures in messages:
            if (trial := self._trials.get(trial_id)) is not None:
                result = {"training_iteration": step, **figures}
                self._all("log_trial_result", step, trial, result)

    def _all(self, method: str, *arguments: Any) -> None:
        for recorder in self.recorders:
            recorder.call(method, *arguments)


def identity(task: Task) -> dict[str, Any]:
    """The task as hyperparameters for the loggers; `name` is from `safe_name`."""
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
    """The task's label in safe characters, with 8 digits of its key to make it unique."""
    key = task.name.split("-")[1]
    return re.sub(r"[^0-9A-Za-z_.=]+", "-", task.label)[:110].strip("-") + f"-{key[:8]}"
