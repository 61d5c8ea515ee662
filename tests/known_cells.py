"""Cells with chosen accuracies, for tests whose correct answers are known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from results.storage.frames import _NULLABLE
from results.storage.schema import NESTED, UNPRUNED, table

Row = dict[str, Any]

STAGES = ("baseline", "pruned", "recalibrated", "finetuned")


def cell(
    metric: str = "output_l1", seed: int = 0, accuracy: float | None = 0.5, **changes: Any
) -> Row:
    """A row of `cells` that is ok, with the same accuracy in every stage and split.

    `changes` replace columns; `recipe` is the fine-tuning recipe, `trained` replaces fields of the
    baseline's recipe, `version` is that of the code, `rule_version` that of the budget rule,
    `groups_version` that of the channel groups, `network` replaces fields of the network in the
    identity, `scores` the metric's part of the identity. A network other than SimpleNet has its
    channel groups in the identity.
    """
    dataset = changes.get("dataset", "digits")
    groups_version, network = changes.pop("groups_version", 1), changes.pop("network", {})
    recipe, version = changes.pop("recipe", {"epochs": 2}), changes.pop("version", 1)
    trained, rule_version = changes.pop("trained", {}), changes.pop("rule_version", 1)
    scores = changes.pop("scores", {"metric": metric})
    row: Row = {
        "baseline_checksum": f"weights of seed {seed}",
        "sweep": "known",
        "status": "ok",
        "dataset": dataset,
        "source": dataset,
        "dataset_fingerprint": f"pixels of {dataset}",
        "classes": 10,
        "train_images": 900,
        "validation_images": 100,
        "test_images": 100,
        "variant": "simplenet_310k",
        "width": 1.0,
        "network_options": "{}",
        "groups": "all",
        "combine": "mean",
        "image_height": 32,
        "image_width": 32,
        "weights": None,
        "seed": seed,
        "metric": metric,
        "metric_options": "{}",
        "normalisation": "none",
        "scope": "local",
        "budget": "uniform_parameters",
        "min_channels": 1,
        "min_channels_fraction": 0.0,
        "round_to": 1,
        "ratio": 0.3,
        "epochs": 4,
        "baseline_images": 900,
        "finetune_epochs": 2,
        "finetune_images": 900,
        "parameters": 300,
        "parameters_full": 1000,
        "parameter_ratio": 0.3,
        "macs": 3000,
        "macs_full": 10_000,
        "collapsed": False,
        "device": "a processor",
        "threads": 1,
    }
    for stage in STAGES:
        for split in ("validation", "test"):
            row[f"{stage}_{split}_top1"] = accuracy
    row |= changes
    names = ["variant", "width", "network_options", "image_height", "image_width", "weights"]
    shape = "-".join(str(row[name]) for name in names)
    row = {"baseline_key": f"{dataset}-{shape}-{seed}"} | row
    if row["scope"] != "local" and row["budget"] == "uniform_parameters":
        row["budget"] = row["scope"]
    row["ratio_of"] = "channels" if row["budget"] == "uniform_channels" else "parameters"
    if row["scope"] == "widths_of":
        row["widths_of"] = row["budget"].removeprefix("widths_of(").removesuffix(")")
    identity = {
        "baseline": {
            "architecture": _architecture(row, network),
            "dataset": {"fingerprint": row["dataset_fingerprint"]},
            "recipe": {"epochs": row["epochs"], "learning_rate": 0.1} | trained,
            "seed": seed,
            "stage": "baseline",
            "version": {"preprocessing": 1},
        },
        "budget": {"rule": row["budget"], "version": rule_version},
        "finetune": recipe,
        "ratio": row["ratio"],
        "scores": scores,
        "version": version,
    }
    if row["weights"] is not None:
        identity["baseline"]["weights"] = {"fingerprint": row["weights"]}
    if not row["variant"].startswith("simplenet"):
        groups = {"which": row["groups"], "version": groups_version, "combine": row["combine"]}
        identity |= {"groups": groups}
        if isinstance(scores, dict):
            identity["scores"] = scores | {"groups": groups}
    return {"identity": json.dumps(identity), **row}


def _architecture(row: Row, network: Mapping[str, Any]) -> Row:
    """The baseline's architecture as it is in an identity."""
    size = [row["image_height"], row["image_width"]]
    if row["variant"].startswith("simplenet"):
        known = {"widths": [round(64 * row["width"])] * 13, "classes": row["classes"]}
        return known if size == [32, 32] else known | {"image_size": size}
    options = json.loads(row["network_options"])
    named = {"name": row["variant"], "width": row["width"], "options": options, "version": 1}
    named |= network
    return {"network": named, "classes": row["classes"], "image_size": size}


def unpruned(seed: int = 0, before: float = 0.9, after: float = 0.8, **changes: Any) -> Row:
    """A row of the control that fine-tunes the unpruned network, as the pruned ones are."""
    row = cell(UNPRUNED, seed, after, scope=UNPRUNED, budget=UNPRUNED, ratio=1.0, **changes)
    for split in ("validation", "test"):
        row |= {f"pruned_{split}_top1": None, f"recalibrated_{split}_top1": None}
        row[f"baseline_{split}_top1"] = before
    whole = {"parameters": row["parameters_full"], "parameter_ratio": 1.0}
    return row | whole | {"macs": row["macs_full"], "collapsed": None}


def failed(metric: str = "output_l1", seed: int = 0, **changes: Any) -> Row:
    """A row of a cell that diverged in fine-tuning; it has accuracies of the earlier stages."""
    row = cell(metric, seed, 0.01, status="diverged", error="loss is nan", **changes)
    return row | {"finetuned_test_top1": None, "finetuned_validation_top1": None}


def cells(accuracies: Mapping[str, Sequence[float | None]], **changes: Any) -> list[Row]:
    """Cells of each metric, one accuracy per seed from seed 0 on; None leaves the cell out."""
    return [
        cell(metric, seed, accuracy, **changes)
        for metric, values in accuracies.items()
        for seed, accuracy in enumerate(values)
        if accuracy is not None
    ]


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """The frame that `results.load` would give for these rows, with new keys and without a disk."""
    numbered = [{"key": f"{at:016x}", **row} for at, row in enumerate(rows)]
    content = table(numbered).drop_columns(list(NESTED))
    return content.to_pandas(types_mapper=_NULLABLE.get)
