"""The table of all cells, packed for a script that draws the part that is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.analysis.networks import network_names
from results.analysis.protocols import target_names
from results.analysis.study import any_finetuning, completed, macs_ratio
from results.report.tables import SIZES
from results.storage.schema import FINETUNE, NO_COMPENSATION, ONE_SHOT


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes
    ----------
    factor : what numbers are multiplied by to get the unit of the label.
    decimals : of numbers; None for text.
    digits : significant digits that the smallest number has at least; more decimals show them.
    varied : whether it is shown only where cells differ in it.
    usual : a value that needs no column where all cells have it.
    """

    name: str
    label: str
    factor: float = 1
    decimals: int | None = None
    digits: int = 0
    varied: bool = False
    usual: str | None = None


_COLUMNS = (
    Column("status", "status"),
    Column("dataset", "data set"),
    Column("metric", "metric"),
    Column("budget", "budget"),
    Column("normalisation", "normalisation"),
    Column("compensation", "compensation", usual=NO_COMPENSATION),
    Column("finetune", "fine-tuning", usual=FINETUNE),
    Column("schedule", "schedule", usual=ONE_SHOT),
    Column("ratio", "ratio", 1, 6),
    Column("ratio_of", "ratio of", varied=True),
    Column("seed", "seed", 1, 0),
    Column("finetuned_test_top1", "fine-tuned, %", 100, 2),
    Column("recalibrated_test_top1", "recalibrated, %", 100, 2),
    Column("compensated_test_top1", "compensated, %", 100, 2),
    Column("pruned_test_top1", "pruned, %", 100, 2),
    Column("baseline_test_top1", "unpruned, %", 100, 2),
    Column("parameter_ratio", SIZES[0], 1, 4, 2),
    Column("macs_ratio", SIZES[1], 1, 4, 2),
    Column("parameters", "parameters", 1, 0),
    Column("macs", "MACs, millions", 1e-6, 2, 2),
    Column("latency_1_ms", "latency at batch 1, ms", 1, 3, 2),
    Column("latency_ratio", "latency at batch 1 / unpruned", 1, 3),
    Column("latency_256_ms", "latency at batch 256, ms", 1, 4, 2),
    Column("collapsed", "collapsed"),
    Column("seconds", "seconds", 1, 1),
    Column("network", "network"),
    Column("groups", "channel groups", varied=True),
    Column("combine", "producers' scores", varied=True),
    Column("image_height", "image height", 1, 0, varied=True),
    Column("image_width", "image width", 1, 0, varied=True),
    Column("weights", "initial weights", varied=True),
    Column("key", "key"),
)
_LATENCIES = ("latency_1_ms", "latency_full_1_ms")
# A reader looks for these by choosing, not by typing.
_CHOICES = (
    *("status", "dataset", "metric", "budget", "normalisation", "compensation"),
    *("finetune", "schedule", "ratio", "ratio_of", "seed"),
)


def packed(frame: pd.DataFrame) -> dict[str, Any]:
    """The cells by column: numbers rounded to what is shown, text as places in a list of words.

    Columns in which no cell has a value, such as latencies that were not measured, are left out.
    """
    frame = completed(frame).assign(network=network_names(frame), macs_ratio=macs_ratio(frame))
    if set(_LATENCIES) <= set(frame):
        frame = frame.assign(latency_ratio=frame[_LATENCIES[0]] / frame[_LATENCIES[1]])
    columns = []
    for column in _COLUMNS:
        if column.name not in frame or frame[column.name].isna().all():
            continue
        if column.varied and len(frame[column.name].drop_duplicates()) == 1:
            continue
        if column.usual is not None and frame[column.name].eq(column.usual).all():
            continue
        made: dict[str, Any] = {"name": column.name, "label": column.label}
        if column.name == "ratio":
            made["label"] = target_names(frame["ratio_of"].unique())
        if column.name == "finetuned_test_top1" and not any_finetuning(frame):
            made["label"] = "not fine-tuned, %"
        made["choice"] = column.name in _CHOICES
        if column.decimals is None:
            texts = _text(frame[column.name])
            words = sorted(set(texts))
            places = {word: at for at, word in enumerate(words)}
            made |= {"words": words, "values": [places[text] for text in texts]}
        else:
            numbers = frame[column.name].astype(float) * column.factor
            decimals = max(column.decimals, _decimals(numbers, column.digits))
            values = numbers.round(decimals).tolist()
            made |= {"decimals": decimals, "values": [_finite(value) for value in values]}
        columns.append(made)
    return {"rows": len(frame), "columns": columns}


def _decimals(numbers: pd.Series[float], digits: int) -> int:
    """Decimals that show so many significant digits of the smallest number above zero."""
    least = numbers[numbers > 0].min()
    return digits - 1 - math.floor(math.log10(least)) if digits and least == least else 0


def _text(values: pd.Series) -> list[str]:
    if values.name == "collapsed":
        return ["" if pd.isna(value) else "yes" if value else "no" for value in values]
    return ["" if pd.isna(value) else str(value) for value in values]


def _finite(value: float) -> float | int | None:
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return int(value) if value == int(value) else value
