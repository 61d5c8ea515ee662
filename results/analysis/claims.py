"""Compares the differences that the abstracts claim with those of a sweep.

Chen, "Exploiting Data Entropy for Neural Network Compression", National Taiwan University 2020,
doi:10.6342/NTU202003440; Chen, Liu, Wu, IEEE BigData 2020, pp. 5007-5016.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from results.analysis.comparison import NOT_RUN, SUMMARY, summarise
from results.analysis.study import POINT, STUDY, figures, need_columns
from results.storage.schema import STAGES

WEIGHTED_READINGS = (
    "weighted_mutual_information",
    "weighted_mutual_information_kernel",
    "weighted_mutual_information_product",
)
"""Possible meanings of weighted mutual information in the abstracts; see docs/method.md."""

MIN_SEEDS = 3
"""Fewer seeds give no verdict, even where they give an interval."""

VERDICTS = ("confirmed", "contradicted", "undecided", "not run")


@dataclass(frozen=True)
class Claim:
    """One difference that the abstracts claim: accuracy of a metric minus that of the L1 norm.

    Attributes
    ----------
    metrics : possible readings of the metric.
    points : the claimed difference in percentage points.
    about : whether the abstract says that it is approximate.
    """

    dataset: str
    scope: str
    ratio: float
    metrics: tuple[str, ...]
    points: float
    about: bool
    reference: str = "output_l1"

    @property
    def text(self) -> str:
        """The claim in words."""
        about = "about " if self.about else ""
        return (
            f"{self.dataset}, {self.scope} {self.ratio:g}: {self.metrics[0]} minus "
            f"{self.reference} is {about}{self.points:+g} points"
        )


CLAIMS = (
    Claim("svhn", "local", 0.3, WEIGHTED_READINGS, 1.52, about=False),
    Claim("cifar10", "local", 0.3, WEIGHTED_READINGS, 13.24, about=False),
    Claim("cifar100", "local", 0.3, WEIGHTED_READINGS, 7.90, about=False),
    Claim("svhn", "global", 0.45, WEIGHTED_READINGS, 2.0, about=True),
    Claim("cifar100", "global", 0.53, WEIGHTED_READINGS, 1.5, about=True),
    Claim("cifar10", "global", 0.4, WEIGHTED_READINGS, -5.0, about=True),
    Claim("cifar10", "global", 0.4, ("entropy_gaussian",), 51.0, about=True),
)

CLAIMED = ("claim", "claimed_dataset", "claimed_ratio", "claimed_points", "about", "stage")
_COLUMNS = (
    *CLAIMED,
    *STUDY,
    *POINT,
    "metric",
    "reference",
    *SUMMARY[:-1],
    "verdict",
    "size_agrees",
    "note",
)
_COUNTS = ("seeds", "unpaired", "collapsed", "collapsed_reference")


def claims(frame: pd.DataFrame, split: str = "test", tolerance: float = 0.005) -> pd.DataFrame:
    """What the abstracts claim and what the sweep found, for each claim and stage.

    A data set is recognised by a part of its source, such as `parquet:/data/cifar10`, or by its
    name; case, dashes and underscores are ignored. Each study, budget, normalisation and reading
    of the metric that the frame has for a claim gets its own row.

    Parameters
    ----------
    frame : the frame that `load` returned.
    split : test or validation.
    tolerance : largest allowed difference between a target ratio and the claimed one.

    Returns
    -------
    DataFrame, one row for each of `CLAIMS`, each of the stages pruned, recalibrated and
    finetuned, and each variant: the claim (`claim`, `claimed_dataset`, `claimed_ratio`,
    `claimed_points`, and whether the abstract says `about`), the `stage`, the columns of
    `results.paired_difference`, with Holm's correction over this whole table, and

    verdict : on the direction only, by the 95 % interval over at least 3 seeds. `confirmed`: the
        whole interval is on the claimed side of zero; `contradicted`: the whole interval is on
        the other side; `undecided`: the interval contains zero, or there is no interval, or there
        are fewer seeds; `not run`: one of the two metrics has no cell for this claim.
    size_agrees : whether the claimed difference is in the interval; missing without an interval.
    note : why there is no interval or no verdict.

    The intervals are not corrected for the number of rows; `p_holm` is.

    Raises
    ------
    ValueError
        As `paired_difference`.
    """
    need_columns(frame, ["source", "metric", "scope"])
    needed = {name for claim in CLAIMS for name in (*claim.metrics, claim.reference)}
    scopes = {claim.scope for claim in CLAIMS}
    frame = frame[_bases(frame).isin(needed) & frame["scope"].isin(scopes)]
    stages = {stage: figures(frame, stage, split, ["source"]) for stage in STAGES[1:]}
    datasets = {stage: _datasets(cells) for stage, cells in stages.items()}
    metrics, references = [], []
    for claim in CLAIMS:
        for stage, cells in stages.items():
            near = (cells["ratio"] - claim.ratio).abs() <= tolerance + 1e-9
            here = (datasets[stage] == claim.dataset) & (cells["scope"] == claim.scope)
            chosen = cells[near & here].assign(claim=claim.text, stage=stage)
            metrics.append(chosen[_bases(chosen).isin(claim.metrics)])
            references.append(chosen[chosen["metric"] == claim.reference])
    arms = pd.concat(metrics), pd.concat(references).drop(columns="metric")
    table = summarise(*arms, ["claim", "stage", *STUDY, *POINT], ["metric"], "output_l1")
    return _judged(_with_all_claims(table))


def _with_all_claims(table: pd.DataFrame) -> pd.DataFrame:
    """Orders rows by claim and stage, and adds a row for each claim that was not run."""
    wanted = pd.DataFrame(
        [
            {
                "claim": claim.text,
                "claimed_dataset": claim.dataset,
                "claimed_ratio": claim.ratio,
                "claimed_points": claim.points,
                "about": claim.about,
                "stage": stage,
                "reference": claim.reference,
                "first": claim.metrics[0],
            }
            for claim in CLAIMS
            for stage in STAGES[1:]
        ]
    )
    table = wanted.merge(table, on=["claim", "stage"], how="left")
    absent = table["metric"].isna()
    table["metric"] = table["metric"].where(~absent, table["first"])
    table["note"] = table["note"].where(~absent, table["first"] + NOT_RUN)
    counts = list(_COUNTS)
    table[counts] = table[counts].fillna(0).astype("int64")
    return table


def _judged(table: pd.DataFrame) -> pd.DataFrame:
    claimed = table["claimed_points"]
    low, high = table["low_points"], table["high_points"]
    enough = table["seeds"] >= MIN_SEEDS
    above, below = enough & (low > 0), enough & (high < 0)
    few = low.notna() & ~enough
    verdict = np.select(
        [
            table["note"].str.endswith(NOT_RUN),
            above & (claimed > 0) | below & (claimed < 0),
            above & (claimed < 0) | below & (claimed > 0),
        ],
        ["not run", "confirmed", "contradicted"],
        default="undecided",
    )
    agrees = ((low <= claimed) & (claimed <= high)).astype("boolean").mask(low.isna())
    note = table["note"].mask(few, f"fewer than {MIN_SEEDS} seeds: no verdict")
    judged = table.assign(verdict=verdict, size_agrees=agrees, note=note)
    return judged[list(_COLUMNS)]


def _bases(frame: pd.DataFrame) -> pd.Series[str]:
    """The metrics' names without their options."""
    return frame["metric"].astype("str").str.replace(r"\(.*", "", regex=True)


def _datasets(frame: pd.DataFrame) -> pd.Series[str]:
    """The claims' data set that each row belongs to, or an empty text."""
    pairs = frame[["source", "dataset"]].astype("str").drop_duplicates()
    known = {
        (source, name): _dataset(source, name)
        for source, name in pairs.itertuples(index=False, name=None)
    }
    sources, names = frame["source"].astype("str"), frame["dataset"].astype("str")
    found = [known[pair] for pair in zip(sources, names, strict=True)]
    return pd.Series(found, index=frame.index, dtype="str")


def _dataset(source: str, name: str) -> str:
    wanted = {claim.dataset for claim in CLAIMS}
    # The innermost folder takes precedence, and the source over the name in the spec.
    for word in [*reversed(re.split(r"[:/\\]", source)), name]:
        if (plain := re.sub(r"[^a-z0-9]", "", word.lower())) in wanted:
            return plain
    return ""
