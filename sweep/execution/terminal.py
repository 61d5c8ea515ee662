"""A console that prints text from data literally, without markup or control characters."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

EXIT_PIPE_CLOSED = 141
"""As a shell reports a program that SIGPIPE ended."""


def plain(text: str) -> str:
    """Text without control characters, which could move the cursor or change the window title."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


class Terminal(Console):
    """Prints strings without markup, highlighting, control characters or added line breaks.

    Parameters
    ----------
    goes_on : whether the program continues if the reader of its output, such as `head`, ends.
        Otherwise it ends like other programs.
    """

    def __init__(self, *, goes_on: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._goes_on = goes_on

    def on_broken_pipe(self) -> None:
        """See `Console`; called when the reader of the output has ended."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        # Python flushes the stream once more at its exit.
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)
        if not self._goes_on:
            raise SystemExit(EXIT_PIPE_CLOSED)

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints like `Console.print`, with the safe options as defaults."""
        safe = [plain(thing) if isinstance(thing, str) else thing for thing in objects]
        super().print(*safe, **{"markup": False, "highlight": False, "soft_wrap": True, **options})


def width(console: Console, table: Table) -> int:
    """Columns of the terminal that a table needs for figures in one line each."""
    return Measurement.get(console, console.options.update(max_width=sys.maxsize), table).maximum


def print_whole(console: Console, table: Table) -> None:
    """Prints a table at full width: the terminal may wrap lines, but must not cut figures."""
    before = console.width
    console.width = max(before, width(console, table))
    console.print(table, soft_wrap=False)
    console.width = before


def print_every_text() -> None:
    """Replaces characters that the encoding of the output lacks, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")
