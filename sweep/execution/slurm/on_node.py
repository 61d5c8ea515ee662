"""What a job runs on its node: one task."""

from __future__ import annotations

import signal

import torch

from prune_core.memory import keep_freed_memory
from sweep.execution.run_task import run_task
from sweep.execution.tasks import Outcome, Task
from sweep.execution.watchdog import Watchdog
from sweep.stages.workspace import Workspace


def run_on_node(workspace: Workspace, task: Task, threads: int, timeout: float | None) -> Outcome:
    """Runs a task in this process, which ends after it.

    Parameters
    ----------
    workspace : comes first, because it loads the plug-ins whose classes the task may have.
    threads : of torch.
    timeout : time limit of the task in seconds; None for no limit but that of the job.

    Raises
    ------
    StoreError
        See `run_task`.
    """
    # Before a time limit, submitit's handlers would raise an error in the middle of the task, which
    # would count as its failure, and at an end they would let the task go on. Slurm ends the
    # job, and the executor reads from Slurm why.
    for warning in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(warning, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    keep_freed_memory()
    torch.set_num_threads(threads)
    watchdog = Watchdog(workspace.folder, timeout)
    with watchdog.watching(task.name):
        outcome = run_task(workspace, task)
    watchdog.close()
    return outcome
