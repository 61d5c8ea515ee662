"""Ends a process that works on one task for too long.

It runs beside each worker as a process of its own, so that no lock, loop or stopped process of
the worker's can keep it from acting, and ends when the worker does. What it did is left as a
file for the driver, which writes the row.

    python -m sweep.execution.watchdog PID      reads lines from its input:
        {"seconds": 60, "folder": PATH OR URI, "task": NAME}     begin to watch
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
    """A worker's side: starts the watching process and tells it of tasks.

    Parameters
    ----------
    folder : the results folder, where the files of ended tasks are left.
    seconds : how long a task may take; None for as long as it likes.
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
        """Ends this process if the block takes longer than it may."""
        if self._process is None:
            yield
            return
        self._tell({"seconds": self.seconds, "folder": self.address, "task": task})
        try:
            yield
        finally:
            self._tell({})

    def close(self) -> None:
        """Ends the watching process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()

    def _tell(self, message: dict[str, object]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()


def note(task: str) -> str:
    """The name of the file that tells that a task was ended."""
    return re.sub(r"[^0-9A-Za-z-]", "", task)


def timed_out(folder: Where, task: str) -> str | None:
    """Why a task was ended, or None if it was not."""
    from results.storage.locations import folder_of

    try:
        return (folder_of(folder) / FOLDER).read(note(task)).decode()
    except OSError:
        return None


def forget(folder: Where) -> None:
    """Removes what earlier runs left, so that their tasks can be tried again."""
    from results.storage.locations import DiskFolder, folder_of

    notes = folder_of(folder) / FOLDER
    if isinstance(notes, DiskFolder) and notes.path.is_symlink():
        return
    for entry in notes.entries():
        with contextlib.suppress(IsADirectoryError):
            notes.delete(entry.name)


def watch(pid: int) -> None:
    """The watching process: waits for messages, and acts when one is overdue."""
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
            _end(pid, folder, task, f"it took more than {seconds} s")
            return
        if not line:
            return
        current = json.loads(line)


def _leave(folder: str, name: str, reason: str) -> None:
    # What opens object stores takes seconds to import, and there is a watching process a worker.
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
