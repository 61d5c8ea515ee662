"""Sections of the document, printed row by row, so that a run that is stopped loses no row."""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch
from hardware import describe
from measuring import DOCUMENT, marks, publish, table

_SECTION = re.compile(
    r"<!-- measured: (\w+) -->\n(.*?)(<!-- end of \1 -->|(?=<!-- measured)|\Z)", re.S
)


@dataclass
class Report:
    """Prints tables between the marks of their sections, and knows how much time is left.

    Attributes
    ----------
    device : what is measured.
    seconds : after this time no new measurement begins.
    out : a file that gets the same text, line by line.
    """

    device: torch.device
    seconds: float = float("inf")
    out: Path | None = None
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.out is not None:
            self.out.write_text("")

    @property
    def left(self) -> float:
        """Seconds until no new measurement begins."""
        return self._began + self.seconds - time.monotonic()

    def say(self, text: str = "") -> None:
        """Prints a line, or several."""
        print(text, flush=True)
        if self.out is not None:
            with self.out.open("a") as file:
                file.write(f"{text}\n")

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Prints the marks of a section around what is printed in the block, and the hardware."""
        begin, end = marks(name)
        began = time.monotonic()
        self.say(f"{begin}\n")
        yield
        seconds = f"{time.monotonic() - began:.0f} s"
        self.say(f"Measured on {describe(self.device)}, in {seconds}.\n\n{end}\n")

    def rows(
        self,
        columns: Sequence[str],
        measurements: Iterable[tuple[str, Callable[[], Sequence[str]]]],
    ) -> None:
        """Prints a table, each row as soon as it is measured.

        A measurement that fails gets a row with its error; the others go on.

        Parameters
        ----------
        measurements : the first cell of each row, and a function that measures the others.
        """
        self.say(_line(columns))
        self.say(_line(["---", *("--:" for _ in columns[1:])]))
        for name, measure in measurements:
            if self.left <= 0:
                cells = ["not measured: the time was over"]
            else:
                cells = self._measured(measure)
            self.say(_line([name, *cells, *("-" for _ in columns[len(cells) + 1 :])]))
        self.say()

    def _measured(self, measure: Callable[[], Sequence[str]]) -> list[str]:
        try:
            return list(measure())
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            words = " ".join(f"{type(error).__name__}: {error}".split())
            return [f"failed: {words[:160]}".replace("|", "/")]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def publish_all(text: str, document: Path = DOCUMENT) -> list[str]:
    """Puts every section of a printed report into the document; returns their names.

    A section without its last mark, of a run that was stopped, says so.

    Raises
    ------
    DocumentError
        If the document does not have the marks of a section.
    ValueError
        If the text has no section.
    """
    found = [(name, body, end) for name, body, end in _SECTION.findall(text)]
    if not found:
        raise ValueError("the text has no section: give the output of this script")
    for name, body, end in found:
        stopped = "" if end else "\n\nThe measurement was stopped here."
        publish(name, f"{_aligned(body.strip())}{stopped}", document)
    return [name for name, _, _ in found]


def _aligned(text: str) -> str:
    """The text with its tables aligned."""
    parts = []
    for is_table, lines in groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        block = list(lines)
        if is_table:
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in block]
            block = [table(cells[0], cells[2:])]
        parts += block
    return "\n".join(parts)
