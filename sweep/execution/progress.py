"""The progress display of a sweep: a live table, or one line per finished cell."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from results.formatting import rough_duration
from results.storage.folder import Folder
from results.storage.locations import Where, folder_of
from results.storage.processes import gone, this_process
from sweep.execution.messages import say
from sweep.stages.checkpoint_files import epochs_done

if TYPE_CHECKING:
    from sweep.execution.tasks import Outcome, Task

PROGRESS = "progress.json"
SECONDS_BETWEEN = 1.0
"""Seconds from one writing of the progress to the next; a folder may be an object store."""
SECONDS_BETWEEN_LOOKS = 30.0
"""Seconds from one look for the epochs of a training to the next, in the live table."""
DIFFERENT = 0.05
"""Coefficient of variation of the costs above which a line is fitted to seconds over cost."""


@dataclass
class Count:
    """The tasks of one kind, with sums over the finished ones."""

    total: int = 0
    done: int = 0
    failed: int = 0
    cost_left: float = 0.0
    cost: float = 0.0
    seconds: float = 0.0
    _squares: float = 0.0
    _products: float = 0.0

    @property
    def left(self) -> int:
        """Tasks that have not ended."""
        return self.total - self.done - self.failed

    def took(self, cost: float, seconds: float) -> None:
        """Adds a finished task with its cost and wall-clock seconds."""
        self.done += 1
        self.cost += cost
        self.seconds += seconds
        self._squares += cost * cost
        self._products += cost * seconds

    @property
    def seconds_left(self) -> float:
        """Sum of the estimated seconds of all remaining tasks; at least one must be done.

        Expensive tasks run first, so the mean time of the finished tasks would be far too high.
        If costs vary, the estimate is a least-squares line of seconds over cost. Otherwise
        seconds are proportional to cost.
        """
        fixed, rate = 0.0, self.seconds / self.cost
        spread = self.done * self._squares - self.cost**2
        if spread > DIFFERENT**2 * self.cost**2:
            rate = (self.done * self._products - self.cost * self.seconds) / spread
            fixed = (self.seconds - rate * self.cost) / self.done
            if fixed < 0:
                fixed, rate = 0.0, self._products / self._squares
            elif rate < 0:
                fixed, rate = self.seconds / self.done, 0.0
        return self.left * fixed + self.cost_left * rate


class Progress:
    """Displays the progress of a run on a console; a context manager.

    Parameters
    ----------
    tasks : all tasks of the run.
    slots : for each kind, the number of tasks that can run at once; used for the time left.
    folder : the results folder. `prune-sweep status` reads `progress.json` from it.
    """

    def __init__(
        self, console: Console, tasks: list[Task], slots: Mapping[str, int], folder: Where
    ) -> None:
        self.console, self.slots, self.folder = console, slots, folder_of(folder)
        self.counts = {kind: Count() for kind in slots}
        for task in tasks:
            count = self.counts[task.kind]
            count.total += 1
            count.cost_left += task.cost
        self.running: dict[str, Task] = {}
        self._looked: dict[str, tuple[float, str]] = {}
        self._live: Live | None = None
        self._saved = 0.0
        self._later: threading.Timer | None = None
        self._saving = threading.Lock()

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._draw, console=self.console, refresh_per_second=2)
            self._live.__enter__()
        self._save(True)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.refresh()
            self._live.__exit__(None, None, None)
        self.running.clear()
        self._save(False)

    def started(self, task: Task) -> None:
        """Call when a task has started."""
        self.running[task.name] = task
        self._save(True)

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Call when a task has ended or was given up."""
        self.running.pop(task.name, None)
        count = self.counts[task.kind]
        count.cost_left -= task.cost
        if outcome.status == "ok":
            count.took(task.cost, outcome.seconds)
        else:
            count.failed += 1
        if self._live is None:
            self._print(task, outcome)
        elif outcome.status != "ok":
            say(self.console, f"{outcome.status}: {task.label}: {outcome.error}")
        self._save(True)

    def postponed(self, task: Task, reason: str) -> None:
        """Call when a task has ended without a result and will be retried."""
        self.running.pop(task.name, None)
        say(self.console, f"{task.label}: {reason}")
        self._save(True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the live table during the block, so that the user can type."""
        if self._live is None:
            yield
            return
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def seconds_left(self) -> float | None:
        """Estimated seconds until the run ends; None until one task of each kind is done."""
        seconds = 0.0
        for kind, count in self.counts.items():
            if count.left and count.done == 0:
                return None
            if count.left:
                at_once = max(1, min(self.slots[kind], count.left))
                seconds += count.seconds_left / at_once
        return seconds

    def _print(self, task: Task, outcome: Outcome) -> None:
        counts = self.counts
        total = sum(count.total for count in counts.values())
        ended = total - sum(count.left for count in counts.values())
        words = [f"[{ended:>{len(str(total))}}/{total}] {outcome.status:<8} {task.label}"]
        if outcome.accuracy is not None:
            words.append(f"{100 * outcome.accuracy:.2f} %")
        if outcome.error is not None:
            words.append(" ".join(outcome.error.split()))
        else:
            words.append(f"{outcome.seconds:.1f} s")
        if (left := self.seconds_left()) is not None:
            words.append(f"left {rough_duration(left)}")
        say(self.console, "  ".join(words))

    def _draw(self) -> Group:
        table = Table("", "done", "running", "failed", "left", box=None, pad_edge=False)
        for kind, count in self.counts.items():
            if count.total:
                running = sum(task.kind == kind for task in list(self.running.values()))
                left = count.left - running
                name = kind if kind == "statistics" else f"{kind}s"
                table.add_row(name, *(str(n) for n in (count.done, running, count.failed, left)))
        left_seconds = self.seconds_left()
        lines = [f"  {self._told(task)}" for task in list(self.running.values())[:16]]
        ending = "not known yet" if left_seconds is None else rough_duration(left_seconds)
        return Group(table, Text("\n".join(lines)), Text(f"time left: {ending}"))

    def _told(self, task: Task) -> str:
        """A running task in words; the epochs of a training are looked up now and then."""
        if (training := task.training) is None:
            return task.label
        looked, told = self._looked.get(task.name, (time.monotonic(), task.label))
        if time.monotonic() - looked >= SECONDS_BETWEEN_LOOKS:
            looked, told = time.monotonic(), in_words(task.label, training, self.folder)
        self._looked[task.name] = looked, told
        return told

    def _save(self, active: bool) -> None:
        """Writes the file, at most once a second; what comes sooner is written when it is over."""
        with self._saving:
            wait = self._saved + SECONDS_BETWEEN - time.monotonic()
            if active and wait > 0:
                if self._later is None:
                    self._later = threading.Timer(wait, self._save_later)
                    self._later.daemon = True
                    self._later.start()
                return
            if self._later is not None:
                self._later.cancel()
                self._later = None
            self._write(active)

    def _save_later(self) -> None:
        with self._saving:
            # The run, or a later change, may have written meanwhile.
            if self._later is threading.current_thread():
                self._later = None
                self._write(True)

    def _write(self, active: bool) -> None:
        self._saved = time.monotonic()
        content = {
            "active": active,
            **this_process(),
            "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "running": [task.label for task in list(self.running.values())],
            "trainings": {
                task.label: task.training for task in list(self.running.values()) if task.training
            },
            "cells_left": self.counts["cell"].left if "cell" in self.counts else 0,
            "seconds_left": self.seconds_left(),
        }
        # Nothing depends on this file. A full disk is reported when a row cannot be written.
        with suppress(OSError):
            self.folder.write(PROGRESS, json.dumps(content).encode())


def in_words(label: str, training: Any, folder: Folder) -> str:
    """A running task, with the epochs that its training had done at its last checkpoint.

    Parameters
    ----------
    training : `Task.training`, perhaps from a file.
    folder : the results folder.
    """
    try:
        key, epochs = training["key"], training["epochs"]
    except (KeyError, TypeError):
        return label
    done = epochs_done(folder, str(key))
    return label if done is None else f"{label}, {done} of {epochs} epochs done"


def read_progress(folder: Where) -> dict[str, Any] | None:
    """The last progress of the active run on a folder, or None if no run is active.

    A run on this machine is active if its process exists. A run on another machine or in another
    container cannot be checked, so it counts as active until it reports its end.
    """
    try:
        content = json.loads(folder_of(folder).read(PROGRESS))
        if not content["active"]:
            return None
        int(content["pid"])
        if gone(content):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content
