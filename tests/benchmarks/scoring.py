"""Time of scoring compared with plain inference over the same images.

python tests/benchmarks/scoring.py [--images 2048] [--variant simplenet_310k] [--quick]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from made_up import BATCH, CLASSES, SCALING, noise
from measuring import Load, begin, finish, in_turns, options, section, speed_ratio, table
from torch import nn

from prune_core.evaluation import BATCHES
from prune_core.images import LabelledImages
from prune_core.layer import views
from prune_core.memory import keep_freed_memory
from prune_core.metrics import METRICS, Choice
from prune_core.networks import Architecture, SimpleNet, device_of
from prune_core.networks.simplenet import VARIANTS
from prune_core.precision import full_precision
from prune_core.statistics import collect

# Metrics that need a backward pass, decompositions, or second moments of what layers read.
COSTLY = (
    "taylor",
    "taylor_signed",
    "taylor_weight",
    "hessian_diag",
    "hrank",
    "nuclear",
    "chip",
    "feature_map_entropy",
    "correlation",
    "consumer_information",
    "surgeon",
)


@dataclass(frozen=True)
class Group:
    """Metrics that are computed together, and the number of images for their statistics."""

    name: str
    choices: tuple[Choice, ...]
    images: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row per group of metrics, with the time of inference on as many images."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--variant", choices=VARIANTS, default="simplenet_310k")
    # As in a trial, which has one CPU.
    parser.set_defaults(threads=1)
    given = begin(parser, arguments)
    count = 128 if given.quick else given.images
    keep_freed_memory()
    net = SimpleNet(Architecture.named(given.variant, CLASSES)).eval()
    repeats = given.repeats or (1 if given.quick else 3)
    rows = scoring_rows(net, noise(count), groups(count), repeats)
    columns = ["metrics", "images", "scoring, s", "inference, s", "ratio"]
    columns += [f"ratio to {BATCH} at once"]
    note = (
        f"Median (lowest to highest) of {repeats} turns; `{given.variant}`, {CLASSES} classes, "
        "fp32. Metrics that read weights alone are held against inference on all images. Inference "
        f"takes {BATCHES['cpu']} images at once, as an evaluation does, and in the last column "
        f"{BATCH}, as a training does; all in a process that keeps the memory that it freed, as a "
        "trial's does."
    )
    finish("scoring", section(f"{table(columns, rows)}\n\n{note}"), given.quick)


def groups(images: int) -> list[Group]:
    """The metrics that a sweep computes together, and each expensive metric alone."""
    choices = {name: Choice.of(name) for name in METRICS}
    cheap = tuple(choice for name, choice in choices.items() if name not in COSTLY)
    weights = tuple(choice for choice in cheap if not choice.metric.reads_images)
    pixel = (Choice.of("mutual_information", {"estimator": "pixel"}),)
    return [
        Group(f"the {len(cheap)} that are not listed below", cheap, images),
        Group(f"of these the {len(weights)} that read weights alone", weights, images),
        Group("mutual_information(estimator=pixel)", pixel, images),
        *(
            Group(name, (choices[name],), min(images, choices[name].images or images))
            for name in COSTLY
        ),
    ]


def scoring_rows(
    net: nn.Module, images: LabelledImages, wanted: Sequence[Group], repeats: int
) -> list[list[str]]:
    """Seconds of each group and of plain inference, and their ratios."""
    rows = []
    at_once = BATCHES[device_of(net).type]
    for group in wanted:
        used = images.first(group.images)
        score, plain, usual = in_turns(
            Load(lambda used=used, group=group: scores(net, used, group.choices)),
            Load(lambda used=used: inference(net, used, at_once)),
            Load(lambda used=used: inference(net, used, BATCH)),
            repeats=repeats,
        )
        rows.append(
            [
                group.name,
                f"{group.images:,}"
                if any(choice.metric.reads_images for choice in group.choices)
                else "none",
                score.seconds.text(3),
                plain.seconds.text(3),
                speed_ratio(plain, score).text(2),
                speed_ratio(usual, score).text(2),
            ]
        )
    return rows


def scores(net: nn.Module, images: LabelledImages, choices: Sequence[Choice]) -> None:
    """Computes all statistics of these metrics in one pass, and the scores of every layer."""
    requests = {request for choice in choices for request in choice.needs()}
    layers = views(net, collect(net, images, SCALING, requests) if requests else None)
    for choice in choices:
        choice(layers)


def inference(net: nn.Module, images: LabelledImages, batch: int) -> None:
    """Plain inference on all images."""
    device = device_of(net)
    net.eval()
    with torch.inference_mode(), full_precision():
        for part in images.images.split(batch):
            net(SCALING(part.to(device)))


if __name__ == "__main__":
    main()
