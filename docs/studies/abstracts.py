"""How the claims of the abstracts stand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import words

from results.analysis.claims import CLAIMS, VERDICTS, WEIGHTED_READINGS

GAUSSIAN = "weighted_mutual_information(estimator=pixel, information=gaussian)"
READINGS = {
    "weighted_mutual_information": ("weighted_mutual_information", GAUSSIAN),
    "entropy_gaussian": ("entropy_histogram", "entropy_gaussian"),
}
"""The metrics of the claims, estimated by histograms and by Gaussians."""


def short(judged: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
    """How many claims have which verdict, and what confirms those that are confirmed."""
    ran = judged[judged["verdict"] != "not run"]
    primary = ran[ran["family"] == "primary"]
    yield (
        f"**The claims.** Of the {len(CLAIMS)} differences that the abstracts report, "
        f"{len(primary)} were tested by their first reading: {_verdicts(primary)}."
    )
    for _, row in primary[primary["verdict"] == "confirmed"].iterrows():
        here = _at(pairs, row)
        yield (
            f"**What confirms** {row['claim']}: {words.interval(row)}; random channels minus "
            f"`{row['reference']}` have {_of(here, 'random')} there."
        )


def table(judged: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[dict[str, str]]:
    """A line for each claim and normalisation; a line for one that was not run."""
    for claim in CLAIMS:
        rows = judged[(judged["claim"] == claim.text) & (judged["metric"] == claim.metrics[0])]
        for _, row in rows.iterrows():
            line = {
                "claim": f"{claim.dataset}, {claim.scope} {claim.ratio:g}, `{claim.metrics[0]}`",
                "budget": "" if row["verdict"] == "not run" else _of_what(row),
                "claimed": f"{'about ' if claim.about else ''}{claim.points:+g}",
            }
            if row["verdict"] == "not run":
                yield (
                    line
                    | dict.fromkeys(("histogram", "Gaussian", "random", "detectable"), "")
                    | {"verdict": "not run"}
                )
                continue
            here = _at(pairs, row)
            histogram, gaussian = READINGS[claim.metrics[0]]
            exploratory = "" if row["family"] == "primary" else " (exploratory)"
            detectable = row["detectable_points"]
            yield line | {
                "histogram": _of(here, histogram),
                "Gaussian": _of(here, gaussian),
                "random": _of(here, "random"),
                "detectable": "" if np.isnan(detectable) else f"{detectable:.1f}",
                "verdict": (row["note"] or row["verdict"]) + exploratory,
            }


def other_readings(judged: pd.DataFrame) -> str:
    """How the claims stand by the other readings of weighted mutual information."""
    rows = judged[judged["verdict"] != "not run"]
    said = []
    for metric in WEIGHTED_READINGS[1:]:
        mine = rows[rows["metric"] == metric]
        if len(mine):
            said.append(f"`{metric}`, {len(mine)} comparisons: {_verdicts(mine)}.")
    return " ".join(said)


def not_settled(judged: pd.DataFrame) -> Iterator[str]:
    """The claims that cannot be told or were not run."""
    primary = judged[judged["family"] == "primary"]
    for _, row in primary[primary["verdict"] == "cannot tell"].iterrows():
        yield (
            f"{row['claim']}: found {words.interval(row)}; with this spread {row['seeds']} seeds "
            f"detect {row['detectable_points']:.1f} points."
        )
    missing = judged[judged["verdict"] == "not run"].drop_duplicates("claim")
    for claim in missing["claim"]:
        yield f"{claim}: not run, for want of the images; the spec `thesis` would settle it."


def _of_what(row: pd.Series) -> str:
    """What a local budget leaves the ratio of, or what a global ranking orders."""
    if row["scope"] == "local":
        return str(row["ratio_of"])
    return "standardised scores" if row["normalisation"] == "layer_zscore" else "raw scores"


def _verdicts(rows: pd.DataFrame) -> str:
    return "; ".join(words.counted(rows["verdict"], VERDICTS, "{count} *{name}*"))


def _at(pairs: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """The differences of all metrics where a claim was tested, by metric."""
    same = ["dataset", "scope", "normalisation", "ratio", "budget"]
    return pairs[(pairs[same] == row[same]).all(axis=1)].set_index("metric")


def _of(rows: pd.DataFrame, metric: str) -> str:
    return words.interval(rows.loc[metric]) if metric in rows.index else "not run"
