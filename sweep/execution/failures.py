"""Why a task failed: its status, a short message, a traceback, and a log with all there is."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from prune_core.training import Diverged
from results.storage.failure_logs import LOGS, log_file, with_log
from sweep.execution.tasks import Task
from sweep.execution.tracebacks import innermost, own_traceback, storable, whole_traceback
from sweep.stages.rows import Row
from sweep.stages.workspace import Workspace

ERROR_LENGTH = 2_000
"""Characters of an error's message that a row keeps."""

# Messages of failed allocations: of torch for the CPU, the GPU and the libraries of CUDA, of
# oneMKL, and of the C++ library.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|can(no|')t allocate memory|alloc(ation)?_failed|bad_alloc",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Failure:
    """What an exception says about a task.

    Attributes
    ----------
    status : as in the `cells` table.
    error : type, message and place of the exception.
    own_frames : our own frames and the innermost one; the column `traceback`.
    all_frames : the whole traceback.
    """

    status: str
    error: str
    own_frames: str
    all_frames: str


def diagnosis(problem: Exception) -> Failure:
    """Describes an exception that ended a task."""
    message = storable(_message(problem)).strip()
    error = f"{type(problem).__name__}: {message}" if message else type(problem).__name__
    error = error[:ERROR_LENGTH]
    status = _status(problem)
    # Where a loss is checked says nothing about why the training diverged.
    if status != "diverged" and (place := innermost(problem)):
        error += f" ({place})"
    return Failure(status, error, own_traceback(problem), whole_traceback(problem))


def write_log(workspace: Workspace, task: Task, failure: Failure, ran: Row) -> str:
    """Writes the log of a failed task into the results folder, in place of an earlier one.

    Parameters
    ----------
    ran : where, when and with what the task ran.

    Returns
    -------
    The error with the name of the log, or with the reason why there is none: the row of a cell
    must be written in any case.
    """
    logs = workspace.store.folder / LOGS
    facts = {
        "task": task.name,
        "label": task.label,
        "sweep": workspace.sweep,
        "status": failure.status,
        "failed_at": datetime.now(UTC),
        **ran,
    }
    lines = [f"{name}: {value}" for name, value in facts.items()]
    text = "\n".join([*lines, "", failure.error, "", failure.all_frames])
    try:
        logs.make()
        logs.write(log_file(task.name), storable(text).encode())
    except OSError as error:
        return f"{failure.error}; its log could not be written: {storable(str(error))}"
    return with_log(failure.error, task.name)


def _status(problem: Exception) -> str:
    if isinstance(problem, Diverged):
        return "diverged"
    return "out_of_memory" if any(map(_is_out_of_memory, _chain(problem))) else "failed"


def _is_out_of_memory(problem: BaseException) -> bool:
    if isinstance(problem, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(problem, OSError):
        return problem.errno == errno.ENOMEM
    # The CPU's allocator and the libraries of CUDA have no exception of their own. Other types
    # are left alone, because their messages may speak of memory for other reasons.
    return isinstance(problem, RuntimeError) and bool(_OUT_OF_MEMORY.search(_message(problem)))


def _chain(problem: BaseException) -> Iterator[BaseException]:
    """The exception and those that it was raised from, as a traceback shows them."""
    found: BaseException | None = problem
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ if found.__suppress_context__ else found.__context__


def _message(problem: BaseException) -> str:
    try:
        return str(problem)
    except Exception:
        # The class of an exception may be a user's, and its message is not worth losing a row.
        return "its message cannot be shown"
