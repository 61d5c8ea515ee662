"""How the surgeon's order with compensation stands against all other methods."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import pandas as pd
import specs
import words

import results
from results.analysis.claims import base_names
from results.analysis.standing import VERDICTS
from results.formatting import listed
from results.storage.schema import FINETUNE

SPEC = specs.packaged("tournament-cpu")
METRIC, COMPENSATION = "surgeon", "least_squares"
SETTINGS = tuple(
    {
        "metric": f"{METRIC}(per={per})",
        "compensation": COMPENSATION,
        "scope": scope,
        "ratio_of": cost,
        **how,
    }
    for cost, per in (("parameters", "parameter"), ("macs", "mac"))
    for scope, how in (
        ("local", {"budget": f"uniform_{cost}"}),
        ("global", {"normalisation": "none"}),
    )
)
"""Our method in each kind of contest: the settings that `choice.yaml` found best, and the defaults
of `prune-sweep prune`. Within a layer, `per` changes nothing."""
ARMS = {
    "without training": ("recalibrated", FINETUNE),
    "fine-tuned, rate 0.02": ("finetuned", FINETUNE),
    "fine-tuned, rate 0.005": ("finetuned", "small_rate"),
}
"""When networks are compared: the stage, and the recipe of fine-tuning."""


def complete(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the data sets and ratios at which the tournament has all of its rows."""
    others = set(SPEC["metrics"]) - {setting["metric"] for setting in SETTINGS}
    ours = pd.Series({setting["ratio_of"]: setting["metric"] for setting in SETTINGS})
    enters = frame["metric"].isin(others) | frame["metric"].eq(frame["ratio_of"].map(ours))
    enters &= frame["scope"].isin(["local", "global"]) & frame["status"].eq("ok")
    rules = len(SPEC["local_budgets"]) + len(SPEC["global_budgets"]) * len(SPEC["normalisations"])
    lists = ("seeds", "finetune", "compensations")
    wanted = rules * (len(others) + 1) * prod(len(SPEC[name]) for name in lists)
    place = ["dataset", "ratio"]
    counts = frame.assign(enters=enters).groupby(place)["enters"].transform("sum")
    return frame[counts == wanted]


def stands(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `results.standing` of all contests, with the column `arm`.

    Our metric divided by something else is no rival.
    """
    found = []
    for arm, (stage, recipe) in ARMS.items():
        for setting in SETTINGS:
            place = {name: setting[name] for name in ("scope", "ratio_of")}
            contest = frame["finetune"].eq(recipe) & frame[f"{stage}_test_top1"].notna()
            contest &= frame["metric"].eq(setting["metric"]) | ~of_ours(frame["metric"])
            for name, value in place.items():
                contest &= frame[name].eq(value)
            method = {name: value for name, value in setting.items() if name not in place}
            rows = frame[contest]
            if (rows[list(method)] == pd.Series(method)).all(axis="columns").any():
                found.append(results.standing(rows, method, at=stage).assign(arm=arm))
    return pd.concat(found, ignore_index=True)


def of_ours(metrics: pd.Series) -> pd.Series:
    """Which names are those of our metric, whatever its options."""
    return base_names(metrics) == METRIC


def summary(found: pd.DataFrame) -> str:
    """How often our method is first, tied first and behind, in one sentence."""
    return (
        f"**Our method**, `{METRIC}` with `{COMPENSATION}`: "
        + ", ".join(words.counted(found["verdict"], VERDICTS, "{count} times {name}"))
        + f", in {len(found)} contests of up to {found['entries'].max()} methods "
        f"({'; '.join(_ratios(found))})."
    )


def not_run(found: pd.DataFrame) -> Iterator[str]:
    """The ratios of the packaged spec that a data set has no contest at."""
    contests = found.groupby("dataset")["ratio"].unique()
    for dataset in (entry["name"] for entry in SPEC["datasets"]):
        absent = [ratio for ratio in SPEC["ratios"] if ratio not in contests.get(dataset, ())]
        if absent:
            yield (
                f"{dataset}, {listed(absent)}: equal MACs, compensation, and fine-tuning at "
                f"another learning rate are not run; the packaged spec `{SPEC['name']}` would "
                "settle them."
            )


def _ratios(found: pd.DataFrame) -> Iterator[str]:
    for dataset, rows in found.groupby("dataset"):
        yield f"{dataset} at {listed(rows['ratio'])}"


def choice(frame: pd.DataFrame) -> Iterator[str]:
    """How the settings that entered compare with all that were tried, by held-out images."""
    cells = frame[of_ours(frame["metric"])]
    for setting in SETTINGS:
        same = cells["scope"].eq(setting["scope"]) & cells["ratio_of"].eq(setting["ratio_of"])
        if not same.any():
            continue
        rows = cells[same]
        means = 100 * rows.groupby(["metric", "normalisation"])["finetuned_validation_top1"].mean()
        means = means.sort_values(ascending=False)
        own = (setting["metric"], setting["normalisation"])
        others = means.drop(index=own)
        metric, normalisation = others.index[0]
        seeds, ratios = (listed(rows[name].tolist()) for name in ("seed", "ratio"))
        yield (
            f"equal {_COSTS[setting['ratio_of']]}, ratios {ratios}, seeds {seeds}: of "
            f"{len(means)} settings, `{own[0]}`, `{own[1]}` is number "
            f"{means.index.get_loc(own) + 1} with {means[own]:.1f} %; of the others the best is "
            f"`{metric}`, `{normalisation}` with {others.iloc[0]:.1f} %."
        )


def table(found: pd.DataFrame) -> Iterator[dict[str, str]]:
    """A line for each data set, scope and cost: verdicts over the ratios, and the lead in points.

    The lead is that over the best other method of each ratio, from the smallest to the largest,
    with the metrics of these methods.
    """
    for (dataset, scope, cost), rows in found.groupby(["dataset", "scope", "ratio_of"]):
        line = {"contests": f"{dataset}, {scope}, equal {_COSTS[cost]}"}
        for arm in ARMS:
            line[arm] = _said(rows[rows["arm"] == arm])
        other, column = _OTHER_COST[cost]
        line["left of the other cost"] = (
            f"{_COSTS[other]} {_span(rows[column])}, others {_span(rows[f'{column}_rival'])}"
        )
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
_OTHER_COST = {"parameters": ("macs", "macs_ratio"), "macs": ("parameters", "parameter_ratio")}


def _said(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "not run"
    verdicts = ", ".join(words.counted(rows["verdict"], VERDICTS))
    rivals = pd.Series(
        f"`{name}`" + ("" if compensation == COMPENSATION else " uncompensated")
        for name, compensation in zip(
            base_names(rows["rival_metric"]), rows["rival_compensation"], strict=True
        )
    )
    return f"{verdicts}; {words.span(rows)} over {', '.join(rivals.drop_duplicates())}"


def _span(values: pd.Series) -> str:
    return " to ".join(dict.fromkeys(f"{value:.2f}" for value in (values.min(), values.max())))


def _how(row: pd.Series) -> str:
    return ", ".join(
        row[f"rival_{name}"]
        for name in ("budget", "normalisation", "compensation")
        if row[f"rival_{name}"] != "none"
    )
