"""The study with the paper's own network, as far as it was run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml

import results
from results.analysis.claims import CLAIMS
from results.analysis.study import of_grid
from results.formatting import listed

_PACKAGED = Path(__file__).parents[2] / "sweep/spec/packaged"
NAME = "thesis-cpu"
SPEC = yaml.safe_load((_PACKAGED / f"{NAME}.yaml").read_text())


def studies() -> dict[str, pd.DataFrame]:
    """Its rows by its name; empty if it was not run."""
    folder = Path(__file__).parent / NAME
    return {NAME: results.load(folder)} if folder.is_dir() else {}


def seeds(rows: pd.DataFrame, dataset: str) -> list[int]:
    """The seeds of a data set with a good row of every metric at every point of the claims."""
    cells = of_grid(rows[(rows["dataset"] == dataset) & (rows["status"] == "ok")])
    points = {(claim.scope, claim.ratio) for claim in CLAIMS if claim.dataset == dataset}
    here = pd.MultiIndex.from_frame(cells[["scope", "ratio"]]).isin(sorted(points))
    counts = cells[here].groupby("seed").size()
    variants = {"local": SPEC["local_budgets"], "global": SPEC["normalisations"]}
    wanted = sum(len(variants[scope]) for scope, _ in points) * len(SPEC["metrics"])
    return [int(seed) for seed in counts.index[counts == wanted]]


def not_run() -> Iterator[str]:
    """The seeds of each data set that are not complete."""
    for dataset in (entry["name"] for entry in SPEC["datasets"]):
        done = {seed for rows in studies().values() for seed in seeds(rows, dataset)}
        absent = sorted(set(SPEC["seeds"]) - done)
        if absent:
            yield (
                f"{dataset}, `{SPEC['network']['variant']}`: {len(absent)} of "
                f"{len(SPEC['seeds'])} seeds are not run ({listed(absent)}); the packaged spec "
                f"`{NAME}` would settle it."
            )
