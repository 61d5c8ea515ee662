"""Which conclusions from badly trained networks hold for good ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import drawing
import numpy as np
import pandas as pd
import words

import results

FOLDER = Path(__file__).parent / "earlier"
STUDIES = ("cifar10-cpu", "cifar100-cpu")
CONCLUSIONS = (
    # metric, reference, data set, scope, normalisation, ratio
    ("weighted_mutual_information", "output_l1", "cifar10", "local", "none", 0.3),
    ("weighted_mutual_information", "output_l1", "cifar100", "local", "none", 0.3),
    ("entropy_gaussian", "output_l1", "cifar10", "global", "none", 0.4),
    ("entropy_gaussian", "random", "cifar10", "global", "none", 0.4),
    ("wmi_gauge_free", "random", "cifar10", "global", "none", 0.4),
    ("wmi_gauge_free", "random", "cifar100", "global", "none", 0.4),
    ("weighted_mutual_information", "output_l1", "cifar100", "global", "none", 0.53),
)


def table(frame: pd.DataFrame) -> Iterator[dict[str, str]]:
    """A line for each conclusion: the difference then, that in the rows of now, does it hold?"""
    old = pd.concat([results.load(FOLDER / name) for name in STUDIES])
    for metric, reference, dataset, scope, normalisation, ratio in CONCLUSIONS:
        found = []
        for rows in (old, frame):
            pairs = results.paired_difference(rows, None, reference)
            here = pairs.query(
                "metric == @metric and dataset == @dataset and scope == @scope and "
                "normalisation == @normalisation and ratio == @ratio"
            )
            found.append(here.iloc[0] if len(here) else None)
        then, now = found
        yield {
            "difference": f"`{metric}` minus `{reference}`, {dataset}, "
            f"{drawing.budget(scope, normalisation)} {ratio:g}",
            "badly trained": words.interval(then) if then is not None else "not run",
            "here": words.interval(now) if now is not None else "not run",
            "holds": _holds(then, now),
        }


def _holds(then: pd.Series | None, now: pd.Series | None) -> str:
    if then is None or now is None:
        return ""
    sides = [
        0
        if not (row["low_points"] > 0 or row["high_points"] < 0)
        else int(np.sign(row["difference_points"]))
        for row in (then, now)
    ]
    if sides[0] == sides[1]:
        return "yes"
    return "no" if 0 not in sides else "was open" if sides[0] == 0 else "open now"
