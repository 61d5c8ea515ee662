"""Kills a worker process whose task takes too long.

The watchdog is a separate process per worker, so it still works if the worker is blocked, busy or
stopped. It ends when the worker ends. If it kills the worker, it leaves a file with the reason.
The driver reads this file and writes the row.

    python -m sweep.execution.watchdog PID      reads lines from standard input:
        {"seconds": 60, "folder": PATH OR URI, "task": NAME}     a task has started
        {}                                                       the task has ended
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.storage.locations import Where

FOLDER = "timeouts"


class Watchdog:
    """The worker's side: starts the watchdog process and reports tasks to it.

    Parameters
    ----------
    folder : the results folder; the watchdog writes its files there.
    seconds : time limit of a task; None for no limit.
    """

    def __init__(self, folder: Where, seconds: float | None) -> None:
        from results.storage.locations import folder_of

        self.address, self.seconds = folder_of(folder).address, seconds
        self._process: subprocess.Popen[str] | None = None
        if seconds is not None:
            command = [sys.executable, "-m", "sweep.execution.watchdog", str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)

    @contextlib.contextmanager
    def watching(self, task: str) -> Iterator[None]:
        """Kills this process if the block takes longer than the time limit."""
        if self._process is None:
            yield
            return
        self._tell({"seconds": self.seconds, "folder": self.address, "task": task})
        try:
            yield
        finally:
            self._tell({})

    def close(self) -> None:
        """Ends the watchdog process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()

    def _tell(self, message: dict[str, object]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()


def note(task: str) -> str:
    """The name of the file with the reason why a task was killed."""
    return re.sub(r"[^0-9A-Za-z-]", "", task)


def timed_out(folder: Where, task: str) -> str | None:
    """Why the watchdog killed a task, or None if it did not."""
    from results.storage.locations import folder_of

    try:
        return (folder_of(folder) / FOLDER).read(note(task)).decode()
    except OSError:
        return None


def forget(folder: Where) -> None:
    """Removes the files of earlier runs, so that their tasks can be retried."""
    from results.storage.locations import DiskFolder, folder_of

    notes = folder_of(folder) / FOLDER
    if isinstance(notes, DiskFolder) and notes.path.is_symlink():
        return
    for entry in notes.entries():
        with contextlib.suppress(IsADirectoryError):
            notes.delete(entry.name)


def watch(pid: int) -> None:
    """The watchdog process: reads messages, and kills process `pid` if a task takes too long."""
    messages: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            messages.put(line)
        messages.put("")

    threading.Thread(target=read, daemon=True).start()
    current: dict[str, object] = {}
    while True:
        seconds = current.get("seconds")
        try:
            line = messages.get(timeout=float(str(seconds)) if seconds else None)
        except queue.Empty:
            folder, task = str(current["folder"]), str(current["task"])
            _end(pid, folder, task, f"the task took more than {seconds} s (timeout_s)")
            return
        if not line:
            return
        current = json.loads(line)


def _leave(folder: str, name: str, reason: str) -> None:
    # Importing the object-store code takes seconds in each watchdog, so avoid it for a local path.
    if "://" in folder:
        from results.storage.locations import folder_of

        (folder_of(folder) / FOLDER).write(name, reason.encode())
        return
    notes = Path(folder) / FOLDER
    notes.mkdir(exist_ok=True)
    (notes / name).write_text(reason)


def _end(pid: int, folder: str, task: str, reason: str) -> None:
    with contextlib.suppress(OSError):
        _leave(folder, note(task), reason)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
