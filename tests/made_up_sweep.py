"""Made-up rows of a sweep, for tests and benchmarks of code that reads results.

The values are the same on every call. Only their trends are those of a real sweep.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

import results
from results import Store
from results.storage import schema
from results.storage.schema import table

Row = dict[str, Any]

WIDTHS = (64, 32, 32, 32, 32, 32, 64, 64, 64, 128, 256, 64, 64)
KERNELS = (3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 1, 3)
PIXELS = (1024, 1024, 1024, 1024, 256, 256, 256, 64, 64, 16, 4, 4, 4)
UNPRUNED = {"svhn": 0.978, "cifar10": 0.942, "cifar100": 0.741}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

METRICS = (
    "random",
    "input_l1",
    "output_l1",
    "bn_scale",
    "fpgm",
    "activation_l1",
    "apoz",
    "entropy_histogram",
    "entropy_gaussian",
    "mutual_information",
    "weighted_mutual_information",
    "taylor",
    "hrank",
    "kse",
    "mutual_information_gaussian",
    "weighted_mutual_information_kernel",
    "weighted_mutual_information_product",
    "weighted_mutual_information_shuffled",
    "weighted_entropy",
    "log_output_weight",
    "wmi_gauge_free",
    "wmi_snr",
)
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Grid:
    """The grid of a made-up sweep; scopes are pairs of scope and normalisation."""

    datasets: Sequence[str] = ("svhn", "cifar10", "cifar100")
    metrics: Sequence[str] = METRICS[:12]
    ratios: Sequence[float] = RATIOS
    seeds: Sequence[int] = (0, 1, 2)
    scopes: Sequence[tuple[str, str]] = (("local", "none"),)


def rows(grid: Grid = Grid()) -> Iterator[Row]:
    """A row of `cells` for each point of the grid, all ok, with every column but `kept`."""
    number = 0
    for dataset in grid.datasets:
        for seed in grid.seeds:
            for scope, normalisation in grid.scopes:
                for metric in grid.metrics:
                    for ratio in grid.ratios:
                        yield _row(number, dataset, seed, scope, normalisation, metric, ratio)
                        number += 1


def controls(grid: Grid = Grid(), lost: float = 0.02) -> Iterator[Row]:
    """A row for each baseline of the grid: the unpruned network, which fine-tuning lowers."""
    for at, dataset in enumerate(grid.datasets):
        for seed in grid.seeds:
            row = _row(0, dataset, seed, "local", "none", "random", 1.0)
            tuned = row["baseline_test_top1"] - lost + 0.001 * seed
            row |= {"key": f"c{at:07x}{seed:08x}", "metric": schema.UNPRUNED, "scores_key": None}
            row |= {"scope": schema.UNPRUNED, "budget": schema.UNPRUNED, "collapsed": None}
            for split in schema.SPLITS:
                row[f"finetuned_{split}_top1"] = tuned
                for measure in schema.MEASURES:
                    names = (f"{stage}_{split}_{measure}" for stage in ("pruned", "recalibrated"))
                    row |= dict.fromkeys(names)
            yield row


def write(folder: Path, content: Sequence[Row], scores: bool = False) -> Path:
    """Writes a results folder with these rows in one file, as `compact` does; optionally scores."""
    store = Store(folder)
    store.create()
    content = list(content)
    pq.write_table(table(content), folder / "cells" / f"compacted-{secrets.token_hex(8)}.parquet")
    if scores:
        written = set()
        for row in content:
            if (key := row.get("scores_key")) and key not in written:
                written.add(key)
                names = ("baseline_key", "dataset", "seed", "metric")
                store.write_importances(key, {name: row[name] for name in names}, _scores(row))
    return folder


def frame(folder: Path, grid: Grid = Grid(), **changes: Any) -> pd.DataFrame:
    """The frame that `results.load` gives for this sweep; `changes` replace columns in all rows."""
    return results.load(write(folder, [row | changes for row in rows(grid)]))


def parameters(widths: Sequence[int], classes: int = 10) -> int:
    """Trainable parameters of a network of these widths."""
    inputs = (3, *widths[:-1])
    layers = zip(widths, inputs, KERNELS, strict=True)
    return sum(w * (i * k * k + 3) for w, i, k in layers) + widths[-1] * classes + classes


def multiply_accumulates(widths: Sequence[int], classes: int = 10) -> int:
    """Multiply-accumulates per image of a network of these widths."""
    layers = zip(widths, (3, *widths[:-1]), KERNELS, PIXELS, strict=True)
    return sum(w * i * k * k * p for w, i, k, p in layers) + widths[-1] * classes


def _row(
    number: int, dataset: str, seed: int, scope: str, normalisation: str, metric: str, ratio: float
) -> Row:
    rank = METRICS.index(metric) if metric in METRICS else len(METRICS)
    chance = np.random.default_rng([len(dataset), seed, rank, round(1000 * ratio), len(scope)])
    classes = 100 if dataset == "cifar100" else 10
    widths = _widths(scope, normalisation, rank, ratio, classes)
    collapsed = min(widths) == 1
    unpruned = UNPRUNED.get(dataset, 0.9) + 0.002 * (seed - 1)
    lost = (0.03 + 0.012 * (rank % 7)) * (1 / ratio - 1) ** 0.8 * (1.5 - unpruned)
    lost = lost + (0.3 if collapsed else 0.0) + 0.006 * chance.standard_normal() * (1 - ratio)
    tuned = float(np.clip(unpruned - lost, 1 / classes, 1))
    accuracies = {
        "baseline": unpruned,
        "pruned": 1 / classes + (tuned - 1 / classes) * ratio**3,
        "recalibrated": 1 / classes + (tuned - 1 / classes) * ratio,
        "finetuned": tuned,
    }
    row: Row = {
        "key": f"{number:016x}",
        "baseline_key": f"{abs(hash_of(dataset)) % 10**6:08d}{seed:08d}",
        "sweep": "made-up",
        "status": "ok",
        "dataset": dataset,
        "source": f"torchvision:{dataset}",
        "dataset_fingerprint": f"{hash_of(dataset):016x}",
        "classes": classes,
        "train_images": 45_000,
        "validation_images": 5_000,
        "test_images": 10_000,
        "variant": "simplenet_310k",
        "width": 1.0,
        "seed": seed,
        "metric": metric,
        "metric_options": "{}",
        "normalisation": normalisation,
        "scope": scope,
        "budget": "uniform_parameters" if scope == "local" else scope,
        "min_channels": 1,
        "min_channels_fraction": 0.0,
        "round_to": 1,
        "ratio": ratio,
        "epochs": 60,
        "baseline_images": 45_000,
        "finetune_epochs": 20,
        "finetune_images": 45_000,
        "scores_key": f"{hash_of(dataset) % 10**6:08d}{seed:04d}{rank:04d}",
        "identity": '{"stage":"cell"}',
        "parameters": parameters(widths, classes),
        "parameters_full": parameters(WIDTHS, classes),
        "macs": multiply_accumulates(widths, classes),
        "macs_full": multiply_accumulates(WIDTHS, classes),
        "widths": list(widths),
        "widths_full": list(WIDTHS),
        "collapsed": collapsed,
        "seconds_baseline": 600.0,
        "seconds": 90.0 + 30 * ratio,
        "started_at": NOON + timedelta(minutes=number),
        "finished_at": NOON + timedelta(minutes=number + 2),
        "host": "node-1",
        "device": "a made-up processor",
        "threads": 1,
        "precision": "fp32",
        "git_revision": "0123456789abcdef0123456789abcdef01234567",
        "version_prune_sweep": "0.1.0",
        "version_python": "3.11.2",
        "version_torch": "2.8.0",
        "version_torchvision": "0.23.0",
        "version_ray": "2.50.0",
        "version_numpy": "2.0.0",
        "history": _training(20, 0.6 + 0.02 * rank, tuned),
        "baseline_history": _training(60, 2.0 + 0.1 * seed, unpruned),
    }
    for batch, share in ((1, 0.3), (256, 0.05)):
        for name, macs in (("", row["macs"]), ("full_", row["macs_full"])):
            row[f"latency_{name}{batch}_ms"] = share * (0.4 + 0.6 * macs / row["macs_full"])
            row[f"latency_{name}{batch}_iqr_ms"] = 0.02 * share
    row["parameter_ratio"] = row["parameters"] / row["parameters_full"]
    for stage, accuracy in accuracies.items():
        for split, shift in (("validation", 0.001), ("test", 0.0)):
            row[f"{stage}_{split}_top1"] = min(accuracy + shift, 1.0)
            row[f"{stage}_{split}_top5"] = accuracy + 0.8 * (1 - accuracy)
            row[f"{stage}_{split}_loss"] = -float(np.log(accuracy))
    return row


def _training(epochs: int, loss: float, accuracy: float) -> list[Row]:
    return [
        {"epoch": epoch, "loss": loss / epoch**0.5, "accuracy": accuracy * (1 - 0.5 / epoch)}
        for epoch in range(1, epochs + 1)
    ]


def hash_of(text: str) -> int:
    """A small number for a name, the same in every process."""
    return int.from_bytes(text.encode(), "big") % 2**31


def _widths(
    scope: str, normalisation: str, rank: int, ratio: float, classes: int
) -> tuple[int, ...]:
    """Widths near the ratio: the same fraction in all layers, or as after a made-up ranking."""
    slope = 0.0
    if scope != "local":
        slope = (rank % 5 - 2) * (0.5 if normalisation == "none" else 0.15)
    shape = np.exp(slope * np.linspace(-1, 1, len(WIDTHS)))

    def at(scale: float) -> tuple[int, ...]:
        wanted = np.clip(np.round(scale * shape * WIDTHS), 1, WIDTHS)
        return tuple(int(width) for width in wanted)

    low, high = 0.0, 3.0
    for _ in range(30):
        middle = (low + high) / 2
        over = parameters(at(middle), classes) > ratio * parameters(WIDTHS, classes)
        low, high = (low, middle) if over else (middle, high)
    return at(low)


def _scores(row: Row) -> list[list[float]]:
    """Scores that correlate more or less with those of other metrics."""
    rank = METRICS.index(row["metric"]) if row["metric"] in METRICS else len(METRICS)
    layers = []
    for layer, width in enumerate(WIDTHS):
        shared = np.random.default_rng([row["seed"], layer]).standard_normal(width)
        own = np.random.default_rng([row["seed"], layer, rank]).standard_normal(width)
        layers.append((shared * (1 - rank % 6 / 5) + own * (rank % 6 / 5)).tolist())
    return layers
