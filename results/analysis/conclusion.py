"""What a sweep found, in a few sentences that the confidence intervals support."""

from __future__ import annotations

import pandas as pd

from results.analysis.claims import MIN_SEEDS, VERDICTS, claims, claims_of
from results.analysis.finetuning_control import (
    finetuning_control,
    lowered,
    studies_without_control,
)
from results.analysis.leads import Lead, leads
from results.analysis.networks import network_name, network_names, same_weights
from results.analysis.study import PROCEDURE, STUDY, completed
from results.formatting import several, spoken
from results.storage.schema import CONTROLS, NO_COMPENSATION, ONE_SHOT, SCRATCH

MIN_RATIOS = 5
BASIC_METRICS = ("random", "input_l1", "output_l1")
"""Metrics that show whether another one is worth its cost (Blalock 2020, 2003.03033)."""

_LISTED = 3


def conclusion(frame: pd.DataFrame) -> list[str]:
    """Three sentences: the best metrics by setting, what is undecided or failed, what is missing.

    The best metric of a setting (study, budget, normalisation, compensation and schedule) is the
    one with the highest validation accuracy after fine-tuning, averaged over ratios and seeds. Its
    lead over the second metric is estimated by leaving one seed out at a time, as
    `results.analysis.leads` explains. A fourth sentence says what the intervals mean where all
    seeds start from the weights of one file: they say how much fine-tuning and seeded metrics vary,
    not how much networks vary.

    Parameters
    ----------
    frame : the frame that `load` returned; it may have failed cells, one seed, or no row.

    Returns
    -------
    list of three texts, or four, without markup.

    Raises
    ------
    ValueError
        As `results.paired_difference`.
    """
    return [_best(leads(frame), frame), *remarks(frame)]


def remarks(frame: pd.DataFrame) -> list[str]:
    """The sentences of `conclusion` after the first: what is undecided, failed or missing."""
    table = claims(frame)
    applicable = [claim.text for claim in claims_of(frame)]
    judged = table[(table["stage"] == "finetuned") & table["claim"].isin(applicable)]
    found = [_open(frame, judged), _missing(frame, judged)]
    weights = same_weights(frame[frame["status"] == "ok"])
    return [*found, *filter(None, [weights])]


def _best(found: list[Lead], frame: pd.DataFrame) -> str:
    if not found:
        return "No setting has two metrics with all their cells, so there is nothing to compare."
    if len(found) <= _LISTED:
        return _sentence([f"on {lead.place} {_lead(lead)}" for lead in found], "; ")
    winners = pd.Series([lead.metric for lead in found]).value_counts()
    sure = sum(lead.above_zero for lead in found)
    against = sum(lead.high < 0 for lead in found)
    words = [f"{name} in {count}" for name, count in winners.items()]
    axes = ["study", "budget", "normalisation"]
    told = completed(frame)
    usual = {"compensation": NO_COMPENSATION, "schedule": ONE_SHOT}
    axes += [name for name in PROCEDURE if (told[name] != usual[name]).any()]
    text = (
        f"Of {len(found)} combinations of {spoken(axes)}, the highest validation "
        f"accuracy is that of {spoken(words)}; chosen by all seeds but one and judged by the test "
        f"images of that one, the 95 % interval of the lead over the second lies above zero in "
        f"{sure}"
    )
    text += f", and below zero in {against}" if against else ""
    ahead = sum(lead.left_out_ahead > 0 for lead in found)
    if ahead:
        text += (
            f"; in {ahead} a metric that lacks a ratio or a seed is more accurate where it has "
            "cells, and no lead is counted"
        )
    unsure = sum(lead.seeds > 1 and lead.chosen < lead.seeds for lead in found)
    if unsure:
        text += f"; in {unsure} the choice depends on the seed that is left out"
    single = sum(lead.seeds < 2 for lead in found)
    if single:
        text += f"; {single} {'has' if single == 1 else 'have'} one seed and so no estimate"
    return f"{text}."


def _lead(lead: Lead) -> str:
    over = f", averaged over {lead.ratios} ratios" if lead.ratios > 1 else ""
    if lead.left_out:
        over += f" ({several(lead.left_out, 'metric lacks', 'metrics lack')} a ratio or a seed"
        over += f", of which {lead.left_out_ahead} more accurate" if lead.left_out_ahead else ""
        over += ")"
    start = (
        f"{lead.metric} has the highest validation accuracy of {lead.metrics} metrics{over}, and "
        f"{lead.second} the second{_macs(lead)}"
    )
    if lead.seeds < 2:
        return f"{start} (one seed cannot both choose and judge, so the lead is unknown)"
    start = f"{start}; {_choice(lead)}, the lead is {lead.points:+.2f} points"
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


def _choice(lead: Lead) -> str:
    """How the lead was estimated, and where the folds choose other metrics."""
    words = []
    if lead.chosen < lead.seeds:
        words.append(f"{lead.metric} is chosen in {lead.chosen} of {lead.seeds} folds")
    if lead.second_chosen < lead.seeds:
        words.append(f"{lead.second} is the second in {lead.second_chosen} of {lead.seeds} folds")
    chosen = f" ({spoken(words)})" if words else ""
    seeds = "the one other seed" if lead.seeds == 2 else "the other seeds"
    return f"chosen by {seeds}{chosen} and judged by the test images of the seed left out"


def _macs(lead: Lead) -> str:
    one, other = f"{lead.macs:.2f}", f"{lead.macs_second:.2f}"
    return "" if one == other else f" ({one} and {other} of the multiply-accumulates are left)"


def _open(frame: pd.DataFrame, judged: pd.DataFrame) -> str:
    run = judged[judged["verdict"] != "not run"]
    primary = run[run["family"] == "primary"]
    parts = _lowered(lowered(finetuning_control(frame)))
    if len(primary):
        counts = primary["verdict"].value_counts()
        words = [f'{counts[name]} "{name}"' for name in VERDICTS if name in counts.index]
        count = f"{len(primary)} primary comparison{_s(len(primary))}"
        parts.append(f"of {count} with the abstracts' claims, {spoken(words)}")
    elif len(run):
        parts.append("no primary comparison with the abstracts' claims was run")
    elif len(judged):
        parts.append("no claim of the abstracts was put to the test")
    if len(run) > len(primary):
        more = len(run) - len(primary)
        parts.append(f"{more} more {'is' if more == 1 else 'are'} exploratory")
    bad = frame.loc[frame["status"] != "ok", "status"].value_counts()
    cells = f"{len(frame)} cell{_s(len(frame))}"
    if len(bad):
        words = [f"{count} {name}" for name, count in bad.items()]
        parts.append(f"{bad.sum()} of {cells} failed ({spoken(words)})")
    elif len(frame):
        parts.append(f"none of {cells} failed")
    return _sentence(parts or ["no cell was run"], "; ")


def _lowered(rows: pd.DataFrame) -> list[str]:
    """What fine-tuning does to the unpruned networks that it lowers."""
    if rows.empty:
        return []
    named = len(network_names(rows).drop_duplicates()) > 1
    words = [
        f"on {row['dataset']}{f' ({network_name(row)})' if named else ''} "
        f"by {-row['difference_points']:.1f} points"
        + ("" if pd.notna(row["high_points"]) else f" ({row['note']})")
        for _, row in rows.iterrows()
    ]
    return [
        f"fine-tuning alone lowers the unpruned network {spoken(words)}: the recipe may "
        "hide differences of such a size between metrics"
    ]


def _missing(frame: pd.DataFrame, judged: pd.DataFrame) -> str:
    absent = []
    good = frame[frame["status"] == "ok"]
    # A claim may be run by one budget and lack its reference by another.
    not_run = (judged["verdict"] == "not run").groupby(judged["claim"]).all().sum()
    if not_run:
        claimed = several(judged["claim"].nunique(), "claim")
        absent.append(f"cells for {not_run} of the abstracts' {claimed} on these data sets")
    # Controls have other recipes or no floor, and would count as other studies.
    pruned = completed(good[~good["metric"].isin(CONTROLS)])
    studies = pruned.groupby([*STUDY, *PROCEDURE], dropna=False)
    if len(pruned) and (studies["seed"].nunique() < MIN_SEEDS).any():
        absent.append(f"{MIN_SEEDS} seeds or more in every study")
    if len(pruned) and (studies["ratio"].nunique() < MIN_RATIOS).any():
        absent.append(f"{MIN_RATIOS} ratios or more in every study")
    metrics = set(good["metric"].dropna())
    if controls := [name for name in BASIC_METRICS if name not in metrics]:
        absent.append(f"the control{_s(len(controls))} {spoken(controls)}")
    if SCRATCH not in metrics:
        absent.append("networks trained from scratch")
    without, count = studies_without_control(frame)
    if without:
        every = " in every study" if without < count else ""
        absent.append(f"the control that fine-tunes the unpruned network{every}")
    if "latency_1_ms" not in good or good["latency_1_ms"].isna().all():
        absent.append("measured latencies")
    if not absent:
        return "Nothing that the method asks for is missing."
    return f"A full comparison would also have {spoken(absent)}."


def _sentence(parts: list[str], between: str) -> str:
    text = between.join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _s(count: int) -> str:
    return "" if count == 1 else "s"
