"""What every part of `gpu.py` gets, and the sizes of its measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from ceiling import GIBIBYTE, products
from gpu_report import Report
from made_up import BATCH
from measuring import Load

from prune_core.images import LabelledImages, Split
from prune_core.training import Recipe

NOT_ON_A_CPU = "not on a CPU"
SMALL = "simplenet_310k"
Measurements = Iterator[tuple[str, Callable[[], Sequence[str]]]]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements; with `QUICK` all of them take a minute on a CPU.

    Attributes
    ----------
    networks : variant and ratio of parameters of each.
    compiled : those that are compiled, those that take longest last.
    scored : images for the statistics of metrics.
    baseline : variant, recipe, and the time limit of its training in seconds.
    processes : numbers of processes that share the GPU; each runs `trials` trials.
    finetune : of a trial.
    together : numbers of networks that are trained together, each on `stacked` images.
    compared : networks whose accuracies are compared, and the recipe of their baseline.
    cut : training and test images of the sweep on CIFAR-10.
    """

    networks: tuple[tuple[str, float], ...]
    compiled: tuple[tuple[str, float], ...]
    repeats: int
    scored: int
    copied: int
    baseline: tuple[str, Recipe, float]
    processes: tuple[int, ...]
    trials: int
    finetune: Recipe
    together: tuple[int, ...]
    stacked: int
    compared: tuple[int, Recipe]
    cut: tuple[int, int]
    quick: bool = False


_VARIANTS = ("simplenet_5m", SMALL, "vgg16_bn", "resnet56")
FULL = Sizes(
    networks=tuple((variant, ratio) for variant in _VARIANTS for ratio in (1.0, 0.3)),
    compiled=tuple(
        (variant, ratio)
        for variant in (SMALL, "simplenet_5m", "vgg16_bn", "resnet56")
        for ratio in (0.3, 1.0)
    ),
    repeats=3,
    scored=4_096,
    copied=4 * GIBIBYTE,
    baseline=("simplenet_5m", Recipe(100, BATCH, learning_rate=0.2), 150.0),
    processes=(1, 4, 8, 16),
    trials=2,
    finetune=Recipe(2, BATCH, learning_rate=0.05),
    together=(1, 4, 8, 20),
    stacked=2_048,
    compared=(8, Recipe(10, BATCH, learning_rate=0.1)),
    cut=(10_000, 5_000),
)
_ONE_EPOCH = Recipe(1, 16, learning_rate=0.05)
QUICK = Sizes(
    networks=((SMALL, 0.1),),
    compiled=((SMALL, 0.1),),
    repeats=1,
    scored=16,
    copied=GIBIBYTE // 1024,
    baseline=(SMALL, _ONE_EPOCH, 5.0),
    processes=(2,),
    trials=1,
    finetune=_ONE_EPOCH,
    together=(2,),
    stacked=32,
    compared=(2, _ONE_EPOCH),
    cut=(400, 200),
    quick=True,
)


@dataclass(frozen=True)
class Bench:
    """What every part gets.

    Attributes
    ----------
    split : images on the CPU.
    train, test : the same on the device.
    known : whether the images are real, so that accuracies mean something.
    folder : CIFAR-10 as Parquet files, if given.
    executor : of the sweeps.
    """

    report: Report
    sizes: Sizes
    split: Split
    train: LabelledImages
    test: LabelledImages
    known: bool
    folder: Path | None
    executor: str

    @property
    def device(self) -> torch.device:
        """What is measured."""
        return self.report.device

    @property
    def on_gpu(self) -> bool:
        """Whether CUDA graphs and the Multi-Process Service are possible."""
        return self.device.type == "cuda"

    @property
    def recipe(self) -> Recipe:
        """An epoch, to time it."""
        batch = min(BATCH, len(self.train))
        return Recipe(1, batch, learning_rate=1e-3, recalibrate=False)

    def ceiling(self, kind: str) -> Load:
        """A large product of matrices."""
        return products(self.device, self.sizes.quick)[kind]


def named(
    wanted: Sequence[tuple[str, float]], measure: Callable[[str, float], Sequence[str]]
) -> Measurements:
    for variant, ratio in wanted:
        name = f"`{variant}`" + (f" at {ratio}" if ratio < 1 else "")
        yield name, partial(measure, variant, ratio)


def turns(bench: Bench) -> str:
    return f"Median (lowest to highest) of {bench.sizes.repeats} turns;"
