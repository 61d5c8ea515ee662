"""What is allowed where a name is unknown: the name that was probably meant comes first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

ALIKE = 0.7
"""Least similarity of a name that was probably meant, from 0 to 1."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None if none is like it.

    Case and punctuation count little: `cifar-10` means `cifar10`, and `Output_L1` `output_l1`.
    """
    likeness = {one: _likeness(name, one) for one in known}
    best = max(likeness, key=lambda one: likeness[one], default=None)
    return best if best is not None and likeness[best] >= ALIKE else None


def allowed(name: str, known: Iterable[str], words: str = "allowed: ") -> str:
    """Names that can stand in place of an unknown one, as the end of an error.

    Parameters
    ----------
    words : introduce the list.
    """
    names = list(known)
    meant = nearest(name, names)
    question = f"did you mean {meant}? " if meant is not None else ""
    return f"{question}{words}{', '.join(names) or 'none'}"


def _likeness(one: str, other: str) -> float:
    plain = _plain(one), _plain(other)
    # Names may differ in punctuation alone, and the one written alike is then nearer.
    return SequenceMatcher(None, *plain).ratio() + SequenceMatcher(None, one, other).ratio() / 1000


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())
