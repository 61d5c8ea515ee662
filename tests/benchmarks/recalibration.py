"""What re-estimating batch normalisation does to the accuracy, on images as trained and unshifted.

python tests/benchmarks/recalibration.py [--epochs 15] [--seeds 5] [--data FOLDER] [--quick]
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from accuracy import asked_of, difference
from made_up import BATCH
from measuring import finish, section, table

from prune_core.evaluation import evaluate
from prune_core.images import Split
from prune_core.networks import Architecture, SimpleNet
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.training import Recipe, recalibrate, train


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints test accuracies by seed, and the mean paired differences with their intervals."""
    asked = asked_of("recalibration", __doc__, arguments, images=3_200, epochs=15, seeds=5)
    if asked is None:
        return
    given, split, recipe, seeds = asked
    found = torch.tensor([accuracies(given.variant, split, recipe, seed) for seed in seeds])
    rows = [
        [str(seed), *(f"{100 * value:.2f}" for value in values.tolist())]
        for seed, values in zip(seeds, found, strict=True)
    ]
    columns = ["seed", "as trained, %", "unshifted images, %", "shifted and mirrored, %"]
    notes = [
        "Minus the accuracy as trained, in points, with its 95 % t interval over "
        f"{len(seeds)} seeds: re-estimated on unshifted images "
        f"{difference(found[:, 1] - found[:, 0])}, on images as in training "
        f"{difference(found[:, 2] - found[:, 0])}.",
        f"`{given.variant}`, {len(split.train):,} training and {len(split.test):,} test images of "
        f"CIFAR-10, {recipe.epochs} epochs, batch {BATCH}.",
    ]
    finish("recalibration", section("\n\n".join([table(columns, rows), *notes])), given.quick)


def accuracies(variant: str, split: Split, recipe: Recipe, seed: int) -> list[float]:
    """Test accuracy as trained, and after re-estimation on unshifted and on shifted images."""
    preprocessing, flip = Preprocessing.of(split.train.images), split.flip_keeps_label
    torch.manual_seed(derive(seed, "weights"))
    net = SimpleNet(Architecture.named(variant, split.classes))
    train(net, split.train, preprocessing, recipe, derive(seed, "loop"), flip)
    found = [evaluate(net, split.test, preprocessing).top1]
    for augmentation in (replace(recipe, crop_padding=0, flip=False), recipe):
        other = copy.deepcopy(net)
        recalibrate(other, split.train, preprocessing, augmentation, derive(seed, "end"), flip)
        found.append(evaluate(other, split.test, preprocessing).top1)
    return found


if __name__ == "__main__":
    main()
