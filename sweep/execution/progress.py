"""What a person sees while a sweep runs: a live table, or a line per finished cell."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from results.formatting import rough_duration
from results.storage.locations import Where, folder_of
from results.storage.processes import alive

if TYPE_CHECKING:
    from sweep.execution.tasks import Outcome, Task

PROGRESS = "progress.json"
DIFFERENT = 0.05
"""Deviation of costs, of their mean, from which a line is drawn through them."""


@dataclass
class Count:
    """Tasks of one kind, with sums over those that are done."""

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
        """A task of this cost is done."""
        self.done += 1
        self.cost += cost
        self.seconds += seconds
        self._squares += cost * cost
        self._products += cost * seconds

    @property
    def seconds_left(self) -> float:
        """Of all tasks that are left together, once one is done.

        The costliest go first, so the mean of what tasks took would say far too much. Once costs
        differ, it is a line through seconds over costs; before, seconds grow as costs.
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
    """Follows the tasks of a run; a context manager that draws on a console while open.

    Parameters
    ----------
    tasks : all tasks of the run.
    slots : for each kind how many tasks can run at once, for the time left.
    folder : where `progress.json` is kept for `prune-sweep status`.
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
        self._live: Live | None = None
        self._saved = 0.0

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
        """A task began."""
        self.running[task.name] = task
        self._save(True)

    def ended(self, task: Task, outcome: Outcome) -> None:
        """A task ended, or was given up."""
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
            self.console.print(
                f"{outcome.status}: {task.label}: {outcome.error}", markup=False, highlight=False
            )
        self._save(True)

    def postponed(self, task: Task, reason: str) -> None:
        """A task ended without a result and will be tried again."""
        self.running.pop(task.name, None)
        self.console.print(f"{task.label}: {reason}", markup=False, soft_wrap=True)

    def seconds_left(self) -> float | None:
        """Time until the end from what tasks took so far; None before the first of a kind."""
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
        self.console.print("  ".join(words), markup=False, highlight=False, soft_wrap=True)

    def _draw(self) -> Group:
        table = Table("", "done", "running", "failed", "left", box=None, pad_edge=False)
        for kind, count in self.counts.items():
            if count.total:
                running = sum(task.kind == kind for task in list(self.running.values()))
                left = count.left - running
                name = kind if kind == "statistics" else f"{kind}s"
                table.add_row(name, *(str(n) for n in (count.done, running, count.failed, left)))
        left_seconds = self.seconds_left()
        lines = [f"  {task.label}" for task in list(self.running.values())[:16]]
        ending = "unknown yet" if left_seconds is None else rough_duration(left_seconds)
        return Group(table, Text("\n".join(lines)), Text(f"time left: {ending}"))

    def _save(self, active: bool) -> None:
        now = time.monotonic()
        if active and now - self._saved < 1:
            return
        self._saved = now
        content = {
            "active": active,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "running": [task.label for task in self.running.values()],
            "seconds_left": self.seconds_left(),
        }
        # Nothing depends on it, so a full disk shows where a result cannot be written.
        with suppress(OSError):
            self.folder.write(PROGRESS, json.dumps(content).encode())


def read_progress(folder: Where) -> dict[str, Any] | None:
    """What the run that works on a folder last said, or None if none does.

    A run of this machine whose process is gone does not count; of another machine's run the
    last word is all that is known.
    """
    try:
        content = json.loads(folder_of(folder).read(PROGRESS))
        if not content["active"]:
            return None
        if content["host"] == socket.gethostname() and not alive(int(content["pid"])):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content
