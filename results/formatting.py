"""Numbers, times and lists as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

MINUS, DASH, TIMES = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


def missing(value: Any) -> bool:
    """Whether a figure is None, NaN or pandas' NA; pandas, slow to import, is not needed."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # NA is neither true nor false
        return True


def percent(fraction: Any, decimals: int = 2) -> str:
    """A fraction in percent, without the percent sign; a dash if it is missing."""
    return DASH if missing(fraction) else number(100 * float(fraction), decimals)


def number(value: Any, decimals: int = 2) -> str:
    """A number with a minus sign and thousands separators; a dash if it is missing."""
    return DASH if missing(value) else f"{float(value):,.{decimals}f}".replace("-", MINUS)


def signed(value: Any, decimals: int = 2) -> str:
    """A difference with its sign; a dash if it is missing."""
    return DASH if missing(value) else f"{float(value):+,.{decimals}f}".replace("-", MINUS)


def between(low: Any, high: Any, decimals: int = 2) -> str:
    """An interval of differences; empty if it is missing."""
    if missing(low) or missing(high):
        return ""
    return f"[{signed(low, decimals)}, {signed(high, decimals)}]"


def probability(p: Any) -> str:
    """A p value; a dash if it is missing."""
    if missing(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: Any) -> str:
    """Seconds in their one or two largest units: `40 s`, `5 min 2 s`, `3 h 20 min`, `2 d 4 h`."""
    if missing(seconds):
        return DASH
    minutes, left = divmod(round(float(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def rough_duration(seconds: float) -> str:
    """An estimated duration: `40 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def moment(time: Any) -> str:
    """A time in UTC, to the minute; a dash if it is missing."""
    return DASH if missing(time) else f"{time:%Y-%m-%d %H:%M} UTC"


def without_middle(text: str, most: int, head: int, tail: int) -> str:
    """A text of more than `most` characters as its first `head` and its last `tail` of them."""
    if len(text) <= most:
        return text
    left_out = len(text) - head - tail
    return f"{text[:head]}\n[{left_out:,} characters left out]\n{text[-tail:]}"


def several(count: int, one: str, many: str = "") -> str:
    """A count with its noun, singular or plural."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(values: Iterable[Any]) -> str:
    """Distinct values without missing ones, numbers in ascending order; a dash if there is none."""
    found = [value for value in dict.fromkeys(values) if not missing(value)]
    numbers = all(isinstance(value, int | float) for value in found)
    words = [f"{value:g}" if isinstance(value, float) else str(value) for value in found]
    if numbers:
        words = [word for _, word in sorted(zip(found, words, strict=True))]
    return ", ".join(words) if words else DASH


def spoken(words: Sequence[str]) -> str:
    """Words as in a sentence: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
