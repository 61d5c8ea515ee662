"""What a sweep found, in three sentences that the confidence intervals support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from results.analysis.claims import CLAIMS, MIN_SEEDS, claims
from results.analysis.intervals import LEVEL, holm, t_interval, t_test
from results.analysis.ranking import by_block, ratio_means
from results.analysis.study import BASELINE, STUDY, figures
from results.storage.schema import SCRATCH

MIN_RATIOS = 5
CONTROLS = ("random", "input_l1", "output_l1")
"""Baseline metrics that show whether another one is worth its cost (Blalock 2020, 2003.03033)."""

_PLACE = (*STUDY, "scope", "budget", "normalisation")
_LISTED = 3


@dataclass(frozen=True)
class Lead:
    """The best metric of a setting, and its lead over the others.

    Attributes
    ----------
    place : the setting in words: data set, scope, budget and normalisation.
    metrics : number of metrics that were compared.
    points, low, high : accuracy minus that of the second metric, and the ends of its 95 %
        interval, in percentage points; the ends are NaN if there is no interval.
    behind : number of other metrics that are significantly worse, by Holm's corrected test.
    """

    place: str
    metric: str
    second: str
    metrics: int
    ratios: int
    points: float
    low: float
    high: float
    seeds: int
    behind: int


def conclusion(frame: pd.DataFrame) -> list[str]:
    """Three sentences: the best metrics by setting, what is undecided or failed, what is missing.

    The best metric of a data set, scope, budget and normalisation is the one with the highest
    validation accuracy after fine-tuning, averaged over ratios and seeds. Its lead over the second
    metric is measured on the test images, to avoid selection bias, and paired by the baseline.
    Only metrics that have every ratio for every baseline of the setting are compared.

    Parameters
    ----------
    frame : the frame that `load` returned; it may have failed cells, one seed, or no row.

    Returns
    -------
    list of three texts, without markup.

    Raises
    ------
    ValueError
        As `results.paired_difference`.
    """
    table = claims(frame)
    judged = table[table["stage"] == "finetuned"]
    return [_best(leads(frame)), _open(frame, judged), _missing(frame, judged)]


def leads(frame: pd.DataFrame) -> list[Lead]:
    """The best metric of each study, scope, budget and normalisation with two metrics or more."""
    chosen = _means(frame, "validation")
    measured = _means(frame, "test")
    several = [name for name in STUDY[1:] if len(chosen[name].drop_duplicates()) > 1]
    found = []
    for place, rows in chosen.groupby(list(_PLACE), dropna=False):
        named = pd.Series(place, index=list(_PLACE))
        means = by_block(rows, BASELINE).dropna(axis="columns").mean()
        means = means.sort_values(ascending=False, kind="stable")
        keys = pd.DataFrame([named]).astype(measured[list(_PLACE)].dtypes)
        tested = by_block(keys.merge(measured, on=list(_PLACE)), BASELINE).dropna(axis="columns")
        metrics = [name for name in means.index if name in tested.columns]
        if len(metrics) < 2:
            continue
        best, others = metrics[0], metrics[1:]
        differences = tested[others].rsub(tested[best], axis="index")
        spread = (differences.mean(), differences.std(), len(differences))
        low, high = t_interval(*spread)
        p = holm(pd.Series(t_test(*spread), index=others))
        ahead = (p < 1 - LEVEL) & (differences.mean() > 0)
        found.append(
            Lead(
                place=_place(named, several),
                metric=str(best),
                second=str(others[0]),
                metrics=len(metrics),
                ratios=int(rows["ratios"].max()),
                points=100 * float(spread[0].iloc[0]),
                low=100 * float(low[0]),
                high=100 * float(high[0]),
                seeds=len(differences),
                behind=int(ahead.sum()),
            )
        )
    return found


def _means(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    cells = figures(frame, "finetuned", split)
    ranked = cells["scope"].isin(["local", "global"]) & (cells["metric"] != SCRATCH)
    return ratio_means(cells[ranked], list(_PLACE))


def _place(named: pd.Series, several: Sequence[str]) -> str:
    """A setting in words, with the columns of the study that vary."""
    words = [str(named["scope"])]
    if named["budget"] != named["scope"]:
        words.append(str(named["budget"]))
    if named["normalisation"] != "none":
        words.append(str(named["normalisation"]))
    words += [f"{name} {named[name]}" for name in several if not pd.isna(named[name])]
    return f"{named['dataset']} ({', '.join(words)})"


def _best(found: list[Lead]) -> str:
    if not found:
        return "No setting has two metrics with all their cells, so there is nothing to compare."
    if len(found) <= _LISTED:
        return _sentence([f"on {lead.place} {_lead(lead)}" for lead in found], "; ")
    winners = pd.Series([lead.metric for lead in found]).value_counts()
    sure = sum(lead.low > 0 for lead in found)
    against = sum(lead.high < 0 for lead in found)
    words = [f"{name} in {count}" for name, count in winners.items()]
    text = (
        f"Of {len(found)} combinations of study, budget and normalisation, the highest validation "
        f"accuracy is that of {_listed(words)}; on the test images the 95 % interval of the lead "
        f"over the second lies above zero in {sure}"
    )
    text += f", and below zero in {against}" if against else ""
    single = sum(lead.seeds < 2 for lead in found)
    if single:
        text += f"; {single} {'has' if single == 1 else 'have'} one seed and so no interval"
    return f"{text}."


def _lead(lead: Lead) -> str:
    over = f", averaged over {lead.ratios} ratios" if lead.ratios > 1 else ""
    start = (
        f"{lead.metric} has the highest validation accuracy of {lead.metrics} metrics{over}; on "
        f"the test images it is {lead.points:+.2f} points from {lead.second}, the second"
    )
    if lead.seeds < 2:
        return f"{start} (one seed: no interval, so nothing is sure)"
    if pd.isna(lead.low):
        return f"{start} (the same in all {lead.seeds} seeds: no interval, so nothing is sure)"
    interval = f"95 % interval {lead.low:+.2f} to {lead.high:+.2f}, {lead.seeds} seeds"
    start = f"{start} ({interval})"
    if lead.low <= 0 <= lead.high:
        start += ", so which of the two is better is open"
    if lead.metrics == 2:
        return start
    others = f"{lead.behind} of the {lead.metrics - 1} others"
    return f"{start}, and after Holm's correction it is ahead of {others}"


def _open(frame: pd.DataFrame, judged: pd.DataFrame) -> str:
    run = judged[judged["verdict"] != "not run"]
    parts = []
    if len(run):
        counts = run["verdict"].value_counts()
        words = [f"{counts[name]} {name}" for name in counts.index]
        count = f"{len(run)} comparison{_s(len(run))}"
        parts.append(f"of {count} with the abstracts' claims after fine-tuning, {_listed(words)}")
    else:
        parts.append("no claim of the abstracts was put to the test")
    bad = frame.loc[frame["status"] != "ok", "status"].value_counts()
    cells = f"{len(frame)} cell{_s(len(frame))}"
    if len(bad):
        words = [f"{count} {name}" for name, count in bad.items()]
        parts.append(f"{bad.sum()} of {cells} failed ({_listed(words)})")
    elif len(frame):
        parts.append(f"none of {cells} failed")
    return _sentence(parts, "; ")


def _missing(frame: pd.DataFrame, judged: pd.DataFrame) -> str:
    absent = []
    good = frame[frame["status"] == "ok"]
    not_run = judged.loc[judged["verdict"] == "not run", "claim"].nunique()
    if not_run:
        absent.append(f"cells for {not_run} of the abstracts' {len(CLAIMS)} claims")
    # Networks trained from scratch have another recipe and would count as another study.
    pruned = good[good["metric"] != SCRATCH]
    studies = pruned.groupby(list(STUDY), dropna=False)
    if len(pruned) and (studies["seed"].nunique() < MIN_SEEDS).any():
        absent.append(f"{MIN_SEEDS} seeds in every study")
    if len(pruned) and (studies["ratio"].nunique() < MIN_RATIOS).any():
        absent.append(f"{MIN_RATIOS} ratios in every study")
    metrics = set(good["metric"].dropna())
    if controls := [name for name in CONTROLS if name not in metrics]:
        absent.append(f"the control{_s(len(controls))} {_listed(controls)}")
    if SCRATCH not in metrics:
        absent.append("networks trained from scratch")
    if "latency_1_ms" not in good or good["latency_1_ms"].isna().all():
        absent.append("measured latencies")
    if not absent:
        return "Nothing that the method asks for is missing."
    return f"Missing: {_listed(absent)}."


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _sentence(parts: list[str], between: str) -> str:
    text = between.join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _s(count: int) -> str:
    return "" if count == 1 else "s"
