"""Submits, follows and stops jobs through the job server of a Ray cluster."""

from __future__ import annotations

import asyncio
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cluster.bundle import Bundle
from cluster.connection import connect, reported
from cluster.errors import SubmissionError
from results.formatting import rough_duration
from sweep.commands.exits import EXIT_BAD_INPUT, EXIT_NOT_ALL_OK, EXIT_OK
from sweep.commands.interrupts import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails

# A sweep needs time to stop its trials and release its lease; Ray allows only 3 s by default.
STOP_SECONDS = 60
# Reconnect after this long without data, because a lost connection may not raise an error.
SILENCE_SECONDS = 60
# Give up if the cluster cannot be reached for this long.
LOST_SECONDS = 180
# A cluster may accept jobs only some time after its dashboard has started.
STARTING_SECONDS = 60
# Try this long to read the log of a job that has ended; its node may be gone.
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
    address : the address of the cluster's dashboard, such as `http://head:8265`.

    Raises
    ------
    SubmissionError
        See `cluster.connection.connect`.
    """

    def __init__(self, address: str) -> None:
        self.address, self._client = address, connect(address)

    def submit(
        self, bundle: Bundle, options: Iterable[tuple[str, str | None]], python: str | None
    ) -> str:
        """Starts the sweep of a bundle; returns the job's id.

        Parameters
        ----------
        options : names and values of options of `prune-sweep run`; None leaves one out.
        python : the Python interpreter on the cluster; None for the interpreter of its Ray.
        """
        words = [python, "-m", "cluster.entrypoint"] if python else ["sh", "cluster/entrypoint.sh"]
        words += ["run", bundle.spec]
        words += [word for name, value in options if value for word in (name, value)]
        job = {
            # `exec` replaces the shell, so that the sweep gets signals and sets the exit code.
            "entrypoint": f"exec {shlex.join(words)}",
            "submission_id": f"{bundle.name}-{secrets.token_hex(4)}",
            "runtime_env": {
                "working_dir": str(bundle.folder),
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
            },
        }
        with reported(f"{self.address} does not accept the job"):
            return self._submitted(job)

    def _submitted(self, job: dict[str, Any]) -> str:
        """Submits a job and returns its id; retries while the cluster is starting."""
        until = time.monotonic() + STARTING_SECONDS
        while True:
            try:
                return str(self._client.submit_job(**job))
            except RuntimeError as error:
                if _STARTING not in str(error) or time.monotonic() > until:
                    raise
            time.sleep(1)

    def follow(self, job: str, console: Console) -> int:
        """Prints the output of a sweep until it ends; returns its exit code."""
        self._details(job)
        asyncio.run(self._print(job, Log(console.print)))
        return self._exit_code(self._details(job), console)

    def status(self, job: str, console: Console) -> int:
        """Prints a job's status and last lines; returns its exit code, or 0 while it runs."""
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
        """Stops a job as Ctrl-C stops a local run, and waits until it has ended."""
        if self._details(job).status.is_terminal():
            console.print(f"{job} had already ended")
            return
        with reported(f"{job} cannot be stopped"):
            self._client.stop_job(job)
        while not self._details(job).status.is_terminal():
            time.sleep(0.5)
        console.print(f"{job} is stopped; finished cells are kept; submit again to continue")

    def _details(self, job: str) -> JobDetails:
        with reported(f"{self.address} gives no information on job {job}"):
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
                    # A tail may stop early without an error; this returns the whole log or fails.
                    log.add(self._client.get_job_logs(job))
                    break
                tail = self._client.tail_job_logs(job)
                while True:
                    # `wait_for` of Python 3.11 loses a Ctrl-C that comes together with a line.
                    async with asyncio.timeout(SILENCE_SECONDS):
                        text = await anext(tail, "")
                    if not text:
                        break
                    log.add(text)
            except TimeoutError:
                pass
            except (OSError, RuntimeError, ClientError) as error:
                silent = time.monotonic() - reached
                if ended and silent > LOG_SECONDS:
                    break
                if silent > LOST_SECONDS:
                    raise SubmissionError(
                        f"{self.address} could not be reached for {LOST_SECONDS} s; the sweep may "
                        f"continue there ({error})"
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
                "the sweep did not start: this Python was not found on the cluster; set --python "
                "to the Python of its Ray"
            )
        if code is None:
            raise SubmissionError(f"the sweep did not start: {details.message}")
        console.print(
            f"the sweep's process on the cluster was lost (exit code {code}); finished cells are "
            "kept; submit again to continue"
        )
        return EXIT_NOT_ALL_OK


class Log:
    """Passes on each complete line of a log once, even if the log is read several times.

    Lines that Ray prints before the sweep starts are left out. Ray's line about the start may
    come after the first lines of the sweep, so these are held back until it comes. A log without
    this line contains no output of the sweep.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self.say = say
        self._taken = self._seen = 0
        self._line, self._begun = "", False
        self._early: list[str] = []

    def rewind(self) -> None:
        """The next text starts at the beginning of the log again."""
        self._seen = 0

    def add(self, text: str) -> None:
        """Adds the next part of the log."""
        new = text[max(0, self._taken - self._seen) :]
        self._seen += len(text)
        self._taken = max(self._taken, self._seen)
        *whole, self._line = (self._line + new).split("\n")
        for line in whole:
            self._take(line)

    def end(self) -> None:
        """Passes on a last line without a line break."""
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
