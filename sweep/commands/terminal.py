"""A console on which text that comes from data is only ever text."""

from __future__ import annotations

from typing import Any

from rich.console import Console


def plain(text: str) -> str:
    """Text without control characters, which could move the cursor or rename the window."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


class Terminal(Console):
    """Prints strings without markup, highlighting, control characters and breaks of its own."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's own, for strings and for tables."""
        safe = [plain(thing) if isinstance(thing, str) else thing for thing in objects]
        super().print(*safe, **{"markup": False, "highlight": False, "soft_wrap": True, **options})
