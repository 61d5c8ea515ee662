"""Our training compared with the usual loop and with the machine's ceiling, in turns.

python tests/benchmarks/training.py [--quick]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ceiling import products
from made_up import BATCH, SCALING, network, noise, training_flop
from measuring import Load, Timed, begin, finish, in_turns, options, section, speed_ratio, table
from usual_loop import WORKERS, usual_train

from prune_core.images import LabelledImages
from prune_core.networks import SimpleNet
from prune_core.precision import resolve
from prune_core.training import Recipe, train

VARIANTS = ("simplenet_5m", "simplenet_310k")
RATIOS = (1.0, 0.3)
# FLOP of one run: some seconds on two cores, so that starting the workers is a small part of it.
RUN_FLOP = 4e11


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints images per second of both loops, their ratio, and the shares of the ceilings."""
    given = begin(options(__doc__), arguments)
    device = torch.device("cpu")
    repeats = given.repeats or (1 if given.quick else 3)
    rows = []
    for variant in VARIANTS[-1:] if given.quick else VARIANTS:
        for ratio in RATIOS:
            net = network(variant, ratio)
            wanted = BATCH if given.quick else RUN_FLOP / training_flop(net)
            count = BATCH * max(2, round(wanted / BATCH))
            ours, usual, fp32, bf16 = in_turns(
                *loops(net, network(variant, ratio), noise(count)),
                *products(device, given.quick).values(),
                repeats=repeats,
            )
            work = training_flop(net)
            rows.append(
                [
                    f"`{variant}`" + (f" at {ratio}" if ratio < 1 else ""),
                    f"{count:,}",
                    ours.rate.text(0),
                    usual.rate.text(0),
                    speed_ratio(ours, usual).text(2),
                    share(ours, fp32, work),
                    share(usual, fp32, work),
                    share(ours, bf16, work),
                ]
            )
    columns = ["network", "images a run", "ours, images/s", "usual, images/s", "ours / usual"]
    columns += ["ours of fp32 ceiling, %", "usual of fp32 ceiling, %", "ours of bf16 ceiling, %"]
    note = (
        f"Median (lowest to highest) of {repeats} turns; one epoch a run, batch {BATCH}, ours in "
        f"{resolve('auto', device)}, the usual loop in fp32 with {WORKERS} workers."
    )
    finish("training", section(f"{table(columns, rows)}\n\n{note}"), given.quick)


def loops(mine: SimpleNet, theirs: SimpleNet, images: LabelledImages) -> tuple[Load, Load]:
    """One epoch of our loop and one of the usual one; amounts are images."""
    # Recalibration comes once after many epochs, so it is not part of the speed of an epoch.
    recipe = Recipe(epochs=1, batch_size=BATCH, learning_rate=1e-3, recalibrate=False)

    def usual() -> None:
        usual_train(theirs, images, SCALING, recipe, seed=0, flip_keeps_label=True)

    return ours(mine, images, recipe), Load(usual, len(images))


def ours(net: SimpleNet, images: LabelledImages, recipe: Recipe) -> Load:
    """Training with our loop; amounts are images times epochs."""

    def run() -> None:
        train(net, images, SCALING, recipe, seed=0, flip_keeps_label=True)

    return Load(run, recipe.epochs * len(images))


def share(loop: Timed, product: Timed, work: float) -> str:
    """Percent of the ceiling that a loop reaches; `work` is its FLOP for one image."""
    return speed_ratio(loop, product).times(100 * work).text(0)


if __name__ == "__main__":
    main()
