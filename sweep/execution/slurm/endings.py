"""How a job ended that gave no result, and what that means for its task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.execution.failures import ERROR_LENGTH

if TYPE_CHECKING:
    from submitit import Job

    from sweep.execution.tasks import Outcome

_BY_STATE = {
    "TIMEOUT": ("timeout", "Slurm ended its job at the time limit; --slurm time=MINUTES sets it"),
    "DEADLINE": ("timeout", "Slurm ended its job at the deadline"),
    "OUT_OF_MEMORY": (
        "out_of_memory",
        "Slurm ended its job, which used more memory than it had; --slurm mem=GIGABYTESG sets it",
    ),
    "CANCELLED": ("failed", "its job was cancelled in Slurm, but not by this run"),
}
# The last two are states of submitit's executor for this machine.
ENDED = frozenset(
    [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
        "FINISHED",
        "INTERRUPTED",
    ]
)
"""The states in which Slurm does nothing more for a job: it may not start it again by itself."""


@dataclass(frozen=True)
class Ending:
    """The end of a job without a result.

    Attributes
    ----------
    status : of the row; None if the task is to be retried.
    reason : in words, the same for all jobs that ended for the same reason.
    output : what the job printed.
    """

    status: str | None
    reason: str
    output: str


def state_of(job: Job[Outcome]) -> str:
    """The state of a job in one word; Slurm adds by whom a job was cancelled."""
    return (job.state.split() or ["UNKNOWN"])[0]


def raised(job: Job[Outcome], error: Exception) -> Ending:
    """The end of a job whose process raised an error outside of the task."""
    # The message of submitit holds the traceback, between two lines of dashes.
    trace = str(error).rsplit("\n---", 1)[0]
    return Ending(None, trace.splitlines()[-1][:ERROR_LENGTH], trace)


def ended(job: Job[Outcome]) -> Ending:
    """The end of a job that Slurm ended, or whose process did not survive."""
    state = state_of(job)
    lost = f"its job ended in Slurm's state {state} without a result"
    status, reason = _BY_STATE.get(state, (None, lost))
    files = [path for path in (job.paths.stdout, job.paths.stderr) if path.exists()]
    if not files and status is None:
        reason += f" and wrote nothing into {job.paths.folder}, which all nodes must share"
    return Ending(status, reason, "\n".join(map(_text, files)))


def _text(file: Path) -> str:
    return file.read_text(errors="replace")
