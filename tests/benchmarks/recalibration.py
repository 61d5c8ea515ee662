"""What re-estimating batch normalisation does to the accuracy, on images as trained and unshifted.

python tests/benchmarks/recalibration.py [--epochs 15] [--seeds 5] [--data FOLDER] [--quick]
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accuracy import DATA, cifar10, difference
from made_up import BATCH
from measuring import begin, finish, options, section, table

from prune_core.evaluation import evaluate
from prune_core.images import Split
from prune_core.network import VARIANTS, Architecture, SimpleNet
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.training import Recipe, recalibrate, train


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints test accuracies by seed, and the mean paired differences with their intervals."""
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="CIFAR-10 as Parquet files")
    parser.add_argument("--images", type=int, default=3_200, help="training images")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--variant", choices=VARIANTS, default="simplenet_310k")
    given = begin(parser, arguments)
    if not (given.data / "train.parquet").is_file():
        print(f"recalibration is left out: no train.parquet in {given.data}; name one with --data")
        return
    split = cifar10(given.data, 256 if given.quick else given.images)
    if given.quick:
        split = replace(split, test=split.test.first(256))
    recipe = Recipe(1 if given.quick else given.epochs, BATCH, learning_rate=0.2, recalibrate=False)
    seeds = range(2 if given.quick else given.seeds)
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
