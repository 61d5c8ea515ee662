"""What `prune-sweep prune` says of a network before and after: a table, and the model card."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from rich.console import Console
from rich.table import Table

from prune_core.classifier import Classifier
from prune_core.compensation import LEAST_SQUARES, NO_COMPENSATION, SEQUENTIAL
from prune_core.evaluation import Evaluation
from prune_core.images import Images, Split
from prune_core.networks.weights import weights_fingerprint
from prune_core.one_shot import OneShot
from results.formatting import several
from results.storage.schema import LATENCY_BATCHES
from sweep.commands.model_card import Content, percent
from sweep.commands.trained import HOLDOUT, LARGEST_PIXEL, Origin
from sweep.execution.messages import note
from sweep.stages.rows import Row, git_revision, version_of

SHOWN = 3
"""Channel groups that a note names."""

WORTH_MORE = 0.01
"""A loss of accuracy above which a slower compensation is pointed out."""


@dataclass(frozen=True)
class BeforeAndAfter:
    """A network before and after it was pruned.

    Attributes
    ----------
    full : the network that was pruned, on the CPU.
    net : the smaller network, on the CPU.
    before, after : on the test images.
    removed : without compensation; None if there is none.
    costs : columns of a row: size, latency, device, threads and the seconds of each step.
    at_floor : the names of channel groups that kept no more than they had to.
    """

    full: Classifier
    net: Classifier
    before: Evaluation
    removed: Evaluation | None
    after: Evaluation
    costs: Row
    at_floor: tuple[str, ...]


def show(console: Console, done: BeforeAndAfter, how: OneShot, split: Split) -> None:
    """Prints accuracy, size and latency before and after, and what looks wrong."""
    costs = done.costs
    table = Table("", box=None, pad_edge=False)
    for column in ("before", "after", "after / before"):
        table.add_column(column, justify="right")
    table.add_row(
        f"accuracy on {several(len(split.test), 'test image')}",
        percent(done.before.top1),
        percent(done.after.top1),
    )
    if done.removed is not None:
        table.add_row("  without compensation", "", percent(done.removed.top1))
    for words, column in (("parameters", "parameters"), ("multiply-accumulates", "macs")):
        full, left = costs[f"{column}_full"], costs[column]
        table.add_row(words, f"{full:,}", f"{left:,}", f"{left / full:.3f}")
    for batch in LATENCY_BATCHES:
        full, left = (costs.get(f"latency_{of}{batch}_ms") for of in ("full_", ""))
        if full is not None and left is not None:
            ratio = f"{left / full:.2f}"
            table.add_row(f"ms an image at batch {batch}", f"{full:.4g}", f"{left:.4g}", ratio)
    console.print(table)
    console.print(f"{_seconds(done, how)}; no training")
    if done.at_floor:
        names, more = ", ".join(done.at_floor[:SHOWN]), len(done.at_floor) - SHOWN
        note(
            f"{several(len(done.at_floor), 'channel group')} at the floor of {how.floor} "
            f"({names}{f' and {more} more' if more > 0 else ''}); --min-channels and "
            "--min-fraction raise the floor"
        )
    if how.compensation.name == LEAST_SQUARES and done.before.top1 - done.after.top1 > WORTH_MORE:
        note(f"--compensation {SEQUENTIAL} takes longer and mostly loses less")
    classes = len(done.net.class_names)
    if done.before.top1 < 2 / classes:
        note(
            f"before pruning the network is right about as often as chance (1 of {classes}): "
            "are these its images, classes and scaling?"
        )


def _seconds(done: BeforeAndAfter, how: OneShot) -> str:
    text = f"{done.costs['seconds_scoring']:.1f} s to score channels"
    if how.compensation != NO_COMPENSATION:
        text += f", {done.costs['seconds_compensate']:.1f} s to compensate"
    return f"{text}, {done.costs['seconds_evaluate']:.1f} s to measure"


def content(
    done: BeforeAndAfter, origin: Origin, images: Images, split: Split, how: OneShot
) -> Content:
    """What the model card says."""
    costs, scaling, floor = done.costs, done.net.preprocessing, how.floor
    achieved = costs["parameter_ratio"]
    mean, deviation = (
        ", ".join(f"{value / LARGEST_PIXEL:.4g}" for value in colours)
        for colours in (scaling.mean, scaling.deviation)
    )
    metric, compensation = (
        f"{chosen.label}, options {json.dumps(dict(chosen.options), sort_keys=True)}"
        for chosen in (how.metric, how.compensation)
    )
    if scored := how.images_scored(split.train):
        metric += f", read {scored:,} training images"
    if read := how.images_compensated(split.train):
        compensation += f", read {read:,} training images and no labels"
    made = {
        "network": f"{origin.path}{_built(origin)}, {costs['parameters_full']:,} parameters, "
        f"fingerprint of its tensors {weights_fingerprint(done.full.net.state_dict())}",
        "scaling": f"mean {mean} and deviation {deviation} for red, green and blue, in units of 0 "
        "to 1",
        "training": "none; pruned in one shot",
        "metric": metric,
        "budget": f"{how.budget}, normalisation {how.normalisation}, at least {floor}, "
        f"ratio {how.ratio:g} of the {how.budget.ratio_of} requested; {achieved:.4f} of the "
        f"parameters and {costs['macs'] / costs['macs_full']:.4f} of the macs achieved",
        "compensation": compensation,
        "seed": f"{how.seed}",
        "data": f"{images.name} ({images.source}), fingerprint {images.fingerprint}, "
        f"{len(split.train):,} training images in the order of a split with holdout {HOLDOUT:g}",
        "time": _seconds(done, how),
        "finished": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "versions": f"prune-sweep {version_of('prune-sweep')} "
        f"({git_revision() or 'not from a checkout'}), torch {torch.__version__}, "
        f"Python {platform.python_version()}",
    }
    title = f"{origin.name} for {images.name}, with {percent(achieved)} of its parameters"
    return Content(title, _accuracy(done, split), costs, made)


def _built(origin: Origin) -> str:
    """What builds the network of a checkpoint."""
    if origin.variant is None and origin.source is None:
        return ""
    words = [origin.variant or str(origin.source), *origin.options]
    if origin.width is not None:
        words.append(f"width={origin.width:g}")
    return f" ({', '.join(words)})"


def _accuracy(done: BeforeAndAfter, split: Split) -> str:
    stages = {"before pruning": done.before}
    if done.removed is None:
        stages["pruned: this network"] = done.after
    else:
        stages |= {"pruned": done.removed, "compensated: this network": done.after}
    return "\n".join(
        [
            "| network | test |",
            "| --- | ---: |",
            *(f"| {words} | {percent(found.top1)} |" for words, found in stages.items()),
            "",
            f"Top-1, on {several(len(split.test), 'test image')}, which were used for these "
            f"figures only. Top-5 of this network is {percent(done.after.top5)}. To choose between "
            "pruned networks, use other images.",
        ]
    )
