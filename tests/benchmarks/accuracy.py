"""Accuracy after training with our loop and with the usual one: same recipe, paired by seed.

python tests/benchmarks/accuracy.py [--epochs 6] [--seeds 3] [--data FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from made_up import BATCH
from measuring import begin, finish, options, section, table
from usual_loop import usual_train

import results.analysis.intervals
from prune_core.evaluation import evaluate
from prune_core.images import Split, load
from prune_core.networks import Architecture, SimpleNet
from prune_core.networks.simplenet import VARIANTS
from prune_core.precision import resolve
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.training import Recipe, recalibrate, train

DATA = Path(__file__).resolve().parents[2].parent / "shared/data/cifar10"
HOLDOUT = 0.1


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints test accuracies by seed, and the mean paired difference with its interval."""
    asked = asked_of("accuracy", __doc__, arguments, images=10_000, epochs=6, seeds=3)
    if asked is None:
        return
    given, split, recipe, seeds = asked
    outcomes = [both(given.variant, split, recipe, seed) for seed in seeds]
    rows = [
        [str(seed), *(f"{100 * value:.2f}" for value in found)]
        for seed, (found, _) in zip(seeds, outcomes, strict=True)
    ]
    columns = ["seed", "ours, %", "usual, %", "ours, recalibrated, %", "usual, recalibrated, %"]
    accuracies = torch.tensor([found for found, _ in outcomes], dtype=torch.float64)
    seconds = torch.tensor([spent for _, spent in outcomes]).mean(0).tolist()
    notes = [
        f"Ours minus usual, in points, with its 95 % t interval over {len(seeds)} seeds: "
        f"{difference(accuracies[:, 0] - accuracies[:, 1])}; with batch normalisation "
        f"re-estimated after both, {difference(accuracies[:, 2] - accuracies[:, 3])}.",
        f"`{given.variant}`, {len(split.train):,} training and {len(split.test):,} test images of "
        f"CIFAR-10, {recipe.epochs} epochs, batch {BATCH}; within a seed both begin with the same "
        f"weights; ours in {resolve('auto', torch.device('cpu'))}. Training took "
        f"{seconds[0]:.0f} s and {seconds[1]:.0f} s, mean of the seeds.",
    ]
    finish("accuracy", section("\n\n".join([table(columns, rows), *notes])), given.quick)


def asked_of(
    name: str,
    description: str | None,
    arguments: Sequence[str] | None,
    images: int,
    epochs: int,
    seeds: int,
) -> tuple[argparse.Namespace, Split, Recipe, range] | None:
    """The options of a benchmark that trains on CIFAR-10, its images, recipe and seeds.

    Parameters
    ----------
    images, epochs, seeds : defaults of these options.

    Returns
    -------
    None, after a message, if the images are not there.
    """
    parser = options(description)
    parser.add_argument("--data", type=Path, default=DATA, help="CIFAR-10 as Parquet files")
    parser.add_argument("--images", type=int, default=images, help="training images")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--variant", choices=VARIANTS, default="simplenet_310k")
    given = begin(parser, arguments)
    if not (given.data / "train.parquet").is_file():
        print(f"{name} is left out: no train.parquet in {given.data}; name a folder with --data")
        return None
    split = cifar10(given.data, 256 if given.quick else given.images)
    if given.quick:
        split = replace(split, test=split.test.first(256))
    recipe = Recipe(1 if given.quick else given.epochs, BATCH, learning_rate=0.2, recalibrate=False)
    return given, split, recipe, range(2 if given.quick else given.seeds)


def cifar10(folder: Path, train_images: int) -> Split:
    """A split with this many training images, and one tenth held out in addition, as in a sweep."""
    images = load(f"parquet:{folder}")
    # The number of held-out images is rounded in each class.
    enough = math.ceil(train_images / (1 - HOLDOUT)) + images.classes
    split = images.cut(min(enough, len(images.train_labels))).split(HOLDOUT)
    return replace(split, train=split.train.first(train_images))


def both(variant: str, split: Split, recipe: Recipe, seed: int) -> tuple[list[float], list[float]]:
    """Test accuracies of both loops, without and with recalibration, and the training seconds."""
    preprocessing = Preprocessing.of(split.train.images)
    found: list[tuple[float, float]] = []
    seconds: list[float] = []
    loops: list[Callable[..., object]] = [train, usual_train]
    for loop in loops:
        torch.manual_seed(derive(seed, "weights"))
        net = SimpleNet(Architecture.named(variant, split.classes))
        started = time.perf_counter()
        loop(net, split.train, preprocessing, recipe, derive(seed, "loop"), split.flip_keeps_label)
        seconds.append(time.perf_counter() - started)
        plain = evaluate(net, split.test, preprocessing).top1
        recalibrate(net, split.train, preprocessing, recipe, seed, split.flip_keeps_label)
        found.append((plain, evaluate(net, split.test, preprocessing).top1))
    return [accuracy for pair in zip(*found, strict=True) for accuracy in pair], seconds


def difference(values: torch.Tensor) -> str:
    """Mean and interval of paired differences of accuracies, in percentage points."""
    mean, deviation = float(values.mean()), float(values.std())
    low, high = results.analysis.intervals.t_interval(mean, deviation, len(values))
    return f"{100 * mean:+.2f} ({100 * float(low):+.2f} to {100 * float(high):+.2f})"


if __name__ == "__main__":
    main()
