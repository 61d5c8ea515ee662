"""Runs tasks one after another in this process, without Ray, for debugging."""

from __future__ import annotations

from functools import partial

import torch

from prune_core.memory import keep_freed_memory
from sweep.execution.debugger import post_mortem
from sweep.execution.executor import Job, executor
from sweep.execution.progress import Progress
from sweep.execution.resources import resources_of, this_machine
from sweep.execution.run_task import run_task
from sweep.execution.tasks import KINDS, Task
from sweep.execution.tracebacks import own_traceback
from sweep.spec.fields import Spec


@executor("serial")
class Serial:
    """Runs one task at a time in this process, so that debuggers and profilers work."""

    def check(self, spec: Spec) -> None:
        """See `Executor`. Accepts every spec."""

    def execute(self, job: Job) -> None:
        """See `Executor`."""
        if job.spec.timeout_s is not None:
            job.say("timeout_s is ignored by --executor serial: tasks have no time limit")
        if job.spec.loggers:
            job.say("loggers are ignored by --executor serial: they need --executor ray")
        keep_freed_memory()
        shares = resources_of(job.spec.resources, [this_machine()])
        with job.progress(dict.fromkeys(KINDS, 1)) as progress:
            scheduler = job.scheduler(progress)
            while (task := scheduler.next()) is not None:
                torch.set_num_threads(shares[task.kind].threads)
                scheduler.started(task)
                inspect = partial(_debug, job, progress, task) if job.debugger else _continue
                scheduler.ended(task, run_task(job.workspace, task, inspect=inspect))


def _debug(job: Job, progress: Progress, task: Task, problem: Exception) -> None:
    with progress.paused():
        job.say(f"{own_traceback(problem)}\n{task.label} failed; q continues with the next task")
        post_mortem(problem)


def _continue(problem: Exception) -> None:
    pass
