"""Writes README.md and the figures from the committed tables: `python docs/studies/write.py`."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from scipy import stats

import results
from results.analysis.claims import VERDICTS, WEIGHTED_READINGS
from results.analysis.intervals import t_interval
from results.analysis.leads import Lead, leads
from results.analysis.ranking import ratio_means
from results.analysis.study import BASELINE, POINT, STUDY, UNPRUNED_STUDY, figures
from results.storage.schema import SCRATCH

HERE = Path(__file__).parent
STUDIES = ("cifar10-cpu", "cifar100-cpu")
SHUFFLED = "weighted_mutual_information_shuffled"
PLACE = ["dataset", "scope", "normalisation"]
_BLOCK = list(dict.fromkeys([*STUDY, *POINT[:-1], *UNPRUNED_STUDY, *BASELINE]))


def page() -> str:
    """The text of README.md."""
    frames = {name: results.load(HERE / name) for name in STUDIES}
    frame = pd.concat(frames.values(), ignore_index=True)
    means = ratio_means(_trained(figures(frame, "finetuned", "test")), [*STUDY, *POINT[:-1]])
    effects = results.selection_against_allocation(frame)
    hardware = json.loads((HERE / "hardware.json").read_text())
    judged = results.claims(frame)
    parts = {
        "short": "\n".join(f"- {line}" for line in _short(judged, effects, leads(frame))),
        "runs": _table([_run(name, rows) for name, rows in frames.items()]),
        "reports": ", ".join(f"[{name}]({name}/report.md)" for name in STUDIES),
        "claims": _claims(judged),
        "leads": "\n".join(_lead(lead) for lead in leads(frame)),
        "accuracies": "\n\n".join(_accuracies(name, rows) for name, rows in frames.items()),
        "over_random": _against(means, "random", None),
        "figures": "\n".join(
            f"![{name}: accuracy against size]({name}/report-figures/accuracy.png)"
            for name in STUDIES
        ),
        "allocation": _allocation(effects),
        "allocation_words": _allocation_words(effects, judged),
        "recalibration": _recalibration(frame),
        "readings": "\n\n".join(
            [
                _against(means, "output_l1", WEIGHTED_READINGS),
                _against(means, SHUFFLED, WEIGHTED_READINGS[:1]),
            ]
        ),
        "readings_words": _readings_words(judged),
        "quantile": f"{stats.t.ppf(0.975, 2):.2f}",
        "hardware": hardware["description"],
    }
    template = (HERE / "README.md.j2").read_text()
    strict = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return strict.from_string(template).render(parts)


def _trained(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[cells["scope"].isin(["local", "global"]) & (cells["metric"] != SCRATCH)]


def _run(name: str, rows: pd.DataFrame) -> dict[str, str]:
    seeds = rows.groupby("seed")["baseline_test_top1"].first()
    first = rows[rows["metric"] != SCRATCH].iloc[0]
    hours = (rows["finished_at"].max() - rows["started_at"].min()).total_seconds() / 3600
    return {
        "study": name,
        "cells": f"{(rows['status'] == 'ok').sum()} of {len(rows)} ok",
        "images (train, held out, test)": f"{first['train_images']:,}, "
        f"{first['validation_images']:,}, {first['test_images']:,}",
        "epochs": f"{first['epochs']}, then {first['finetune_epochs']}",
        "unpruned %": f"{100 * seeds.mean():.2f} ± {100 * seeds.std():.2f} ({len(seeds)} seeds)",
        "hours": f"{hours:.1f}",
    }


def _short(judged: pd.DataFrame, effects: pd.DataFrame, found: list[Lead]) -> list[str]:
    rows = judged[(judged["verdict"] != "not run") & (judged["stage"] == "finetuned")]
    local = rows[rows["scope"] == "local"]
    signs, refuted = local["sign"].value_counts(), int((local["size"] == "refuted").sum())
    primary = rows[rows["family"] == "primary"]
    raw = effects[effects["normalisation"].eq("none") & effects["metric"].eq("random")]
    both, chosen = (raw[raw["effect"] == name] for name in ("both", "selection"))
    sure = int((both["low_points"] > 0).sum())
    selected = int((chosen["low_points"] > 0).sum())
    owed = sure == len(both) and selected == 0
    allocated = " So the lead is owed to widths: allocation, not selection." if owed else ""
    winners = pd.Series([lead.metric for lead in found]).value_counts()
    ahead = sum(lead.low > 0 for lead in found)
    return [
        f"Primary comparisons with the claims, corrected for their number: {_verdicts(primary)}.",
        f"Local pruning at 0.3: of {len(local)} comparisons of weighted mutual information with "
        f"output_l1, the sign of {signs.get('confirmed', 0)} is confirmed and that of "
        f"{signs.get('contradicted', 0)} contradicted; the claimed size is refuted in {refuted}.",
        f"Global pruning of raw scores: random channels are ahead of output_l1 with the whole "
        f"interval in {sure} of {len(both)} settings. At output_l1's own widths the same random "
        f"channels are ahead with the whole interval in {selected} of {len(chosen)}.{allocated}",
        "Highest validation accuracy over the ratios: "
        + ", ".join(f"{name} in {count}" for name, count in winners.items())
        + f" of {len(found)} settings; chosen by all seeds but one and judged by that one, the "
        f"lead over the second has its whole interval above zero in {ahead}.",
    ]


def _verdicts(rows: pd.DataFrame) -> str:
    counts = rows["verdict"].value_counts()
    found = [f"{counts[name]} *{name}*" for name in VERDICTS if name in counts.index]
    return f"of {len(rows)}, {'; '.join(found)}"


def _claims(judged: pd.DataFrame) -> str:
    rows = judged[(judged["verdict"] != "not run") & (judged["stage"] == "finetuned")]
    rows = rows.sort_values("family", ascending=False, kind="stable")
    return _table(
        [
            {
                "claim": row["claim"],
                "metric": row["metric"],
                "normalisation": row["normalisation"],
                "found": _interval(row),
                "at floor": f"{row['collapsed']}, {row['collapsed_reference']} of {row['seeds']}",
                "MACs left": f"{row['macs_ratio']:.2f}, {row['macs_ratio_reference']:.2f}",
                "detectable": f"{row['detectable_points']:.1f}",
                "test images": f"{row['test_error_points']:.1f}",
                "family": row["family"],
                "verdict": row["verdict"],
            }
            for _, row in rows.iterrows()
        ]
    )


def _lead(lead: Lead) -> str:
    open_ = ": which of the two is better is open"
    behind = ": the second is better"
    sure = "" if lead.low > 0 else behind if lead.high < 0 else open_
    return (
        f"- {lead.place}: **{lead.metric}** (chosen in {lead.chosen} of {lead.seeds} folds; "
        f"{lead.macs:.2f} of the MACs), {lead.points:+.2f} [{lead.low:+.2f}, {lead.high:+.2f}] "
        f"from the second, {lead.second} ({lead.macs_second:.2f}){sure}; ahead of {lead.behind} of "
        f"the {lead.metrics - 1} others after Holm's correction."
    )


def _accuracies(name: str, rows: pd.DataFrame) -> str:
    table = results.accuracy_table(rows)
    table = _trained(table)
    short = {"local": "local", "none": "global", "layer_zscore": "standardised"}
    budget = table["normalisation"].where(table["scope"] == "global", "local").map(short)
    table = table.assign(column=budget + " " + table["ratio"].map("{:g}".format))
    shown = [f"{kind} {ratio:g}" for kind in short.values() for ratio in (0.1, 0.3, 0.4, 0.53)]
    # Unlike pivot_table, pivot refuses two rows for one place instead of averaging them.
    means = table.pivot(index="metric", columns="column", values="mean")[shown]  # noqa: PD010
    floors = table.pivot(index="metric", columns="column", values="collapsed")[shown]  # noqa: PD010
    order = means.mean(axis=1).sort_values(ascending=False).index
    lines = []
    for metric in order:
        line = {f"{name}": metric}
        for column in shown:
            text = f"{100 * means.loc[metric, column]:.1f}"
            text = f"**{text}**" if means.loc[metric, column] == means[column].max() else text
            line[column] = text + ("*" if floors.loc[metric, column] else "")
        lines.append(line)
    return _table(lines)


def _against(means: pd.DataFrame, reference: str, metrics: tuple[str, ...] | None) -> str:
    """Accuracy averaged over the ratios minus that of a reference, by place."""
    wide = means.pivot(index=_BLOCK, columns="metric", values="accuracy")  # noqa: PD010
    names = metrics or [name for name in wide.columns if name != reference]
    points = 100 * wide[list(names)].sub(wide[reference], axis="index")
    lines = []
    places = dict(list(points.groupby(PLACE)))
    for name in names:
        line = {f"minus {reference}": name}
        for place, rows in places.items():
            line[_place(place)] = _mean(rows[name])
        lines.append(line)
    return _table(lines)


def _place(place: tuple[str, ...]) -> str:
    dataset, scope, normalisation = place
    return f"{dataset} {'standardised' if normalisation != 'none' else scope}"


def _allocation(effects: pd.DataFrame) -> str:
    shown = {
        ("selection", "entropy_gaussian"),
        ("allocation", "entropy_gaussian"),
        ("both", "entropy_gaussian"),
        ("selection", "random"),
        ("allocation", "random"),
        ("both", "random"),
        ("scratch", "scratch"),
    }
    pairs = zip(effects["effect"], effects["metric"], strict=True)
    chosen = effects[[pair in shown for pair in pairs]]
    return _table(
        [
            {
                "data set": row["dataset"],
                "normalisation": row["normalisation"],
                "ratio": f"{row['ratio']:g}",
                "metric": row["metric"],
                "effect": row["effect"],
                "points": _interval(row),
            }
            for _, row in chosen.iterrows()
        ]
    )


def _allocation_words(effects: pd.DataFrame, judged: pd.DataFrame) -> str:
    said = []
    raw = effects[(effects["normalisation"] == "none") & (effects["metric"] == "random")]
    for _, row in raw[raw["effect"] == "both"].iterrows():
        said.append(
            f"On {row['dataset']} at {row['ratio']:g}, the accuracy with channels taken at random "
            f"from one global ranking, minus that of output_l1, is {_interval(row)} points; the "
            f"raw ranking of output_l1 had a layer at its floor in {row['collapsed_reference']} "
            f"of {row['seeds']} seeds."
        )
    claim = judged[judged["claimed_points"].eq(51) & judged["stage"].eq("finetuned")]
    for _, row in claim[claim["verdict"] != "not run"].iterrows():
        said.append(
            f"The claimed +51 of entropy_gaussian is {_interval(row)} here with normalisation "
            f"`{row['normalisation']}` ({row['verdict']}); output_l1 was at a floor in "
            f"{row['collapsed_reference']} of {row['seeds']} seeds."
        )
    said.append(
        "Where the interval of `both` for random channels lies above zero, a lead over output_l1's "
        "raw global ranking takes no knowledge of channels at all: it is owed to that ranking's "
        "widths."
    )
    return " ".join(said)


def _recalibration(frame: pd.DataFrame) -> str:
    rows = _trained(frame[frame["status"] == "ok"])
    gains = rows.assign(
        recalibration=100 * (rows["recalibrated_test_top1"] - rows["pruned_test_top1"]),
        finetuning=100 * (rows["finetuned_test_top1"] - rows["recalibrated_test_top1"]),
    )
    lines = []
    for place, part in gains.groupby(PLACE):
        line = {"budget": _place(place)}
        by_seed = part.groupby("seed")[["recalibration", "finetuning"]].mean()
        for name in by_seed:
            line[name] = _mean(by_seed[name])
        lines.append(line)
    return _table(lines)


def _readings_words(judged: pd.DataFrame) -> str:
    rows = judged[judged["metric"].isin(WEIGHTED_READINGS) & judged["stage"].eq("finetuned")]
    rows = rows[rows["verdict"] != "not run"]
    said = []
    for metric in WEIGHTED_READINGS:
        mine = rows[rows["metric"] == metric]
        said.append(f"`{metric}`: {_verdicts(mine)}.")
    locals_ = rows[rows["scope"] == "local"]
    confirmed = int((locals_["sign"] == "confirmed").sum())
    said.append(
        f"Of the {len(locals_)} local comparisons, the paper's main result, the sign of "
        f"{confirmed} is confirmed."
    )
    return " ".join(said)


def _mean(points: pd.Series) -> str:
    """The mean over the seeds with its interval."""
    low, high = t_interval(points.mean(), points.std(), len(points))
    return f"{points.mean():+.1f} [{float(low):+.1f}, {float(high):+.1f}]"


def _interval(row: pd.Series) -> str:
    low, high = row["low_points"], row["high_points"]
    bounds = "no interval" if np.isnan(low) else f"{low:+.1f}, {high:+.1f}"
    return f"{row['difference_points']:+.1f} [{bounds}]"


def _table(lines: list[dict[str, str]]) -> str:
    heads = list(lines[0])
    rows = [heads, ["---"] * len(heads), *([str(line[head]) for head in heads] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    (HERE / "README.md").write_text(page())
