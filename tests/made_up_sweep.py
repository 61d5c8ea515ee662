"""Made-up rows of a sweep, for tests and benchmarks of code that reads results.

The values are the same on every call. Only their trends are those of a real sweep.
"""

from __future__ import annotations

import json
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
class Network:
    """A made-up network: its channel groups, and its convolutions.

    Attributes
    ----------
    names, full : name and channels of each channel group that can be pruned.
    layers : of each convolution the group that it reads, the group that it makes, kernel size and
        pixels of its output. A group is an index, or `~channels` if it cannot be pruned.
    last : the group that the linear layer reads.
    own : parameters of each output channel beside its filter.
    """

    variant: str
    options: dict[str, str]
    names: tuple[str, ...]
    full: tuple[int, ...]
    layers: tuple[tuple[int, int, int, int], ...]
    last: int
    own: int

    @property
    def simple(self) -> bool:
        """Whether it is a SimpleNet, whose identity names no channel groups."""
        return self.variant.startswith("simplenet")

    def parameters(self, widths: Sequence[int], classes: int = 10) -> int:
        """Trainable parameters of a network of these widths."""
        filters = sum(
            _channels(out, widths) * (_channels(read, widths) * kernel**2 + self.own)
            for read, out, kernel, _ in self.layers
        )
        return filters + _channels(self.last, widths) * classes + classes

    def multiply_accumulates(self, widths: Sequence[int], classes: int = 10) -> int:
        """Multiply-accumulates per image of a network of these widths."""
        products = sum(
            _channels(out, widths) * _channels(read, widths) * kernel**2 * pixels
            for read, out, kernel, pixels in self.layers
        )
        return products + _channels(self.last, widths) * classes


def _channels(group: int, widths: Sequence[int]) -> int:
    return ~group if group < 0 else widths[group]


_CHAIN = range(len(WIDTHS))
SIMPLENET = Network(
    "simplenet_310k",
    {},
    tuple(f"blocks.{at}.conv" for at in _CHAIN),
    WIDTHS,
    tuple(zip((~3, *_CHAIN[:-1]), _CHAIN, KERNELS, PIXELS, strict=True)),
    _CHAIN[-1],
    own=3,
)


def resnet(depth: int, groups: str = "all") -> Network:
    """A residual network of 6n + 2 layers; `inner` groups are those inside a block."""
    names: list[str] = []
    full: list[int] = []
    layers: list[tuple[int, int, int, int]] = []

    def group(name: str, channels: int, joined: bool = False) -> int:
        if joined and groups == "inner":
            return ~channels
        names.append(name)
        full.append(channels)
        return len(names) - 1

    stream = group("conv1", 16, joined=True)
    layers.append((~3, stream, 3, 1024))
    for stage, (channels, pixels) in enumerate(((16, 1024), (32, 256), (64, 64)), start=1):
        for block in range((depth - 2) // 6):
            inside = group(f"layer{stage}.{block}.conv1", channels)
            layers.append((stream, inside, 3, pixels))
            if block == 0 and stage > 1:
                stream = group(f"layer{stage}.0.conv2", channels, joined=True)
            layers.append((inside, stream, 3, pixels))
    return Network(
        f"resnet{depth}", {"shortcut": "A"}, tuple(names), tuple(full), tuple(layers), stream, own=2
    )


@dataclass(frozen=True)
class Grid:
    """The grid of a made-up sweep; scopes are pairs of scope and normalisation.

    `groups` must be those of the network, `weights` the fingerprint of a file or None, and
    `first` tells the keys of several grids apart.
    """

    datasets: Sequence[str] = ("svhn", "cifar10", "cifar100")
    metrics: Sequence[str] = METRICS[:12]
    ratios: Sequence[float] = RATIOS
    seeds: Sequence[int] = (0, 1, 2)
    scopes: Sequence[tuple[str, str]] = (("local", "none"),)
    network: Network = SIMPLENET
    groups: str = "all"
    combine: str = "mean"
    weights: str | None = None
    first: int = 0


def rows(grid: Grid = Grid()) -> Iterator[Row]:
    """A row of `cells` for each point of the grid, all ok, with every column but `kept`."""
    number = grid.first
    for dataset in grid.datasets:
        for seed in grid.seeds:
            for scope, normalisation in grid.scopes:
                for metric in grid.metrics:
                    for ratio in grid.ratios:
                        point = scope, normalisation, metric, ratio
                        yield _row(grid, number, dataset, seed, *point)
                        number += 1


def controls(grid: Grid = Grid(), lost: float = 0.02) -> Iterator[Row]:
    """A row for each baseline of the grid: the unpruned network, which fine-tuning lowers."""
    for at, dataset in enumerate(grid.datasets):
        for seed in grid.seeds:
            row = _row(grid, 0, dataset, seed, "local", "none", "random", 1.0)
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


def _row(
    grid: Grid,
    number: int,
    dataset: str,
    seed: int,
    scope: str,
    normalisation: str,
    metric: str,
    ratio: float,
) -> Row:
    network = grid.network
    rank = METRICS.index(metric) if metric in METRICS else len(METRICS)
    chance = np.random.default_rng([len(dataset), seed, rank, round(1000 * ratio), len(scope)])
    classes = 100 if dataset == "cifar100" else 10
    widths = _widths(network, scope, normalisation, rank, ratio, classes)
    collapsed = min(widths) == 1
    unpruned = UNPRUNED.get(dataset, 0.9) + (0.0 if grid.weights else 0.002 * (seed - 1))
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
        "baseline_key": f"{hash_of(dataset + _named(network)) % 10**6:08d}{seed:08d}",
        "sweep": "made-up",
        "status": "ok",
        "dataset": dataset,
        "source": f"torchvision:{dataset}",
        "dataset_fingerprint": f"{hash_of(dataset):016x}",
        "classes": classes,
        "train_images": 45_000,
        "validation_images": 5_000,
        "test_images": 10_000,
        "own_validation": False,
        "images_skipped": 0,
        "train_duplicates": 0,
        "validation_duplicates": 0,
        "test_duplicates": 0,
        "test_duplicates_other_label": 0,
        "variant": network.variant,
        "width": 1.0,
        "network_options": json.dumps(network.options),
        "groups": grid.groups,
        "combine": grid.combine,
        "image_height": 32,
        "image_width": 32,
        "weights": grid.weights,
        "seed": seed,
        "metric": metric,
        "metric_options": "{}",
        "normalisation": normalisation,
        "scope": scope,
        "budget": "uniform_parameters" if scope == "local" else scope,
        "min_channels": 1,
        "min_channels_fraction": 0.0,
        "round_to": 1,
        "compensation": "none",
        "compensation_options": "{}",
        "finetune": "finetune",
        "finetune_recipe": '{"epochs": 20}',
        "schedule": "one_shot",
        "schedule_options": "{}",
        "ratio": ratio,
        "ratio_of": "parameters",
        "epochs": 60,
        "baseline_images": 45_000,
        "finetune_epochs": 20,
        "finetune_images": 45_000,
        "scores_key": f"{hash_of(_scored(grid, dataset)) % 10**6:08d}{seed:04d}{rank:04d}",
        "identity": _identity(grid, classes),
        "parameters": network.parameters(widths, classes),
        "parameters_full": network.parameters(network.full, classes),
        "macs": network.multiply_accumulates(widths, classes),
        "macs_full": network.multiply_accumulates(network.full, classes),
        "group_names": list(network.names),
        "widths": list(widths),
        "widths_full": list(network.full),
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
    row["mac_ratio"] = row["macs"] / row["macs_full"]
    for stage, accuracy in accuracies.items():
        for split, shift in (("validation", 0.001), ("test", 0.0)):
            row[f"{stage}_{split}_top1"] = min(accuracy + shift, 1.0)
            row[f"{stage}_{split}_top5"] = accuracy + 0.8 * (1 - accuracy)
            row[f"{stage}_{split}_loss"] = -float(np.log(accuracy))
    return row


def _named(network: Network) -> str:
    """What tells networks other than SimpleNet apart."""
    return "" if network.simple else network.variant


def _scored(grid: Grid, dataset: str) -> str:
    """What tells scores of one metric apart."""
    grouping = "" if grid.network.simple else f"{grid.groups}{grid.combine}"
    return dataset + _named(grid.network) + grouping


def _identity(grid: Grid, classes: int) -> str:
    """A part of what identities hold: what tells networks and their channel groups apart."""
    network = grid.network
    if network.simple:
        return '{"stage":"cell"}'
    named = {"name": network.variant, "width": 1.0, "options": network.options, "version": 1}
    architecture = {"network": named, "classes": classes, "image_size": [32, 32]}
    baseline: Row = {"architecture": architecture}
    if grid.weights:
        baseline["weights"] = {"fingerprint": grid.weights}
    groups = {"which": grid.groups, "version": 1, "combine": grid.combine}
    return json.dumps({"stage": "cell", "baseline": baseline, "groups": groups})


def _training(epochs: int, loss: float, accuracy: float) -> list[Row]:
    return [
        {"epoch": epoch, "loss": loss / epoch**0.5, "accuracy": accuracy * (1 - 0.5 / epoch)}
        for epoch in range(1, epochs + 1)
    ]


def hash_of(text: str) -> int:
    """A small number for a name, the same in every process."""
    return int.from_bytes(text.encode(), "big") % 2**31


def _widths(
    network: Network, scope: str, normalisation: str, rank: int, ratio: float, classes: int
) -> tuple[int, ...]:
    """Widths near the ratio: the same fraction in all groups, or as after a made-up ranking."""
    full = np.array(network.full)
    slope = 0.0
    if scope != "local":
        slope = (rank % 5 - 2) * (0.5 if normalisation == "none" else 0.15)
    shape = np.exp(slope * np.linspace(-1, 1, len(full)))

    def at(scale: float) -> tuple[int, ...]:
        wanted = np.clip(np.round(scale * shape * full), 1, full)
        return tuple(int(width) for width in wanted)

    low, high = 0.0, 3.0
    for _ in range(30):
        middle = (low + high) / 2
        allowed = ratio * network.parameters(network.full, classes)
        over = network.parameters(at(middle), classes) > allowed
        low, high = (low, middle) if over else (middle, high)
    return at(low)


def _scores(row: Row) -> list[list[float]]:
    """Scores that correlate more or less with those of other metrics."""
    rank = METRICS.index(row["metric"]) if row["metric"] in METRICS else len(METRICS)
    layers = []
    for layer, width in enumerate(row["widths_full"]):
        shared = np.random.default_rng([row["seed"], layer]).standard_normal(width)
        own = np.random.default_rng([row["seed"], layer, rank]).standard_normal(width)
        layers.append((shared * (1 - rank % 6 / 5) + own * (rank % 6 / 5)).tolist())
    return layers
