"""The study with the paper's own network, as far as it was run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd
import specs

import results
from results.analysis.claims import CLAIMS
from results.analysis.study import of_grid
from results.formatting import listed

NAME = "thesis-cpu"
SPEC = specs.packaged(NAME)


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


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the seeds that are complete, so that all claims have the same seeds."""
    parts = [
        own[own["seed"].isin(seeds(rows, str(dataset)))] for dataset, own in rows.groupby("dataset")
    ]
    return pd.concat(parts)


def not_run(frames: Collection[pd.DataFrame]) -> Iterator[str]:
    """The seeds of each data set that are not complete in the rows of `studies`."""
    for dataset in (entry["name"] for entry in SPEC["datasets"]):
        done = {seed for rows in frames for seed in seeds(rows, dataset)}
        absent = sorted(set(SPEC["seeds"]) - done)
        if absent:
            yield (
                f"{dataset}, `{SPEC['network']['variant']}`: {len(absent)} of "
                f"{len(SPEC['seeds'])} seeds are not run ({listed(absent)}); the packaged spec "
                f"`{NAME}` would settle it."
            )
