"""How the surgeon's order with compensation stands against all other methods."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

import results
from results.storage.schema import FINETUNE

OURS = {"metric": "surgeon", "compensation": "least_squares"}
SETTINGS = (
    {"scope": "local", "ratio_of": "parameters", "budget": "uniform_parameters"},
    {"scope": "local", "ratio_of": "macs", "budget": "uniform_macs"},
    {"scope": "global", "ratio_of": "parameters", "normalisation": "none"},
    {"scope": "global", "ratio_of": "macs", "normalisation": "none"},
)
"""Our method in each kind of contest: the defaults of `prune-sweep prune`.

`choice.yaml` compares others with them on held-out images of other seeds.
"""
ARMS = {
    "without training": ("recalibrated", FINETUNE),
    "fine-tuned, rate 0.02": ("finetuned", FINETUNE),
    "fine-tuned, rate 0.005": ("finetuned", "small_rate"),
}
"""When networks are compared: the stage, and the recipe of fine-tuning."""
VERDICTS = ("first", "tied first", "behind", "not tested")


def stands(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `results.standing` of all contests, with the column `arm`."""
    found = []
    for arm, (stage, recipe) in ARMS.items():
        for setting in SETTINGS:
            place = {name: setting[name] for name in ("scope", "ratio_of")}
            contest = frame["finetune"].eq(recipe) & frame[f"{stage}_test_top1"].notna()
            for name, value in place.items():
                contest &= frame[name].eq(value)
            method = OURS | {name: value for name, value in setting.items() if name not in place}
            rows = frame[contest]
            if (rows[list(method)] == pd.Series(method)).all(axis="columns").any():
                found.append(results.standing(rows, method, at=stage).assign(arm=arm))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def summary(found: pd.DataFrame) -> str:
    """How often our method is first, tied first and behind, in one sentence."""
    counts = found["verdict"].value_counts()
    return (
        f"**Our method**, `{OURS['metric']}` with {OURS['compensation']}: "
        + ", ".join(f"{counts[name]} times {name}" for name in VERDICTS if name in counts.index)
        + f", in {len(found)} contests of up to {found['entries'].max()} methods."
    )


def choice(frame: pd.DataFrame) -> Iterator[str]:
    """How the settings that entered compare with all that were tried, by held-out images."""
    cells = frame[frame["metric"].str.startswith(OURS["metric"])]
    for cost, rows in cells.groupby("ratio_of"):
        means = 100 * rows.groupby(["metric", "normalisation"])["finetuned_validation_top1"].mean()
        means = means.sort_values(ascending=False)
        own = (OURS["metric"], "none")
        best, best_how = means.index[0]
        seeds = ", ".join(f"{seed}" for seed in sorted(rows["seed"].unique()))
        yield (
            f"equal {_COSTS[cost]}, seeds {seeds}: {len(means)} settings were tried; the one that "
            f"entered is number {means.index.get_loc(own) + 1}, {means[own]:.1f} %; the best is "
            f"`{best}` with normalisation `{best_how}`, {means.iloc[0]:.1f} %."
        )


def table(found: pd.DataFrame) -> Iterator[dict[str, str]]:
    """A line for each data set, scope and cost: verdicts over the ratios, and the lead in points.

    The lead is that over the best other method of each ratio, from the smallest to the largest.
    """
    for (dataset, scope, cost), rows in found.groupby(["dataset", "scope", "ratio_of"]):
        line = {"contests": f"{dataset}, {scope}, equal {_COSTS[cost]}"}
        for arm in ARMS:
            line[arm] = _said(rows[rows["arm"] == arm])
        yield line


def losses(found: pd.DataFrame) -> Iterator[str]:
    """The contests that our method is behind in, with the best other method."""
    for _, row in found[found["verdict"] == "behind"].iterrows():
        yield (
            f"{row['dataset']}, {row['scope']}, {row['ratio']:g} of the {_COSTS[row['ratio_of']]}, "
            f"{row['arm']}: `{row['rival_metric']}` ({_how(row)}) is "
            f"{-row['difference_points']:+.1f} [{-row['high_points']:+.1f}, "
            f"{-row['low_points']:+.1f}] points ahead; MACs left {row['macs_ratio_rival']:.2f}, "
            f"ours {row['macs_ratio']:.2f}."
        )


_COSTS = {"parameters": "parameters", "macs": "MACs"}


def _said(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "not run"
    counts = rows["verdict"].value_counts()
    verdicts = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if name in counts.index)
    points = rows["difference_points"]
    return f"{verdicts}; {points.min():+.1f} to {points.max():+.1f}"


def _how(row: pd.Series) -> str:
    return ", ".join(
        row[f"rival_{name}"]
        for name in ("budget", "normalisation", "compensation")
        if row[f"rival_{name}"] != "none"
    )
