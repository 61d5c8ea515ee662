"""Differences, lists and tables in words."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd


def interval(row: pd.Series) -> str:
    """A difference in points and the ends of its interval, if it has one."""
    low, high = row["low_points"], row["high_points"]
    bounds = "" if np.isnan(low) else f" [{low:+.1f}, {high:+.1f}]"
    return f"{row['difference_points']:+.1f}{bounds}"


def span(rows: pd.DataFrame) -> str:
    """The differences of several settings, from the smallest to the largest."""
    points = rows["difference_points"]
    ends = [points.min(), points.max()] if len(points) > 1 else [points.iloc[0]]
    return " to ".join(f"{value:+.1f}" for value in ends)


def counted(verdicts: pd.Series, names: Iterable[str], form: str = "{count} {name}") -> list[str]:
    """How often each verdict occurs, in the order of the names; one that does not is left out."""
    counts = verdicts.value_counts()
    return [form.format(count=counts[name], name=name) for name in names if name in counts.index]


def bullets(lines: Iterable[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def table(lines: Iterable[dict[str, str]]) -> str:
    """A table in Markdown; the first line names the columns."""
    lines = list(lines)
    heads = list(lines[0])
    rows = [
        heads,
        ["---"] * len(heads),
        *([line.get(head, "") for head in heads] for line in lines),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
