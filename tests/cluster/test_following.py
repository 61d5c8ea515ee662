"""A log that is read in pieces, and again after a lost connection, is printed once."""

from __future__ import annotations

import io
import random

import pytest

from cluster.jobs import Log
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
