"""Cells that must not be averaged: which value differs, and the line that selects some of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_TOLD = re.compile(r"differ in more than the seed: (?P<values>.*); select .*, such as (?P<line>.*)")


@dataclass(frozen=True)
class Refusal:
    """Why parts of a report cannot be computed.

    Attributes
    ----------
    values : the name of what differs, and two of its values.
    line : an expression that selects cells of a frame that agree in it.
    """

    values: str
    line: str

    def explains(self, problem: str) -> bool:
        """Whether a part is refused for this reason, whichever cells its message names."""
        return refusal([problem]) == self


def refusal(problems: Sequence[str]) -> Refusal | None:
    """What the first of these messages says, if cells differ in more than the seed."""
    found = (_TOLD.search(problem) for problem in problems)
    return next((Refusal(told["values"], told["line"]) for told in found if told), None)
