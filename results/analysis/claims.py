"""Compares the differences that the abstracts claim with those of a sweep.

Chen, "Exploiting Data Entropy for Neural Network Compression", National Taiwan University 2020,
doi:10.6342/NTU202003440; Chen, Liu, Wu, IEEE BigData 2020, pp. 5007-5016.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from results.analysis.comparison import NOT_RUN, SUMMARY, corrected, images_of, summarise
from results.analysis.intervals import LEVEL, holm, t_test
from results.analysis.study import (
    POINT,
    STUDY,
    completed,
    figures,
    need_columns,
    was_finetuned,
)
from results.storage.plan_file import DEFAULT_BUDGETS
from results.storage.schema import NO_COMPENSATION, ONE_SHOT

WEIGHTED_READINGS = (
    "weighted_mutual_information",
    "weighted_mutual_information_kernel",
    "weighted_mutual_information_product",
)
"""Possible meanings of weighted mutual information in the abstracts; see docs/method.md."""

MIN_SEEDS = 3
"""Fewer seeds give no verdict, even where they give an interval."""

VERDICTS = (
    "confirmed",
    "same sign, size refuted",
    "same sign, size open",
    "contradicted",
    "size refuted",
    "cannot tell",
    "not run",
)

_OF_DATASET = {"dataset", "weights", "train_images", "test_images"}
_OF_DATASET |= {"baseline_images", "finetune_images"}

RECIPE = tuple(name for name in STUDY if name not in _OF_DATASET)
"""Columns of a study that do not depend on the data set; each value has its own primary family."""


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
    "family",
    *STUDY,
    *POINT,
    "metric",
    "reference",
    *SUMMARY[:-1],
    "p_size",
    "p_size_holm",
    "sign",
    "size",
    "verdict",
    "note",
)
_COUNTS = ("seeds", "unpaired", "collapsed", "collapsed_reference")
_STAGES = ("pruned", "recalibrated", "finetuned")


def claims(frame: pd.DataFrame, split: str = "test", tolerance: float = 0.005) -> pd.DataFrame:
    """What the abstracts claim and what the sweep found, for each claim and stage.

    A data set is recognised by a part of its source, such as `parquet:/data/cifar10`, or by its
    name; case, dashes and underscores are ignored. Each study, budget, normalisation and reading
    of the metric that the frame has for a claim gets its own row. The abstracts know no
    compensation, no iterative pruning and no ratio of multiply-accumulates, so only cells without
    these count.

    Parameters
    ----------
    frame : the frame that `load` returned.
    split : test or validation.
    tolerance : largest allowed difference between a target ratio and the claimed one.

    Returns
    -------
    DataFrame, one row for each of `CLAIMS`, each of the stages pruned, recalibrated and
    finetuned, and each variant; networks that are not fine-tuned have no row at `finetuned`. The
    claim (`claim`, `claimed_dataset`, `claimed_ratio`, `claimed_points`, and whether the abstract
    says `about`), the `stage`, the columns of `results.paired_difference`, and

    family : `primary`: after fine-tuning, the first reading of the metric with default options,
        the default budget rule of the scope (`DEFAULT_BUDGETS`) and normalisation `none`.
        `exploratory`: all other rows. In a primary row `p_holm` is corrected over the primary rows
        that agree in the columns `RECIPE`: the claims on all data sets of one recipe. In an
        exploratory row it is corrected over the whole table.
    p_size, p_size_holm : two-sided t test of the claimed difference itself; corrected likewise.
    sign : `confirmed` or `contradicted` if p_holm is below 0.05, with at least 3 seeds, and the
        mean difference has the claimed sign or the other; else `cannot tell`.
    size : `refuted` if p_size_holm is below 0.05 with at least 3 seeds; else `agrees` if the whole
        95 % interval lies between half and twice the claimed difference; else `cannot tell`.
    verdict : both in words, one of `VERDICTS`. `confirmed`: sign confirmed and size agrees.
        `size refuted`: the sign is open, but the claimed difference is rejected. `not run`: one
        of the two metrics has no cell for this claim.
    note : why there is no interval or no verdict.

    A claim names a direction, but the tests are two-sided at 0.05: chance confirms a true
    difference of zero in the claimed direction with probability 0.025. Where `weights` is not
    missing, all seeds start from the weights of one file: intervals and tests then say how much
    fine-tuning and seeded metrics vary, not how much networks vary.

    Raises
    ------
    ValueError
        As `paired_difference`.
    """
    told = ["budget", "ratio_of", "compensation", "finetune", "schedule"]
    need_columns(frame, ["source", "metric", "scope", *told])
    frame = completed(frame)
    plain = (frame["compensation"] == NO_COMPENSATION) & (frame["schedule"] == ONE_SHOT)
    frame = frame[plain & (frame["ratio_of"] != "macs")]
    needed = {name for claim in CLAIMS for name in (*claim.metrics, claim.reference)}
    scopes = {claim.scope for claim in CLAIMS}
    frame = frame[base_names(frame["metric"]).isin(needed) & frame["scope"].isin(scopes)]
    stages = {
        stage: figures(frame, stage, split, ["source", images_of(split)]) for stage in _STAGES
    }
    stages["finetuned"] = stages["finetuned"][was_finetuned(stages["finetuned"])]
    datasets = {stage: _datasets(cells) for stage, cells in stages.items()}
    metrics, references = [], []
    for claim in CLAIMS:
        for stage, cells in stages.items():
            near = (cells["ratio"] - claim.ratio).abs() <= tolerance + 1e-9
            here = (datasets[stage] == claim.dataset) & (cells["scope"] == claim.scope)
            chosen = cells[near & here].assign(claim=claim.text, stage=stage)
            metrics.append(chosen[base_names(chosen["metric"]).isin(claim.metrics)])
            references.append(chosen[chosen["metric"] == claim.reference])
    arms = pd.concat(metrics), pd.concat(references).drop(columns="metric")
    shared = ["claim", "stage", *STUDY, *POINT]
    table = summarise(*arms, shared, ["metric"], "output_l1", split)
    return _judged(_corrected(_with_all_claims(table)))


def claims_of(frame: pd.DataFrame) -> tuple[Claim, ...]:
    """The claims on data sets that the frame has; on a person's own data there are none."""
    if "source" not in frame or "dataset" not in frame:
        return CLAIMS
    here = set(_datasets(frame.dropna(subset=["source", "dataset"])))
    return tuple(claim for claim in CLAIMS if claim.dataset in here)


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
            for stage in _STAGES
        ]
    )
    table = wanted.merge(table, on=["claim", "stage"], how="left")
    absent = table["metric"].isna()
    table["metric"] = table["metric"].where(~absent, table["first"])
    table["note"] = table["note"].where(~absent, table["first"] + NOT_RUN)
    counts = list(_COUNTS)
    table[counts] = table[counts].fillna(0).astype("int64")
    return table


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Adds `family` and the p values of the claimed size, and corrects both p values."""
    first, absent = table["metric"] == table["first"], table["budget"].isna()
    default = table["budget"] == table["scope"].map(DEFAULT_BUDGETS)
    default &= table["normalisation"] == "none"
    primary = (table["stage"] == "finetuned") & first & (default | absent)
    mean, deviation, claimed = (
        table[f"{name}_points"] / 100 for name in ("difference", "deviation", "claimed")
    )
    p_size = t_test(mean, deviation, table["seeds"], claimed)
    table = table.assign(
        family=np.where(primary, "primary", "exploratory"),
        p_size=p_size,
    )
    names = ["claim", "stage", *STUDY, *POINT, "metric"]
    table = table.assign(
        p_holm=corrected(table, names), p_size_holm=corrected(table, names, "p_size")
    )
    for _, family in table[primary].groupby(list(RECIPE), dropna=False):
        for name in ("p", "p_size"):
            table.loc[family.index, f"{name}_holm"] = holm(family[name])
    return table


def _judged(table: pd.DataFrame) -> pd.DataFrame:
    enough = table["seeds"] >= MIN_SEEDS
    few = table["low_points"].notna() & ~enough
    table = table.assign(
        sign=_sign(table, enough),
        size=_size(table, enough),
        note=table["note"].mask(few, f"fewer than {MIN_SEEDS} seeds: no verdict"),
    )
    confirmed = table["sign"] == "confirmed"
    verdict = np.select(
        [
            table["note"].str.endswith(NOT_RUN),
            confirmed & (table["size"] == "agrees"),
            confirmed & (table["size"] == "refuted"),
            confirmed,
            table["sign"] == "contradicted",
            table["size"] == "refuted",
        ],
        ["not run", *VERDICTS[:-2]],
        default="cannot tell",
    )
    return table.assign(verdict=verdict)[list(_COLUMNS)]


def _sign(table: pd.DataFrame, enough: pd.Series[bool]) -> Any:
    sure = enough & (table["p_holm"] < 1 - LEVEL)
    claimed = table["difference_points"] * table["claimed_points"] > 0
    return np.select([sure & claimed, sure], ["confirmed", "contradicted"], default="cannot tell")


def _size(table: pd.DataFrame, enough: pd.Series[bool]) -> Any:
    refuted = enough & (table["p_size_holm"] < 1 - LEVEL)
    # Relative to the claimed difference, so that a negative one needs no case of its own.
    ends = table[["low_points", "high_points"]].div(table["claimed_points"], axis="index")
    within = enough & (ends.min(axis=1) >= 0.5) & (ends.max(axis=1) <= 2)
    return np.select([refuted, within], ["refuted", "agrees"], default="cannot tell")


def base_names(metrics: pd.Series[str]) -> pd.Series[str]:
    """Names of metrics without their options."""
    return metrics.astype("str").str.replace(r"\(.*", "", regex=True)


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
