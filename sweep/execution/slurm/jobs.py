"""Submits tasks as array jobs, and follows the jobs until all have ended."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import submitit
from submitit.core.utils import FailedSubmissionError, UncompletedJobError

from sweep.errors import ClusterError
from sweep.execution.executor import Job
from sweep.execution.failures import Failure, write_log
from sweep.execution.scheduler import Scheduler
from sweep.execution.slurm.endings import ENDED, Ending, ended, raised, state_of
from sweep.execution.slurm.on_node import run_on_node
from sweep.execution.tasks import KINDS, Outcome, Task
from sweep.execution.watchdog import forget, timed_out

# Each look may call sacct once, for all jobs, and Slurm's controller serves many users.
LOOK_EVERY_S = 10.0
ASK_EVERY_S = 60.0
# After a job has ended, its result may appear on a network file system with a delay.
LATE_S = 30.0
LATE = ("COMPLETED", "FAILED", "FINISHED")
# Variables of a site or a user that sbatch reads; all others of Slurm belong to one job.
SETTINGS = ("SBATCH_", "SLURM_CONF")


@dataclass
class Submitted:
    """A task and its job.

    Attributes
    ----------
    running : whether the job was seen to run.
    ended_at : when the job was first seen to have ended without a result, in seconds of the
        monotonic clock.
    """

    task: Task
    job: submitit.Job[Outcome]
    running: bool = False
    ended_at: float | None = None


class Jobs:
    """The jobs of a run.

    Parameters
    ----------
    folder : for the files of submitit, on a file system that all nodes share. Only one run at a
        time may use it. It is removed at the end; logs of failed jobs are kept in the results.
    executors : submit the tasks of each stage.
    threads : of a task of each stage.
    at_once : the most jobs that may wait or run at once.
    """

    def __init__(
        self,
        job: Job,
        folder: Path,
        executors: Mapping[str, submitit.Executor],
        threads: Mapping[str, int],
        at_once: int,
    ) -> None:
        self.job, self.folder, self.executors = job, folder, executors
        self.threads, self.at_once = threads, at_once
        self._waiting: list[Task] = []
        self._out: list[Submitted] = []
        self._asked = time.monotonic()
        self._refused: str | None = None

    def execute(self) -> None:
        """Runs every task.

        Raises
        ------
        ClusterError
            If Slurm takes no job.
        """
        # Jobs of an earlier run that was killed: they may still wait or run.
        self._cancel({_array(file.name) for file in self.folder.glob("*_submission.sh")})
        forget(self.job.workspace.folder)
        with self.job.progress(dict.fromkeys(KINDS, self.at_once)) as progress:
            scheduler = self.job.scheduler(progress, self.job.spec.retries)
            try:
                while self._fill(scheduler):
                    if not self._look(scheduler):
                        time.sleep(LOOK_EVERY_S)
            finally:
                self._cancel({_array(one.job.job_id) for one in self._out})

    def _fill(self, scheduler: Scheduler) -> bool:
        """Submits the tasks that can start; whether there are any jobs."""
        scheduler.may_go_on()
        while len(self._out) + len(self._waiting) < self.at_once:
            if (task := scheduler.next()) is None:
                break
            self._waiting.append(task)
        for kind in KINDS:
            if array := [task for task in self._waiting if task.kind == kind]:
                self._submit(kind, array)
        return bool(self._out)

    def _submit(self, kind: str, array: list[Task]) -> None:
        workspace, timeout = self.job.workspace, self.job.spec.timeout_s
        calls = [
            partial(run_on_node, workspace, task, self.threads[kind], timeout) for task in array
        ]
        try:
            with _as_on_a_login_node():
                jobs = self.executors[kind].submit_array(calls)
        except (FailedSubmissionError, UncompletedJobError) as error:
            # While other jobs run, the reason may pass: a limit of jobs, or a busy controller.
            if not self._out:
                raise ClusterError(f"Slurm refused the jobs: {error}") from error
            if self._refused != str(error):
                self._refused = str(error)
                self.job.say(f"Slurm refused jobs; they will be retried: {error}")
            return
        self._waiting = [task for task in self._waiting if task not in array]
        self._out += [Submitted(task, job) for task, job in zip(array, jobs, strict=True)]

    def _look(self, scheduler: Scheduler) -> bool:
        """Gives the outcomes of ended jobs to the scheduler; whether there were any."""
        # This shows the files that nodes have written since the last look.
        self.folder.chmod(self.folder.stat().st_mode)
        if (now := time.monotonic()) - self._asked >= ASK_EVERY_S:
            self._asked = now
            self._out[0].job.get_info(mode="force")
        before = len(self._out)
        for one in list(self._out):
            if self._settled(one, scheduler, now):
                self._out.remove(one)
                for file in self.folder.glob(f"{one.job.job_id}_*"):
                    file.unlink(missing_ok=True)
        if running := sum(one.running for one in self._out):
            scheduler.progress.slots = dict.fromkeys(KINDS, running)
        return len(self._out) < before

    def _settled(self, one: Submitted, scheduler: Scheduler, now: float) -> bool:
        """Whether a job has ended, and the scheduler was told."""
        job, task = one.job, one.task
        if job.paths.result_pickle.exists():
            try:
                scheduler.ended(task, job.result())
            except UncompletedJobError as error:
                self._lost(task, job, raised(job, error), scheduler)
            return True
        state = state_of(job)
        if not one.running and state == "RUNNING":
            one.running = True
            scheduler.started(task)
        if state not in ENDED:
            return False
        if (reason := timed_out(self.job.workspace.folder, task.name)) is not None:
            scheduler.stopped(task, Outcome("timeout", reason))
            return True
        one.ended_at = one.ended_at or now
        if state in LATE and now - one.ended_at < LATE_S:
            return False
        self._lost(task, job, ended(job), scheduler)
        return True

    def _lost(
        self, task: Task, job: submitit.Job[Outcome], ending: Ending, scheduler: Scheduler
    ) -> None:
        failure = Failure(ending.status or "failed", ending.reason, "", ending.output)
        facts = {"job": job.job_id, "state": state_of(job)}
        error = write_log(self.job.workspace, task, failure, facts)
        if ending.status is None:
            scheduler.crashed(task, error)
        else:
            scheduler.stopped(task, Outcome(ending.status, error))

    def _cancel(self, ids: set[str]) -> None:
        """Cancels jobs and removes their files, by which a later run would find them."""
        if ids:
            command = ["scancel", "--quiet", *sorted(ids)]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                why = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
                self.job.say(f"jobs could not be cancelled ({why}); run: {' '.join(command)}")
                return
            self.job.say(f"cancelled in Slurm: {', '.join(sorted(ids))}")
        shutil.rmtree(self.folder, ignore_errors=True)


def _array(job_id: str) -> str:
    return job_id.partition("_")[0]


@contextmanager
def _as_on_a_login_node() -> Iterator[None]:
    """Hides the job that this process may be part of, whose limits sbatch would hand on.

    Errors of sbatch are raised, and need not be printed as well.
    """
    kept = {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)}
    inside = submitit.helpers.clean_env() if "SLURM_JOB_ID" in os.environ else nullcontext()
    with inside, redirect_stderr(io.StringIO()):
        os.environ.update(kept)
        yield
