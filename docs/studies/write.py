"""Writes README.md and its figures from the committed rows: `python docs/studies/write.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import abstracts
import drawing
import jinja2
import large
import pandas as pd
import then_and_now
import tournament
import use
import words

import results
from results.analysis.leads import Lead, leads
from results.analysis.study import of_grid
from results.figures.differences import differences
from results.figures.style import save
from results.formatting import listed, spoken
from results.storage.schema import FINETUNE, SCRATCH

HERE = Path(__file__).parent
STUDIES = ("cifar10-cpu", "cifar100-cpu")
TOURNAMENT = "tournament-cpu"
"""The rows that our method and others have beside those of the studies."""
CHOICE = "choice"
"""The rows that the settings of our method were chosen by."""
SHOWN = (0.3, 0.53)
"""The ratios in the figure of all metrics."""


def page() -> str:
    """The text of README.md."""
    frames = studies()
    everything = pd.concat(frames.values(), ignore_index=True)
    frame = drawing.at_shared_ratios(everything)
    judged = _judged(frame)
    pairs = results.paired_difference(frame, None, "output_l1")
    effects = results.selection_against_allocation(frame)
    held_out = results.selection_against_allocation(frame, split="validation")
    found = leads(frame)
    there = large.studies()
    hardware = json.loads((HERE / "hardware.json").read_text())
    parts = {
        "short": words.bullets([*abstracts.short(judged, pairs), *_short(effects, found)]),
        "runs": words.table(_runs(frames | there)),
        "claims": words.table(abstracts.table(judged, pairs)),
        "claims_there": "".join(_claims_there(large.complete(rows)) for rows in there.values()),
        "other_readings": abstracts.other_readings(judged),
        "leads": words.bullets(map(_lead, found)),
        "use": words.table(use.best(frame)),
        "budgets": words.bullets(use.budgets(frame)),
        "allocation": words.bullets(_allocation(effects, held_out)),
        "stages": words.table(_stages(everything)),
        "earlier": words.table(then_and_now.table(frame)),
        "hardware": hardware["description"],
        "alike": spoken(hardware["processors"]),
    }
    entries = contestants(everything)
    stands = tournament.stands(entries)
    parts |= {
        "summary": tournament.summary(stands),
        "compensation": words.table(_compensation(entries)),
        "choice": words.bullets(tournament.choice(results.load(HERE / CHOICE))),
        "tournament": words.table(tournament.table(stands)),
        "losses": words.bullets(tournament.losses(stands)) or "It is behind in no contest.",
        "open": words.bullets(
            [
                *abstracts.not_settled(judged),
                *large.not_run(there.values()),
                *tournament.not_run(stands),
            ]
        ),
    }
    template = (HERE / "README.md.j2").read_text()
    strict = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    return strict.from_string(template).render(parts)


def studies() -> dict[str, pd.DataFrame]:
    """The rows of each study."""
    return {name: results.load(HERE / name) for name in STUDIES}


def contestants(everything: pd.DataFrame) -> pd.DataFrame:
    """The rows of the studies and of the tournament, where it is complete."""
    rows = pd.concat([everything, results.load(HERE / TOURNAMENT)], ignore_index=True)
    return tournament.complete(rows)


def draw() -> None:
    """Writes the figures."""
    everything = pd.concat(studies().values(), ignore_index=True)
    frame = drawing.at_shared_ratios(everything)
    effects = results.selection_against_allocation(frame)
    own = of_grid(frame)
    made = {
        "metrics": differences(own, "random", ratios=SHOWN),
        "allocation": drawing.effects(effects),
        "stages": drawing.stages(everything),
        "standing": drawing.standing(tournament.stands(contestants(everything))),
    }
    for name, figure in made.items():
        _, svg = save(figure, HERE / "pictures" / name)
        svg.unlink()


def _claims_there(frame: pd.DataFrame) -> str:
    """The claims that the study with the paper's network tests, none without a complete seed."""
    if frame.empty:
        return ""
    judged = _judged(frame)
    pairs = results.paired_difference(frame, None, "output_l1")
    return words.table(abstracts.table(judged[judged["verdict"] != "not run"], pairs))


def _judged(frame: pd.DataFrame) -> pd.DataFrame:
    """The claims after fine-tuning."""
    judged = results.claims(frame)
    return judged[judged["stage"] == "finetuned"]


def _runs(frames: dict[str, pd.DataFrame]) -> Iterator[dict[str, str]]:
    """A line for each data set of each study."""
    for name, frame in frames.items():
        control = results.finetuning_control(frame).set_index("dataset")
        for dataset, rows in frame.groupby("dataset"):
            seeds = rows.groupby("seed")["baseline_test_top1"].first()
            spread = f" ± {100 * seeds.std():.2f}" if len(seeds) > 1 else ""
            first = rows[rows["metric"] != SCRATCH].iloc[0]
            tuned = control.loc[dataset] if dataset in control.index else None
            yield {
                "study": f"[{name}]({name}/report.md)",
                "network": f"`{first['variant']}`",
                "data set": str(dataset),
                "cells": f"{(rows['status'] == 'ok').sum():,} of {len(rows):,} ok",
                "metrics": _metrics(of_grid(rows)),
                "seeds": f"{len(seeds)}",
                "images (training, held out, test)": f"{first['train_images']:,}, "
                f"{first['validation_images']:,}, {first['test_images']:,}",
                "epochs": f"{first['epochs']}, then {first['finetune_epochs']} of "
                f"{first['finetune_images']:,} images",
                "unpruned, %": f"{100 * seeds.mean():.2f}{spread}",
                "by fine-tuning, points": "not run" if tuned is None else words.interval(tuned),
            }


def _metrics(cells: pd.DataFrame) -> str:
    """How many metrics were run at which ratios; most metrics first."""
    counts = cells.groupby("ratio")["metric"].nunique()
    said = []
    for count in sorted(counts.unique(), reverse=True):
        said.append(f"{count} at {listed(counts.index[counts == count])}")
    return "; ".join(said)


def _short(effects: pd.DataFrame, found: list[Lead]) -> Iterator[str]:
    """Whether widths or channels decide, and which metrics are best."""
    raw = effects[effects["normalisation"].eq("none") & effects["metric"].eq("random")]
    for reference, rows in raw.groupby("widths_of"):
        both, chosen = (rows[rows["effect"] == name] for name in ("both", "selection"))
        yield (
            f"**Widths or channels?** Random channels minus the raw global ranking of "
            f"`{reference}`: {words.span(both)} points, each at its own widths; "
            f"{words.span(chosen)} points at the widths of `{reference}`."
        )
    winners = pd.Series([lead.metric for lead in found]).value_counts()
    sure = sum(lead.above_zero for lead in found)
    yield (
        "**The best metrics**, by held-out images, averaged over the ratios: "
        + ", ".join(f"`{name}` in {count}" for name, count in winners.items())
        + f" of {len(found)} budgets. The lead over the second has its whole interval above zero "
        f"in {sure} of them."
    )


def _lead(lead: Lead) -> str:
    if lead.above_zero:
        judged = "a certain lead"
    elif lead.high < 0:
        judged = "the second is better"
    else:
        judged = "which of the two is better is open"
    return (
        f"{lead.place}: **`{lead.metric}`**, "
        f"{lead.points:+.2f} [{lead.low:+.2f}, {lead.high:+.2f}] "
        f"from `{lead.second}` ({judged}); ahead of {lead.behind} of the {lead.metrics - 1} others "
        f"after Holm's correction. MACs left: {lead.macs:.2f} and {lead.macs_second:.2f}."
    )


def _allocation(effects: pd.DataFrame, held_out: pd.DataFrame) -> Iterator[str]:
    """What widths and channels add; the best selection is chosen by held-out images."""
    place = ["dataset", "widths_of", "normalisation", "ratio"]
    chosen = held_out[held_out["effect"] == "selection"].sort_values("difference_points")
    chosen = chosen.groupby(place)["metric"].last()
    for (dataset, reference, normalisation, ratio), rows in effects.groupby(place):
        random = rows[rows["metric"] == "random"].set_index("effect")
        best = chosen.get((dataset, reference, normalisation, ratio))
        if best is None or random.empty:
            continue
        top = rows[(rows["effect"] == "selection") & (rows["metric"] == best)].iloc[0]
        yield (
            f"{dataset}, {drawing.budget('global', normalisation)}, {ratio:g}: at the widths of "
            f"`{reference}`, random channels {words.interval(random.loc['selection'])}, and at "
            f"their own widths another {words.interval(random.loc['allocation'])}. The best "
            f"selection by another metric at these widths is `{best}`, {words.interval(top)}."
        )


def _stages(frame: pd.DataFrame) -> Iterator[dict[str, str]]:
    """What each step after the cut adds, in points, for the mean of the metrics."""
    for (dataset, scope, normalisation), part in drawing.places(drawing.by_stage(frame)):
        line = {"budget": f"{dataset} {drawing.budget(scope, normalisation)}"}
        for ratio, here in part.groupby("ratio"):
            recalibrated, tuned = (
                100 * (here[f"{after}_test_top1"] - here[f"{before}_test_top1"]).mean()
                for after, before in (("recalibrated", "pruned"), ("finetuned", "recalibrated"))
            )
            line[f"{ratio:g}"] = f"{recalibrated:+.0f}, {tuned:+.0f}"
        yield line


def _compensation(frame: pd.DataFrame) -> Iterator[dict[str, str]]:
    """What compensation adds before and after fine-tuning, for the mean of the metrics."""
    same = frame["finetune"].eq(FINETUNE) & frame["ratio_of"].eq("parameters")
    gains = pd.concat(
        [results.mean_compensation_gain(frame[same], at) for at in ("recalibrated", "finetuned")]
    )
    for (dataset, scope, normalisation), part in drawing.places(gains):
        line = {"budget": f"{dataset} {drawing.budget(scope, normalisation)}"}
        for ratio, here in part.groupby("ratio"):
            line[f"{ratio:g}"] = ", ".join(f"{x:+.1f}" for x in here["difference_points"])
        yield line


if __name__ == "__main__":
    draw()
    (HERE / "README.md").write_text(page())
