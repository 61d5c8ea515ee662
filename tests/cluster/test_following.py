"""A log that is read in pieces, and again after a lost connection, is printed once."""

from __future__ import annotations

import asyncio
import io
import random
import signal
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from cluster import jobs
from cluster.jobs import Jobs, Log
from sweep.execution.terminal import Terminal

NOISE = "2026-01-01 INFO -- Runtime env is setting up.\nRunning entrypoint for job a: exec python\n"
LINES = [f"[{number}/40] ok  {'x' * (number % 7)}" for number in range(40)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ending", ["\n", ""])
def test_every_line_is_printed_once_without_the_lines_of_ray(seed: int, ending: str) -> None:
    chance, out = random.Random(seed), io.StringIO()
    whole = NOISE + "\n".join(LINES) + ending
    log = Log(Terminal(file=out).print)
    known, position = chance.randrange(len(whole)), 0
    while position < len(whole):
        step = chance.randrange(1, 60)
        log.add(whole[position : min(known, position + step)])
        position = min(known, position + step)
        if position == known:
            # The connection is lost, and the log has grown when a new one is open.
            if known == len(whole):
                break
            known, position = min(len(whole), known + chance.randrange(1, 400)), 0
            log.rewind()
    log.end()
    assert out.getvalue().splitlines() == LINES


def test_a_log_without_an_entrypoint_line_prints_nothing() -> None:
    out = io.StringIO()
    log = Log(Terminal(file=out).print)
    log.add("2026-01-01 INFO -- Runtime env is setting up.\nno such package")
    log.end()
    assert out.getvalue() == ""


def test_lines_of_a_sweep_before_the_entrypoint_line_are_printed() -> None:
    said: list[str] = []
    log = Log(said.append)
    rays, beginning = NOISE.splitlines()
    for line in (rays, "no such file", beginning, "and so it ends"):
        log.add(f"{line}\n")
    log.end()
    assert said == ["no such file", "and so it ends"]


class Server:
    """A job that has ended when it is asked for the second time, and whose log comes in parts."""

    def __init__(self, interrupted: bool) -> None:
        self.interrupted, self.asked = interrupted, 0

    def get_job_info(self, job: str) -> SimpleNamespace:
        return SimpleNamespace(status="SUCCEEDED", driver_exit_code=0)

    def get_job_status(self, job: str) -> SimpleNamespace:
        self.asked += 1
        return SimpleNamespace(is_terminal=lambda: self.asked > 1)

    def get_job_logs(self, job: str) -> str:
        return NOISE + "first\nsecond\n"

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        yield NOISE
        await asyncio.sleep(0)
        if self.interrupted:
            signal.raise_signal(signal.SIGINT)
        yield "first\n"
        await asyncio.sleep(60)  # A connection that was lost without an error.


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setattr(jobs, "SILENCE_SECONDS", 0.1)
    return io.StringIO()


def test_a_connection_without_data_is_opened_again(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "connect", lambda address: Server(interrupted=False))
    assert Jobs("http://head:8265").follow("a", Terminal(file=out)) == 0
    assert out.getvalue() == "first\nsecond\n"


def test_ctrl_c_together_with_a_line_ends_it(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "connect", lambda address: Server(interrupted=True))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Jobs("http://head:8265").follow("a", Terminal(file=out))
    finally:
        signal.signal(signal.SIGINT, before)
