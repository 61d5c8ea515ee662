"""Lines for the user of a run."""

from __future__ import annotations

from rich.console import Console

from sweep.execution.terminal import Terminal


def note(text: str) -> None:
    """Prints what a person should know beside the result, on standard error."""
    say(Terminal(stderr=True), f"note: {text}")


def say(console: Console, text: str) -> None:
    """Prints text as it is: without markup, colours of numbers, and added line breaks."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
