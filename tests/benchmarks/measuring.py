"""Timing in turns, and tables of the results: the shared part of all benchmarks.

A result is a ratio of two loads that run in turns (A, B, A, B, ...). A busy moment of the machine
then affects both, and the ratio is computed within each turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from hardware import describe

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/benchmarks.md"

Clock = Literal["wall", "processor"]


class DocumentError(ValueError):
    """A document lacks the marks of a section; the message names them."""


@dataclass(frozen=True)
class Spread:
    """The median of several values, with the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least one value."""
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))

    def times(self, factor: float) -> Spread:
        """The spread multiplied by a positive factor."""
        return Spread(self.median * factor, self.lowest * factor, self.highest * factor)

    def text(self, digits: int = 2) -> str:
        """`median (lowest to highest)`, with this many decimals."""
        low, high = f"{self.lowest:,.{digits}f}", f"{self.highest:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({low} to {high})"


@dataclass(frozen=True)
class Load:
    """Something to time.

    Attributes
    ----------
    run : runs the load once.
    amount : the work of one run, such as a number of images or bytes.
    """

    run: Callable[[], object]
    amount: float = 1.0


@dataclass(frozen=True)
class Run:
    """Seconds of one run: wall time, and the processor time of all threads of this process.

    Other processes on the machine hardly change the processor time. It does not include GPU time.
    """

    wall: float
    processor: float


@dataclass(frozen=True)
class Timed:
    """The runs of one load, in the order of the turns."""

    amount: float
    runs: tuple[Run, ...]

    def rates(self, clock: Clock = "wall") -> list[float]:
        """Amount per second of each run."""
        return [self.amount / getattr(run, clock) for run in self.runs]

    @property
    def rate(self) -> Spread:
        """Amount per second."""
        return Spread.of(self.rates())

    @property
    def seconds(self) -> Spread:
        """Wall seconds of a run."""
        return Spread.of(run.wall for run in self.runs)


def in_turns(*loads: Load, repeats: int, warm_up: bool = True) -> list[Timed]:
    """Times the loads in turns: each once, then each once more, and so on.

    Parameters
    ----------
    warm_up : run each load once before, without timing it.
    """
    if warm_up:
        for load in loads:
            load.run()
    turns = [[_timed(load.run) for load in loads] for _ in range(repeats)]
    columns = zip(*turns, strict=True)
    return [Timed(load.amount, runs) for load, runs in zip(loads, columns, strict=True)]


def speed_ratio(one: Timed, other: Timed, clock: Clock = "wall") -> Spread:
    """Speed of `one` divided by that of `other`, from amounts per second in the same turn."""
    rates = zip(one.rates(clock), other.rates(clock), strict=True)
    return Spread.of(mine / theirs for mine, theirs in rates)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned so that it reads well as plain text too."""
    lines = [list(columns), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [
        [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [aligned[0], rule, *aligned[1:]])


def section(text: str, device: torch.device | None = None) -> str:
    """Tables and notes, with the hardware and software of the measurement."""
    return f"{text}\n\nMeasured on {describe(device or torch.device('cpu'))}."


def publish(name: str, text: str, document: Path = DOCUMENT) -> None:
    """Replaces the text between a section's marks in a document.

    Raises
    ------
    DocumentError
        If the document does not have each of the two marks once, in their order.
    """
    begin, end = marks(name)
    content = document.read_text()
    before, found, rest = content.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed or begin in rest or end in before + after:
        raise DocumentError(f"{document} must have the lines {begin} and {end}, each once")
    document.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")


def marks(name: str) -> tuple[str, str]:
    """The lines before and after a section of the document."""
    return f"<!-- measured: {name} -->", f"<!-- end of {name} -->"


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="tiny sizes, to check that it works; does not change the document",
    )
    parser.add_argument("--repeats", type=int, help="turns, instead of the benchmark's own number")
    parser.add_argument("--threads", type=int, help="threads of torch, instead of its default")
    return parser


def begin(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the options and applies the settings that all benchmarks share."""
    given = parser.parse_args(arguments)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    return given


def finish(name: str, text: str, quick: bool) -> None:
    """Prints a section and, unless it was a quick run, writes it into the document."""
    print(text, flush=True)
    if not quick:
        publish(name, text)


def _timed(run: Callable[[], object]) -> Run:
    _wait()
    wall, processor = time.perf_counter(), time.process_time()
    run()
    _wait()
    return Run(time.perf_counter() - wall, time.process_time() - processor)


def _wait() -> None:
    """Waits for the GPU, which works asynchronously."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
