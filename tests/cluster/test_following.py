"""A log that is read in pieces, and from its beginning again, is printed once."""

from __future__ import annotations

import io
import random

import pytest

from cluster.jobs import Log
from sweep.commands.terminal import Terminal

NOISE = "2026-01-01 INFO -- Runtime env is setting up.\nRunning entrypoint for job a: exec python\n"
LINES = [f"[{number}/40] ok  {'x' * (number % 7)}" for number in range(40)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ending", ["\n", ""])
def test_every_line_is_printed_once_and_what_ray_says_is_not(seed: int, ending: str) -> None:
    chance, out = random.Random(seed), io.StringIO()
    whole = NOISE + "\n".join(LINES) + ending
    log = Log(Terminal(file=out).print)
    known, position = chance.randrange(len(whole)), 0
    while position < len(whole):
        step = chance.randrange(1, 60)
        log.add(whole[position : min(known, position + step)])
        position = min(known, position + step)
        if position == known:
            # The connection is lost, and more has been written when there is another.
            if known == len(whole):
                break
            known, position = min(len(whole), known + chance.randrange(1, 400)), 0
            log.rewind()
    log.end()
    assert out.getvalue().splitlines() == LINES


def test_a_log_without_a_beginning_is_rays_alone() -> None:
    out = io.StringIO()
    log = Log(Terminal(file=out).print)
    log.add("2026-01-01 INFO -- Runtime env is setting up.\nno such package")
    log.end()
    assert out.getvalue() == ""


def test_what_a_sweep_says_before_ray_tells_of_it_is_said() -> None:
    said: list[str] = []
    log = Log(said.append)
    rays, beginning = NOISE.splitlines()
    for line in (rays, "no such file", beginning, "and so it ends"):
        log.add(f"{line}\n")
    log.end()
    assert said == ["no such file", "and so it ends"]
