"""The log files of failed tasks, and how an error names the file of its task.

    FOLDER/logs/cell-<key>.txt, FOLDER/logs/baseline-<key>.txt, ...

An error ends with the name of its log. Without this ending, cells that failed for one reason have
the same error, so that they can be counted together.
"""

from __future__ import annotations

import re

LOGS = "logs"
_ENDING = re.compile(rf"; log: ({LOGS}/[\w.-]+)$")


def log_file(task: str) -> str:
    """The name of a task's log in the folder `logs`."""
    return f"{task}.txt"


def with_log(error: str, task: str) -> str:
    """The error, followed by the name of the task's log."""
    return f"{error}; log: {LOGS}/{log_file(task)}"


def without_log(error: str) -> str:
    """The error without the name of a log."""
    return _ENDING.sub("", error)


def log_of(error: str) -> str | None:
    """The log that an error names, relative to the results folder, or None."""
    found = _ENDING.search(error)
    return found[1] if found else None
