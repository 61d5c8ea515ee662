"""`prune-sweep compare`: what sweeps share, whether they agree, and how far they differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pandas as pd
from rich.table import Table

import results
from results import SweepComparison
from results.analysis.study import POINT, STUDY
from results.analysis.two_sweeps import OTHER
from sweep.errors import UserError
from sweep.execution.terminal import Terminal, plain, print_whole

_LISTED = 10
_SHOWN = (*STUDY, "metric", *POINT)
"""Columns of a pair that are shown where they vary."""


def compare(folders: Sequence[str], console: Terminal, form: Literal["text", "json"]) -> bool:
    """Compares the first results folder with each other one.

    Returns
    -------
    Whether all cells that the first shares with another have the same values.

    Raises
    ------
    UserError, StoreError
        If fewer than two folders are named, or one has no cells.
    """
    if len(folders) < 2:
        raise UserError("name two results folders or more, such as runs/mine runs/theirs")
    first, *others = [results.load(folder) for folder in folders]
    try:
        found = [results.compare(first, other) for other in others]
    except ValueError as error:
        raise UserError(str(error)) from error
    names = [(folders[0], other) for other in folders[1:]]
    if form == "json":
        told = [_record(*pair, each) for pair, each in zip(names, found, strict=True)]
        console.print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        for pair, each in zip(names, found, strict=True):
            _show(console, *pair, each)
    return all(each.agree for each in found)


def _counts(found: SweepComparison) -> dict[str, int]:
    held = found.cells["held_by"].value_counts()
    return {name: int(held.get(name, 0)) for name in ("both", "first", "second")}


def _record(first: str, second: str, found: SweepComparison) -> dict[str, Any]:
    frames = {
        name: json.loads(getattr(found, name).to_json(orient="records", double_precision=15))
        for name in ("values", "provenance", "fields", "paired")
    }
    counts = {"agree": found.agree, "cells": _counts(found), "ambiguous": found.ambiguous}
    return {"first": first, "second": second, **counts, **frames}


def _show(console: Terminal, first: str, second: str, found: SweepComparison) -> None:
    counts = _counts(found)
    console.print(f"first:  {first}\nsecond: {second}")
    console.print(
        f"cells: {counts['both']} in both, {counts['first']} only in the first, "
        f"{counts['second']} only in the second"
    )
    if counts["both"] and found.agree:
        console.print("The cells in both agree in every value.")
    elif not found.agree:
        cells = found.values["key"].nunique()
        console.print(f"{cells} of the {counts['both']} cells in both differ:")
        sizes = found.values.assign(size=found.values["difference"].abs())
        unlike = sizes.groupby("column", sort=False).agg(
            cells=("key", "size"), largest=("size", "max")
        )
        _table(
            console,
            ("column", "cells", "largest difference"),
            [
                (name, str(row.cells), "-" if pd.isna(row.largest) else f"{row.largest:g}")
                for name, row in zip(unlike.index, unlike.itertuples(), strict=True)
            ],
        )
    for title, frame in (
        ("They ran on other machines or versions:", found.provenance),
        ("Values that differ in what identifies the cells:", found.fields),
    ):
        if len(frame):
            console.print(title)
            _table(console, list(frame.columns), frame.itertuples(index=False))
    _show_pairs(console, found)


def _show_pairs(console: Terminal, found: SweepComparison) -> None:
    pairs = found.paired
    if found.ambiguous:
        console.print(f"{found.ambiguous} cells have several partners and are not paired.")
    if pairs.empty:
        console.print("No cells can be paired.")
        return
    console.print(
        "Test accuracy after fine-tuning: second minus first, in points;\n"
        "with the 95 % interval of the mean over seeds:"
    )
    names = [name for name in _SHOWN if name in pairs and len(pairs[name].unique()) > 1]
    names = names or ["metric"]
    rows = []
    for row in pairs.to_dict("records"):
        interval = f"{row['low_points']:+.2f} to {row['high_points']:+.2f}"
        mean = row["difference_points"]
        rows.append(
            (
                *(str(row[name]) for name in names),
                "-" if pd.isna(mean) else f"{mean:+.2f}",
                row["note"].partition(":")[0] or interval,
                str(row["seeds"]),
            )
        )
    _table(console, (*names, "difference", "interval", "seeds"), rows)
    if others := int((pairs["baselines"] == OTHER).sum()):
        console.print(
            f"In {others} of {len(pairs)} rows the cells of a pair prune different baselines\n"
            "of one seed, so the difference is also one of baselines."
        )


def _table(console: Terminal, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    every = list(rows)
    table = Table(*names, box=None, padding=(0, 2, 0, 0))
    for row in every[:_LISTED]:
        table.add_row(*(plain(str(value)) for value in row))
    print_whole(console, table)
    if len(every) > _LISTED:
        console.print(f"and {len(every) - _LISTED} more; --format json lists all")
