"""Jobs of a Ray cluster, through its own job server: submit, follow, stop."""

from __future__ import annotations

import asyncio
import re
import secrets
import shlex
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cluster.bundle import Bundle
from cluster.connection import connect, reported
from cluster.errors import SubmissionError
from results.formatting import rough_duration
from sweep.commands.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_NOT_ALL_OK, EXIT_OK

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails

# A sweep that is told to stop ends its trials and frees its folder; Ray would give it 3 s.
STOP_SECONDS = 60
# A connection that is silent for so long is tried anew, since a lost one may never say so.
SILENCE_SECONDS = 60
# How long the cluster may be out of reach.
LOST_SECONDS = 180
# How long a cluster may need after its dashboard until it takes jobs.
STARTING_SECONDS = 60
# How long the log of a job that has ended is asked for, which may have gone with its node.
LOG_SECONDS = 30
LAST_LINES = 5
_STARTING = "No available agent"
_BEGINNING = "Running entrypoint for job"
_SAID_BY_RAY = re.compile(r"\d{4}-\d\d-\d\d\s.*\b(INFO|WARNING|ERROR)\b.* -- ")
_OWN_CODES = (EXIT_OK, EXIT_NOT_ALL_OK, EXIT_BAD_INPUT, EXIT_INTERRUPTED)
_NOT_FOUND = (126, 127)


class Jobs:
    """The jobs of one cluster.

    Parameters
    ----------
    address : of the cluster's dashboard, such as `http://head:8265`.

    Raises
    ------
    SubmissionError
        See `cluster.connection.connect`.
    """

    def __init__(self, address: str) -> None:
        self.address, self._client = address, connect(address)

    def submit(self, bundle: Bundle, options: dict[str, str | None], python: str) -> str:
        """Starts the sweep of a bundle; returns the job's id.

        Parameters
        ----------
        options : of `prune-sweep run`; those that are None are left out.
        python : the interpreter on the cluster.
        """
        words = [python, "-m", "sweep", "run", bundle.spec]
        words += [word for name, value in options.items() if value for word in (name, value)]
        job = {
            # The shell steps aside: signals and the exit code are the sweep's own.
            "entrypoint": f"exec {shlex.join(words)}",
            "submission_id": f"{bundle.name}-{secrets.token_hex(4)}",
            "runtime_env": {
                "working_dir": str(bundle.folder),
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
            },
        }
        with reported(f"{self.address} does not take the job"):
            return self._submitted(job)

    def _submitted(self, job: dict[str, Any]) -> str:
        """The id of a job that the cluster took; one that has just started may not take any yet."""
        until = time.monotonic() + STARTING_SECONDS
        while True:
            try:
                return str(self._client.submit_job(**job))
            except RuntimeError as error:
                if _STARTING not in str(error) or time.monotonic() > until:
                    raise
            time.sleep(1)

    def follow(self, job: str, console: Console) -> int:
        """Prints what a sweep prints until it ends; returns its exit code."""
        self._details(job)
        asyncio.run(self._print(job, Log(console.print)))
        return self._exit_code(self._details(job), console)

    def status(self, job: str, console: Console) -> int:
        """Prints how a job stands and its last lines; returns its exit code, 0 while it runs."""
        details = self._details(job)
        console.print(f"{job}: {details.status.lower()}{_age(details)}")
        with reported(f"the log of {job} cannot be read"):
            text = self._client.get_job_logs(job)
        lines: list[str] = []
        log = Log(lines.append)
        log.add(text)
        log.end()
        for line in lines[-LAST_LINES:]:
            console.print(f"  {line}")
        return self._exit_code(details, console) if details.status.is_terminal() else EXIT_OK

    def stop(self, job: str, console: Console) -> None:
        """Ends a job as Ctrl-C ends a local run, and waits until it has ended."""
        if self._details(job).status.is_terminal():
            console.print(f"{job} had ended before")
            return
        with reported(f"{job} cannot be stopped"):
            self._client.stop_job(job)
        while not self._details(job).status.is_terminal():
            time.sleep(0.5)
        console.print(f"{job} is stopped; finished cells are kept, submit again to go on")

    def _details(self, job: str) -> JobDetails:
        with reported(f"{self.address} does not tell of job {job}"):
            return self._client.get_job_info(job)

    async def _print(self, job: str, log: Log) -> None:
        from aiohttp import ClientError

        ended, reached = False, time.monotonic()
        while True:
            try:
                if not ended:
                    ended = self._client.get_job_status(job).is_terminal()
                    reached = time.monotonic()
                log.rewind()
                if ended:
                    # A tail that breaks off looks like one that ends; this comes whole or fails.
                    log.add(self._client.get_job_logs(job))
                    break
                tail = self._client.tail_job_logs(job)
                while text := await asyncio.wait_for(anext(tail, ""), SILENCE_SECONDS):
                    log.add(text)
            except TimeoutError:
                pass
            except (OSError, RuntimeError, ClientError) as error:
                silent = time.monotonic() - reached
                if ended and silent > LOG_SECONDS:
                    break
                if silent > LOST_SECONDS:
                    raise SubmissionError(
                        f"{self.address} has been out of reach for {LOST_SECONDS} s; the sweep "
                        f"goes on where it is ({error})"
                    ) from error
            await asyncio.sleep(1)
        log.end()

    def _exit_code(self, details: JobDetails, console: Console) -> int:
        code = details.driver_exit_code
        if details.status == "SUCCEEDED":
            return EXIT_OK
        if details.status == "STOPPED":
            return EXIT_INTERRUPTED
        if code in _OWN_CODES:
            return int(code)
        if code in _NOT_FOUND:
            raise SubmissionError(
                "the sweep did not begin: the cluster cannot run this Python; name that of its "
                "Ray with --python"
            )
        if code is None:
            raise SubmissionError(f"the sweep did not begin: {details.message}")
        console.print(
            f"the sweep's process on the cluster was lost (exit code {code}); finished cells are "
            "kept, submit again to go on"
        )
        return EXIT_NOT_ALL_OK


class Log:
    """Says a log's whole lines once, however often it is read from its beginning.

    What Ray says before the sweep's own first line is left out. The line by which Ray tells of the
    beginning may come after what the sweep said first, so that is kept until it comes; a log
    without that line is Ray's alone.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self.say = say
        self._taken = self._seen = 0
        self._line, self._begun = "", False
        self._early: list[str] = []

    def rewind(self) -> None:
        """The next text is the log's first again."""
        self._seen = 0

    def add(self, text: str) -> None:
        """Takes the next piece of the log."""
        new = text[max(0, self._taken - self._seen) :]
        self._seen += len(text)
        self._taken = max(self._taken, self._seen)
        *whole, self._line = (self._line + new).split("\n")
        for line in whole:
            self._take(line)

    def end(self) -> None:
        """Says a last line that was not ended."""
        if self._line:
            self._take(self._line)

    def _take(self, line: str) -> None:
        if self._begun:
            self.say(line)
        elif line.startswith(_BEGINNING):
            self._begun = True
            for early in self._early:
                self.say(early)
        elif not _SAID_BY_RAY.match(line):
            self._early.append(line)


def _age(details: JobDetails) -> str:
    if details.start_time is None:
        return ""
    until = details.end_time or datetime.now(UTC).timestamp() * 1000
    return f", {rough_duration((until - details.start_time) / 1000)}"
