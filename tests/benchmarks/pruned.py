"""Speed-up of pruned networks, compared with the reduction of multiply-accumulates.

python tests/benchmarks/pruned.py [--quick]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from made_up import BATCH, SCALING, inference_flop, network, noise
from measuring import Load, begin, finish, in_turns, options, section, speed_ratio, table
from training import ours

from prune_core.cost import parameters
from prune_core.images import LabelledImages
from prune_core.networks import SimpleNet
from prune_core.precision import full_precision, resolve
from prune_core.training import Recipe

RATIO = 0.3
# With multiples of 32 the small network cannot reach 0.3 of its parameters.
STEPS = {"simplenet_5m": (1, 8, 16, 32), "simplenet_310k": (1, 8, 16)}
# Images of a run: about a second of training for the full network on two cores.
IMAGES = {"simplenet_5m": BATCH, "simplenet_310k": 4 * BATCH}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the speed of pruned networks relative to the full one, for each rounding of widths."""
    given = begin(options(__doc__), arguments)
    repeats = given.repeats or (1 if given.quick else 3)
    rows = []
    for variant in ["simplenet_310k"] if given.quick else IMAGES:
        full, images = network(variant), noise(BATCH if given.quick else IMAGES[variant])
        steps = STEPS[variant][:2] if given.quick else STEPS[variant]
        shapes = [(scope, step) for scope in ("local", "global") for step in steps]
        nets = [network(variant, RATIO, scope, step) for scope, step in shapes]
        trained = in_turns(*(epoch(net, images) for net in (full, *nets)), repeats=repeats)
        asked = in_turns(*(inference(net, images) for net in (full, *nets)), repeats=repeats)
        for position, ((scope, step), net) in enumerate(zip(shapes, nets, strict=True), start=1):
            less = inference_flop(full) / inference_flop(net)
            training = speed_ratio(trained[position], trained[0])
            asking = speed_ratio(asked[position], asked[0])
            kept = parameters(net.architecture) / parameters(full.architecture)
            rows.append(
                [
                    f"`{variant}`, {scope}, round_to {step}",
                    f"{kept:.3f}",
                    f"{less:.2f}",
                    training.text(2),
                    f"{100 * training.median / less:.0f}",
                    asking.text(2),
                    f"{100 * asking.median / less:.0f}",
                ]
            )
    columns = ["network", "parameters", "MACs, times fewer", "training, times as fast"]
    columns += ["of the MACs, %", "inference, times as fast", "of the MACs, %"]
    note = (
        f"Median (lowest to highest) of {repeats} turns; training in "
        f"{resolve('auto', torch.device('cpu'))} at batch {BATCH}, inference in fp32 at {BATCH}."
    )
    finish("pruned", section(f"{table(columns, rows)}\n\n{note}"), given.quick)


def epoch(net: SimpleNet, images: LabelledImages) -> Load:
    """One epoch of training; amounts are images."""
    return ours(net, images, Recipe(1, BATCH, learning_rate=1e-3, recalibrate=False))


def inference(net: SimpleNet, images: LabelledImages, batch: int = BATCH) -> Load:
    """From scaled images to logits, in eval mode and fp32; amounts are images."""
    device = net.classifier.weight.device
    batches = [SCALING(part.to(device)) for part in images.images.split(batch)]

    def run() -> None:
        net.eval()
        with torch.inference_mode(), full_precision():
            for part in batches:
                net(part)

    return Load(run, len(images))


if __name__ == "__main__":
    main()
