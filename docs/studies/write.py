"""Writes README.md and its figures from the committed rows: `python docs/studies/write.py`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import drawing
import jinja2
import numpy as np
import pandas as pd
import tournament

import results
from results.analysis.claims import CLAIMS, VERDICTS, WEIGHTED_READINGS
from results.analysis.intervals import LEVEL, holm, over_seeds, t_test
from results.analysis.leads import Lead, leads
from results.analysis.study import macs_ratio, of_grid
from results.figures.differences import differences
from results.figures.style import save
from results.storage.schema import FINETUNE, SCRATCH

HERE = Path(__file__).parent
STUDIES = ("cifar10-cpu",)
UNDER_WAY = ("cifar100",)
"""Data sets whose study is not complete; its rows so far are in the folder `unfinished`."""
EARLIER_STUDIES = ("cifar10-cpu", "cifar100-cpu")
CHOICE = "choice"
"""The rows that the settings of our method were chosen by."""
SHOWN = (0.3, 0.53)
"""The ratios in the figure of all metrics."""
BUDGETS_AT = 0.3
"""The ratio at which local and global pruning by the same metric are compared."""
GAUSSIAN = "weighted_mutual_information(estimator=pixel, information=gaussian)"
READINGS = {
    "weighted_mutual_information": ("weighted_mutual_information", GAUSSIAN),
    "entropy_gaussian": ("entropy_histogram", "entropy_gaussian"),
}
"""The metrics of the claims, estimated by histograms and by Gaussians."""


def page() -> str:
    """The text of README.md."""
    loaded = studies()
    every_row = pd.concat(loaded.values(), ignore_index=True)
    frames = {name: drawing.of_study(rows) for name, rows in loaded.items()}
    everything = pd.concat(frames.values(), ignore_index=True)
    frame = drawing.at_shared_ratios(everything)
    judged = results.claims(frame)
    judged = judged[judged["stage"] == "finetuned"]
    pairs = results.paired_difference(frame, None, "output_l1")
    effects = results.selection_against_allocation(frame)
    found = leads(frame)
    control = results.finetuning_control(frame)
    parts = {
        "short": _bullets(_short(judged, pairs, effects, found)),
        "runs": _table([_run(name, rows, control) for name, rows in frames.items()]),
        "claims": _table(list(_claims(judged, pairs))),
        "other_readings": _other_readings(judged),
        "leads": _bullets(map(_lead, found)),
        "use": _table(list(_use(frame))),
        "budgets": _bullets(_budgets(frame)),
        "allocation": _bullets(_allocation(effects)),
        "stages": _table(list(_stages(everything))),
        "open": _bullets(_open(judged)),
        "earlier": _table(list(_then_and_now(frame))),
        "hardware": json.loads((HERE / "hardware.json").read_text())["description"],
    }
    stands = tournament.stands(every_row)
    parts["contests"] = len(stands)
    if len(stands):
        parts |= {
            "summary": tournament.summary(stands),
            "compensation": _table(list(_compensation(every_row))),
            "choice": _bullets(tournament.choice(results.load(HERE / CHOICE))),
            "tournament": _table(list(tournament.table(stands))),
            "losses": _bullets(tournament.losses(stands)),
        }
    template = (HERE / "README.md.j2").read_text()
    strict = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return strict.from_string(template).render(parts)


def studies() -> dict[str, pd.DataFrame]:
    """The rows of each study."""
    return {name: results.load(HERE / name) for name in STUDIES}


def draw() -> None:
    """Writes the figures."""
    every_row = pd.concat(studies().values(), ignore_index=True)
    everything = drawing.of_study(every_row)
    frame = drawing.at_shared_ratios(everything)
    effects = results.selection_against_allocation(frame)
    own = of_grid(frame)
    made = {
        "metrics": differences(own, "random", ratios=SHOWN),
        "allocation": drawing.effects(effects),
        "stages": drawing.stages(everything),
    }
    if len(stands := tournament.stands(every_row)):
        made["standing"] = drawing.standing(stands)
    for name, figure in made.items():
        _, svg = save(figure, HERE / "pictures" / name)
        svg.unlink()


def _run(name: str, rows: pd.DataFrame, control: pd.DataFrame) -> dict[str, str]:
    seeds = rows.groupby("seed")["baseline_test_top1"].first()
    first = rows[rows["metric"] != SCRATCH].iloc[0]
    tuned = control[control["dataset"] == first["dataset"]]
    return {
        "study": f"[{name}]({name}/report.md)",
        "network": f"`{first['variant']}`",
        "cells": f"{(rows['status'] == 'ok').sum():,} of {len(rows):,} ok",
        "metrics": _metrics(of_grid(rows)),
        "seeds": f"{len(seeds)}",
        "images (training, held out, test)": f"{first['train_images']:,}, "
        f"{first['validation_images']:,}, {first['test_images']:,}",
        "epochs": f"{first['epochs']}, then {first['finetune_epochs']} of "
        f"{first['finetune_images']:,} images",
        "unpruned, %": f"{100 * seeds.mean():.2f} ± {100 * seeds.std():.2f}",
        "by fine-tuning, points": _interval(tuned.iloc[0]) if len(tuned) else "not run",
    }


def _metrics(cells: pd.DataFrame) -> str:
    """How many metrics were run at which ratios; most metrics first."""
    counts = cells.groupby("ratio")["metric"].nunique()
    said = []
    for count in sorted(counts.unique(), reverse=True):
        ratios = ", ".join(f"{ratio:g}" for ratio in counts.index[counts == count])
        said.append(f"{count} at {ratios}")
    return "; ".join(said)


def _short(
    judged: pd.DataFrame, pairs: pd.DataFrame, effects: pd.DataFrame, found: list[Lead]
) -> Iterator[str]:
    ran = judged[judged["verdict"] != "not run"]
    primary = ran[ran["family"] == "primary"]
    yield (
        f"**The claims.** Of the {len(CLAIMS)} differences that the abstracts report, "
        f"{len(primary)} were tested by their first reading: {_verdicts(primary)}."
    )
    for _, row in primary[primary["verdict"] == "confirmed"].iterrows():
        here = _at(pairs, row)
        yield (
            f"**What confirms** {row['claim']}: {_interval(row)}; random channels minus "
            f"`{row['reference']}` have {_of(here, 'random')} there."
        )
    raw = effects[effects["normalisation"].eq("none") & effects["metric"].eq("random")]
    for reference, rows in raw.groupby("widths_of"):
        both, chosen = (rows[rows["effect"] == name] for name in ("both", "selection"))
        yield (
            f"**Widths or channels?** Random channels minus the raw global ranking of "
            f"`{reference}`: {_span(both)} points, each at its own widths; {_span(chosen)} points "
            f"at the widths of `{reference}`."
        )
    winners = pd.Series([lead.metric for lead in found]).value_counts()
    sure = sum(lead.low > 0 for lead in found)
    yield (
        "**The best metrics**, by held-out images, averaged over the ratios: "
        + ", ".join(f"`{name}` in {count}" for name, count in winners.items())
        + f" of {len(found)} budgets. The lead over the second has its whole interval above zero "
        f"in {sure} of them."
    )


def _verdicts(rows: pd.DataFrame) -> str:
    counts = rows["verdict"].value_counts()
    return "; ".join(f"{counts[name]} *{name}*" for name in VERDICTS if name in counts.index)


def _claims(judged: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[dict[str, str]]:
    """A line for each claim and normalisation; a line for one that was not run."""
    for claim in CLAIMS:
        rows = judged[(judged["claim"] == claim.text) & (judged["metric"] == claim.metrics[0])]
        for _, row in rows.iterrows():
            scores = "standardised" if row["normalisation"] == "layer_zscore" else "raw"
            line = {
                "claim": f"{claim.dataset}, {claim.scope} {claim.ratio:g}, `{claim.metrics[0]}`",
                "scores": scores if claim.scope == "global" else "",
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
            yield line | {
                "histogram": _of(here, histogram),
                "Gaussian": _of(here, gaussian),
                "random": _of(here, "random"),
                "detectable": f"{row['detectable_points']:.1f}",
                "verdict": row["verdict"] + exploratory,
            }


def _at(pairs: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """The differences of all metrics where a claim was tested, by metric."""
    same = ["dataset", "scope", "normalisation", "ratio", "budget"]
    return pairs[(pairs[same] == row[same]).all(axis=1)].set_index("metric")


def _of(rows: pd.DataFrame, metric: str) -> str:
    return _interval(rows.loc[metric]) if metric in rows.index else "not run"


def _other_readings(judged: pd.DataFrame) -> str:
    rows = judged[judged["verdict"] != "not run"]
    said = []
    for metric in WEIGHTED_READINGS[1:]:
        mine = rows[rows["metric"] == metric]
        if len(mine):
            said.append(f"`{metric}`, {len(mine)} comparisons: {_verdicts(mine)}.")
    return " ".join(said)


def _lead(lead: Lead) -> str:
    if lead.low > 0:
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


def _use(frame: pd.DataFrame) -> Iterator[dict[str, str]]:
    """The best metric and budget at each ratio by held-out images, with ours and without."""
    cells = of_grid(frame).assign(macs=macs_ratio)
    named = ["metric", "scope", "normalisation"]
    figures = ["finetuned_validation_top1", "finetuned_test_top1", "macs"]
    for (dataset, ratio), rows in cells.groupby(["dataset", "ratio"]):
        means = rows.groupby(named)[figures].mean().sort_values(figures[0], ascending=False)
        ours = tournament.of_ours(means.index.get_level_values("metric").to_series())
        others = means[~ours.to_numpy()]
        yield {
            "parameters left": f"{dataset}, {ratio:g}",
            "best of all": _method(means.iloc[0]),
            "best without `surgeon`": _method(others.iloc[0]),
            "`output_l1`, local": _accuracy(means.loc[("output_l1", "local", "none")]),
        }


def _method(row: pd.Series) -> str:
    metric, scope, normalisation = row.name
    return f"`{metric}`, {drawing.budget(scope, normalisation)}: {_accuracy(row)}"


def _accuracy(row: pd.Series) -> str:
    return f"{100 * row['finetuned_test_top1']:.1f} ({row['macs']:.2f})"


def _budgets(frame: pd.DataFrame) -> Iterator[str]:
    """What a global ranking adds to local pruning by the same metric."""
    cells = of_grid(frame[frame["ratio"] == BUDGETS_AT])
    cells = cells.assign(place=list(map(drawing.budget, cells["scope"], cells["normalisation"])))
    wide = cells.pivot_table("finetuned_test_top1", ["dataset", "metric", "seed"], "place")
    for place, words in (("global", "of raw scores"), ("standardised", "by layer_zscore")):
        points = (100 * (wide[place] - wide["local"])).rename("points").reset_index()
        table = over_seeds(points, ["dataset", "metric"], "points", 100)
        p = t_test(table["mean"] / 100, table["deviation"] / 100, table["seeds"])
        for dataset, rows in table.assign(p=p).groupby("dataset"):
            sure = holm(rows["p"]) < 1 - LEVEL
            up, down = (rows[sure & (rows["mean"] * sign > 0)] for sign in (1, -1))
            yield (
                f"{dataset}, {BUDGETS_AT:g}: the global ranking {words} is better than local "
                f"pruning for {_ends(up)} of {len(rows)} metrics, worse for {_ends(down)}, and "
                f"open for {len(rows) - len(up) - len(down)}."
            )


def _ends(rows: pd.DataFrame) -> str:
    """How many metrics, and those with the least and the most points."""
    if rows.empty:
        return "0"
    ends = rows.sort_values("mean").iloc[[0, -1] if len(rows) > 1 else [0]]
    return f"{len(rows)} ({', '.join(f'`{x.metric}` {x.mean:+.1f}' for x in ends.itertuples())})"


def _allocation(effects: pd.DataFrame) -> Iterator[str]:
    for (dataset, reference, normalisation, ratio), rows in effects.groupby(
        ["dataset", "widths_of", "normalisation", "ratio"]
    ):
        best = rows[rows["effect"] == "selection"].nlargest(1, "difference_points")
        random = rows[rows["metric"] == "random"].set_index("effect")
        if best.empty or random.empty:
            continue
        top = best.iloc[0]
        yield (
            f"{dataset}, {drawing.budget('global', normalisation)}, {ratio:g}: at the widths of "
            f"`{reference}`, random channels {_interval(random.loc['selection'])}, and at their "
            f"own widths another {_interval(random.loc['allocation'])}. The best selection by "
            f"another metric at these widths is `{top['metric']}`, {_interval(top)}."
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


def _open(judged: pd.DataFrame) -> Iterator[str]:
    primary = judged[judged["family"] == "primary"]
    for _, row in primary[primary["verdict"] == "cannot tell"].iterrows():
        yield (
            f"{row['claim']}: found {_interval(row)}; with this spread {row['seeds']} seeds detect "
            f"{row['detectable_points']:.1f} points."
        )
    missing = judged[judged["verdict"] == "not run"].drop_duplicates("claim")
    for claim, dataset in zip(missing["claim"], missing["claimed_dataset"], strict=True):
        if dataset in UNDER_WAY:
            yield f"{claim}: not run yet; the study is [under way](unfinished/README.md)."
        else:
            yield f"{claim}: not run, for want of the images; the spec `thesis` would settle it."


EARLIER = (
    # metric, reference, data set, scope, normalisation, ratio
    ("weighted_mutual_information", "output_l1", "cifar10", "local", "none", 0.3),
    ("weighted_mutual_information", "output_l1", "cifar100", "local", "none", 0.3),
    ("entropy_gaussian", "output_l1", "cifar10", "global", "none", 0.4),
    ("entropy_gaussian", "random", "cifar10", "global", "none", 0.4),
    ("wmi_gauge_free", "random", "cifar10", "global", "none", 0.4),
    ("wmi_gauge_free", "random", "cifar100", "global", "none", 0.4),
    ("weighted_mutual_information", "output_l1", "cifar100", "global", "none", 0.53),
)


def _then_and_now(frame: pd.DataFrame) -> Iterator[dict[str, str]]:
    old = pd.concat([results.load(HERE / "earlier" / name) for name in EARLIER_STUDIES])
    for metric, reference, dataset, scope, normalisation, ratio in EARLIER:
        found = []
        for rows in (old, frame):
            table = results.paired_difference(rows, None, reference)
            here = table.query(
                "metric == @metric and dataset == @dataset and scope == @scope and "
                "normalisation == @normalisation and ratio == @ratio"
            )
            found.append(here.iloc[0] if len(here) else None)
        then, now = found
        yield {
            "difference": f"`{metric}` minus `{reference}`, {dataset}, "
            f"{drawing.budget(scope, normalisation)} {ratio:g}",
            "badly trained": _interval(then) if then is not None else "not run",
            "here": _interval(now) if now is not None else "not run",
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


def _interval(row: pd.Series) -> str:
    low, high = row["low_points"], row["high_points"]
    bounds = "no interval" if np.isnan(low) else f"{low:+.1f}, {high:+.1f}"
    return f"{row['difference_points']:+.1f} [{bounds}]"


def _span(rows: pd.DataFrame) -> str:
    """The differences of several settings, from the smallest to the largest."""
    points = rows["difference_points"]
    ends = [points.min(), points.max()] if len(points) > 1 else [points.iloc[0]]
    return " to ".join(f"{value:+.1f}" for value in ends)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(lines: list[dict[str, str]]) -> str:
    heads = list(lines[0])
    rows = [
        heads,
        ["---"] * len(heads),
        *([line.get(head, "") for head in heads] for line in lines),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    draw()
    (HERE / "README.md").write_text(page())
