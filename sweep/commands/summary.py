"""The table of accuracies at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

import results
from results.analysis.protocols import finetune_name
from results.analysis.study import PROCEDURE, USUAL, any_finetuning, completed, last_stage
from results.formatting import number, several, spoken
from results.storage.failure_logs import without_log
from results.storage.schema import NO_COMPENSATION as NONE
from results.storage.schema import ONE_SHOT, SCRATCH, UNPRUNED
from sweep.api import Sweep
from sweep.execution.messages import say
from sweep.execution.terminal import print_whole, width

Column = list[str]
"""The titles of a ratio's columns, or its figures in one line."""
Lines = Sequence[tuple[list[str], list[Column]]]
_ERRORS = 10
"""Distinct errors that are shown of each status."""


def conclude(console: Console, sweep: Sweep) -> bool:
    """Prints the accuracies of a sweep's cells; returns whether all cells are ok."""
    frame = sweep.load()
    good = frame[frame["status"] == "ok"]
    for dataset, rows in good.groupby("dataset"):
        _accuracies(console, str(dataset), rows)
    bad = frame[frame["status"] != "ok"]
    for status, rows in bad.groupby("status"):
        say(console, f"{several(len(rows), 'cell')} {status}:")
        for line in _distinct_errors(rows):
            say(console, f"  {line}")
    absent = len(sweep.cells) - len(frame)
    summary = f"{len(good)} of {len(sweep.cells)} cells ok"
    if absent:
        summary += f", {absent} not run"
    say(console, f"{summary}; pandas: results.load({str(sweep.folder)!r})")
    return len(good) == len(sweep.cells)


def _distinct_errors(rows: pd.DataFrame) -> Iterator[str]:
    """A line for each distinct error, the most frequent first, with a cell that has it."""
    alike = rows.groupby(rows["error"].fillna("").map(without_log), sort=False)
    groups = sorted((group for _, group in alike), key=len, reverse=True)
    for group in groups[:_ERRORS]:
        first = group.iloc[0]
        times = f"{len(group)} x " if len(groups) > 1 else ""
        label = f"{first['metric']} {first['scope']} {first['ratio']:g}"
        yield f"{times}{'such as ' if len(group) > 1 else ''}{label}: {first['error']}"
    if len(groups) > _ERRORS:
        yield f"and {several(len(groups) - _ERRORS, 'other error')}"


def _accuracies(console: Console, dataset: str, rows: pd.DataFrame) -> None:
    rows = completed(rows)
    control = f"{100 * rows.drop_duplicates('baseline_key')['baseline_test_top1'].mean():.2f}"
    is_unpruned = rows["metric"] == UNPRUNED
    if is_unpruned.any():
        control += f", fine-tuned without pruning {_alone(rows[is_unpruned])}"
    rows = rows[~is_unpruned]
    if rows.empty:
        say(console, f"{dataset}: test accuracy in %: unpruned {control}")
        return
    compensates = rows["compensation"].ne(NONE).any()
    tuned = any_finetuning(rows)
    if tuned and compensates and rows["recalibrated_test_top1"].notna().any():
        words = (
            f"{dataset}: test accuracy in % before fine-tuning, batch normalisation re-estimated"
        )
        _table(console, rows, "recalibrated", words, f"unpruned {control}")
        words = f"{dataset}: the same after fine-tuning"
    else:
        words = f"{dataset}: test accuracy in %{' ' if tuned else ', '}{last_stage(rows)}"
    _table(console, rows, "finetuned", words, f"unpruned {control}")
    if compensates:
        for line in _added(rows):
            say(console, line)


def _alone(rows: pd.DataFrame) -> str:
    """The accuracy of the fine-tuned unpruned networks, by recipe where there are several."""
    means = 100 * rows.groupby("finetune")["finetuned_test_top1"].mean()
    if len(means) == 1:
        return f"{means.iloc[0]:.2f}"
    return spoken([f"{mean:.2f} by {finetune_name(str(name))}" for name, mean in means.items()])


def _table(console: Console, rows: pd.DataFrame, stage: str, words: str, control: str) -> None:
    """Prints the accuracies of a stage, one line for each metric and one column for each ratio."""
    seeds = rows["seed"].nunique()
    means = results.accuracy_table(rows, stage).to_dict("records")
    with_macs = any(pd.notna(mean["macs_ratio"]) for mean in means)
    left = "; MACs: the fraction of multiply-accumulates left" if with_macs else ""
    short = "; (n): mean of n seeds only" if any(mean["seeds"] < seeds for mean in means) else ""
    say(
        console,
        f"{words}, {_ratio_words(rows)}, mean of {seeds} seed{'s' if seeds > 1 else ''}; "
        f"{control}; * a layer is at its floor{left}{short}",
    )
    ratios = sorted(rows["ratio"].unique())
    pruned = rows[rows["metric"] != SCRATCH]
    protocol = [name for name in (*PROCEDURE, "finetune") if pruned[name].ne(USUAL[name]).any()]
    names = ["budget", "normalisation", "metric", *protocol]
    columns = [[f"{ratio:.4g}", *(["MACs"] if with_macs else [])] for ratio in ratios]
    channels = set(rows.loc[rows["ratio_of"] == "channels", "budget"])
    lines: dict[tuple[str, ...], dict[float, list[str]]] = {}
    for mean in means:
        mark = "*" if mean["collapsed"] else " "
        line = lines.setdefault(tuple(mean[name] for name in names), {})
        fewer = f" ({mean['seeds']})" if mean["seeds"] < seeds else ""
        line[mean["ratio"]] = [f"{100 * mean['mean']:.2f}{mark}{fewer}"]
        if with_macs:
            line[mean["ratio"]].append(number(mean["macs_ratio"]))
    shown = []
    # Of equal names the line without compensation comes first.
    for (budget, *others), line in sorted(
        lines.items(),
        key=lambda line: (*line[0][:3], [word not in USUAL.values() for word in line[0]], line[0]),
    ):
        absent = ["-"] * (1 + with_macs)
        budget = f"{budget} (channels)" if budget in channels else budget
        shown.append(([budget, *others], [line.get(ratio, absent) for ratio in ratios]))
    _print_in_parts(console, names, columns, shown)


def _added(rows: pd.DataFrame) -> Iterator[str]:
    """What each compensation adds, in a sentence."""
    rows = rows[rows["schedule"] == ONE_SHOT]  # later steps were trained before
    before = results.mean_compensation_gain(rows, "recalibrated")
    after = results.mean_compensation_gain(rows, "finetuned")
    stages = {"before fine-tuning": before, "after it": after}
    for name in dict.fromkeys([*before["compensation"], *after["compensation"]]):
        found = {
            words: rows
            for words, table in stages.items()
            if len(rows := table[table["compensation"] == name])
        }
        gains = ", and ".join(
            f"{rows['difference_points'].mean():+.1f}{' points' * (at == 0)} {words}"
            for at, (words, rows) in enumerate(found.items())
        )
        points = [
            f"{point['budget']} {point['ratio']:g}"
            for rows in found.values()
            for point in rows.to_dict("records")
        ]
        over = ", ".join(dict.fromkeys(points))
        of = "metrics" if after["finetune"].nunique() < 2 else "metrics and recipes"
        yield f"{name} changes the accuracy by {gains}: means over all {of}, at {over}"


def _ratio_words(rows: pd.DataFrame) -> str:
    """What the columns of the table are."""
    counted = [name for of, name in _COUNTED.items() if of in set(rows["ratio_of"])]
    first, *others = counted
    if not others:
        return f"by {first} ratio"
    return f"by {first} ratio, or {' or '.join(others)} ratio where the budget says so"


_COUNTED = {"parameters": "parameter", "macs": "MAC", "channels": "channel"}
"""What a ratio counts, in words."""


def _print_in_parts(
    console: Console, names: Sequence[str], columns: Sequence[Column], lines: Lines
) -> None:
    """Prints a table, on a terminal in as many parts below each other as its width asks for.

    Parameters
    ----------
    columns : the titles of each ratio's columns, which stay together.
    lines : the cells of each line: those below `names`, and those of each ratio.
    """
    start = 0
    while start < len(columns):
        end = len(columns)
        table = _part(names, columns, lines, start, end)
        while console.is_terminal and end > start + 1 and width(console, table) > console.width:
            end -= 1
            table = _part(names, columns, lines, start, end)
        print_whole(console, table)
        start = end


def _part(
    names: Sequence[str], columns: Sequence[Column], lines: Lines, start: int, end: int
) -> Table:
    table = Table(*names, box=None, pad_edge=False)
    for title in (title for column in columns[start:end] for title in column):
        table.add_column(title, justify="right")
    for said, figures in lines:
        table.add_row(*map(Text, said), *(text for one in figures[start:end] for text in one))
    return table
