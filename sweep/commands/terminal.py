"""A console that prints text from data literally, without markup or control characters."""

from __future__ import annotations

from typing import Any

from rich.console import Console


def plain(text: str) -> str:
    """Text without control characters, which could move the cursor or change the window title."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


class Terminal(Console):
    """Prints strings without markup, highlighting, control characters or added line breaks."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints like `Console.print`, with the safe options as defaults."""
        safe = [plain(thing) if isinstance(thing, str) else thing for thing in objects]
        super().print(*safe, **{"markup": False, "highlight": False, "soft_wrap": True, **options})
