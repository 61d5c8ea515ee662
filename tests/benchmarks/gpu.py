"""All measurements on one GPU: ceilings, training, inference, scoring, a baseline, packed trials.

Needs only torch, torchvision, numpy and prune_core. First make the images on a machine with
pyarrow. Then measure on the machine with the GPU, which takes less than 8 minutes. Then put the
output into the document:

    python tests/benchmarks/gpu.py --make-images cifar10.npz --data FOLDER
    PYTHONPATH=. python tests/benchmarks/gpu.py --images cifar10.npz --out gpu.md
    python tests/benchmarks/gpu.py --publish gpu.md
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gpu_images
import torch
from ceiling import GIBIBYTE, copy, products
from made_up import BATCH, inference_flop, network, training_flop
from measuring import (
    Load,
    Spread,
    begin,
    in_turns,
    options,
    publish,
    section,
    speed_ratio,
    table,
)
from packed import Work, side_by_side
from scoring import groups, scoring_rows
from training import ours

from prune_core.evaluation import evaluate
from prune_core.images import LabelledImages, Split
from prune_core.networks import SimpleNet
from prune_core.precision import best_device, resolve
from prune_core.preprocessing import Preprocessing
from prune_core.training import Epoch, Recipe, train

GOAL = 0.94


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements; with `TINY` a test of the script takes seconds.

    Attributes
    ----------
    networks : variant and parameter ratio of each.
    epochs : of a run that times training.
    scored : a network to score, as in `networks`, and the number of images for its statistics.
    baseline : variant, and its recipe.
    most_seconds : time limit of the baseline's training.
    processes : numbers of processes that share the GPU; each runs `trials` trials.
    """

    networks: tuple[tuple[str, float], ...]
    repeats: int
    epochs: int
    scored: tuple[str, float, int]
    copied: int
    baseline: tuple[str, Recipe]
    most_seconds: float
    processes: tuple[int, ...]
    trials: int
    finetune: Recipe


FULL = Sizes(
    networks=tuple((v, r) for v in ("simplenet_5m", "simplenet_310k") for r in (1.0, 0.3)),
    repeats=5,
    epochs=1,
    scored=("simplenet_310k", 1.0, 4_096),
    copied=4 * GIBIBYTE,
    baseline=("simplenet_5m", Recipe(100, BATCH, learning_rate=0.2)),
    most_seconds=150.0,
    processes=(1, 4, 8),
    trials=3,
    finetune=Recipe(5, BATCH, learning_rate=0.05),
)
_ONE_EPOCH = Recipe(1, 32, learning_rate=0.05)
TINY = Sizes(
    networks=(("simplenet_310k", 0.1),),
    repeats=1,
    epochs=1,
    scored=("simplenet_310k", 0.1, 32),
    copied=GIBIBYTE // 1024,
    baseline=("simplenet_310k", _ONE_EPOCH),
    most_seconds=5.0,
    processes=(2,),
    trials=1,
    finetune=_ONE_EPOCH,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints all tables; see the docstring of the module for the steps."""
    parser = options(__doc__)
    parser.add_argument("--images", type=Path, help="an .npz file; noise if not given")
    parser.add_argument("--tiny", action="store_true", help="the same as --quick")
    parser.add_argument("--out", type=Path, help="also write the output to this file")
    parser.add_argument("--publish", type=Path, help="put the text of this file into the document")
    parser.add_argument("--make-images", type=Path, help="write the .npz file, which needs --data")
    parser.add_argument("--data", type=Path, help="CIFAR-10 as Parquet files")
    parser.add_argument("--train-images", type=int, default=10_000)
    parser.add_argument("--test-images", type=int, default=5_000)
    given = begin(parser, arguments)
    counts = given.train_images, given.test_images
    if given.publish is not None:
        publish("gpu", given.publish.read_text())
    elif given.make_images is not None:
        if given.data is None:
            parser.error("--make-images needs --data, a folder with CIFAR-10 as Parquet files")
        gpu_images.write(given.make_images, given.data, *counts)
    else:
        sizes = TINY if given.tiny or given.quick else FULL
        known = given.images is not None
        split = gpu_images.read(given.images) if known else gpu_images.made_up(*counts)
        text = everything(sizes, split, known)
        print(text, flush=True)
        if given.out is not None:
            given.out.write_text(text)


def everything(sizes: Sizes, split: Split, known: bool) -> str:
    """All tables; `known` says whether the images are real, so that the accuracy is meaningful."""
    device = best_device()
    train_set, test_set = split.train.to(device), split.test.to(device)
    parts = [
        *speeds(sizes, train_set, device),
        scoring(sizes, train_set, device),
        baseline(sizes, train_set, test_set, known),
        packing(sizes, split),
    ]
    return section("\n\n".join(parts), device)


def speeds(sizes: Sizes, images: LabelledImages, device: torch.device) -> list[str]:
    """The ceilings, and the shares of them that training and inference reach."""
    tiny = sizes is TINY
    ceilings = {**products(device, tiny), "copy": copy(device, sizes.copied)}
    timed = dict(zip(ceilings, in_turns(*ceilings.values(), repeats=sizes.repeats), strict=True))
    rates = [
        ["bf16 product, TFLOP/s", timed["bf16"].rate.times(1e-12).text(1)],
        ["fp32 product, TFLOP/s", timed["fp32"].rate.times(1e-12).text(1)],
        ["copy, bytes read and written, GB/s", timed["copy"].rate.times(1e-9).text(0)],
    ]
    precision = resolve("auto", device)
    rows = []
    scaling = Preprocessing.of(images.images)
    for variant, ratio in sizes.networks:
        net = network(variant, ratio).to(device)
        recipe = Recipe(sizes.epochs, BATCH, learning_rate=1e-3, recalibrate=False)
        used = in_turns(
            ours(net, images, recipe),
            Load(lambda net=net: evaluate(net, images, scaling), len(images)),
            *products(device, tiny).values(),
            repeats=sizes.repeats,
        )
        learning, asking, fp32, bf16 = used
        ceiling = bf16 if precision == "bf16" else fp32
        shares = (
            speed_ratio(learning, ceiling).times(100 * training_flop(net)),
            speed_ratio(asking, fp32).times(100 * inference_flop(net)),
        )
        name = f"`{variant}`" + (f" at {ratio}" if ratio < 1 else "")
        rows.append(
            [
                name,
                learning.rate.text(0),
                shares[0].text(1),
                asking.rate.text(0),
                shares[1].text(1),
            ]
        )
    columns = ["network", f"training in {precision}, images/s", f"of {precision} ceiling, %"]
    columns += ["evaluation in fp32, images/s", "of fp32 ceiling, %"]
    note = f"Median (lowest to highest) of {sizes.repeats} turns; training at batch {BATCH}."
    return [table(["ceiling", "measured"], rates), table(columns, rows), note]


def scoring(sizes: Sizes, images: LabelledImages, device: torch.device) -> str:
    """Time of scoring compared with inference."""
    variant, ratio, count = sizes.scored
    net = network(variant, ratio).to(device).eval()
    rows = scoring_rows(net, images, groups(min(count, len(images))), sizes.repeats)
    columns = ["metrics", "images", "scoring, s", "inference, s", "ratio", "of processor time"]
    return table(columns, rows)


class _Late(Exception):
    """The time limit of the baseline has passed."""


def baseline(sizes: Sizes, images: LabelledImages, test: LabelledImages, known: bool) -> str:
    """Seconds of training until a baseline reaches its goal accuracy."""
    variant, recipe = sizes.baseline
    net = network(variant).to(images.images.device)
    scaling = Preprocessing.of(images.images)
    watch = Watch(net, test, scaling, sizes.most_seconds)
    ending = "to its end"
    try:
        train(net, images, scaling, recipe, seed=0, flip_keeps_label=True, report=watch)
    except _Late:
        ending = f"stopped after {sizes.most_seconds:.0f} s, in the middle of its cycle"
    watch.look()
    reached = "not reached" if watch.reached is None else f"reached after {watch.reached:.0f} s"
    text = (
        f"Baseline: `{variant}`, {recipe.epochs} epochs planned, {len(images):,} training images, "
        f"{ending}, {watch.seconds:.0f} s of training: {100 * GOAL:.0f} % of {len(test):,} test "
        f"images {reached}; best {100 * watch.best:.2f} %, last {100 * watch.last:.2f} %."
    )
    if not known:
        return f"{text} The images are noise: the accuracy is that of guessing."
    fewer = len(images) < 50_000
    return text + (" With a part of CIFAR-10 that goal is not to be expected." if fewer else "")


class Watch:
    """Measures the test accuracy after every epoch; this time does not count as training."""

    def __init__(
        self, net: SimpleNet, test: LabelledImages, scaling: Preprocessing, most_seconds: float
    ) -> None:
        self.net, self.test, self.scaling = net, test, scaling
        self.most_seconds = most_seconds
        self.seconds, self.best, self.last = 0.0, 0.0, 0.0
        self.reached: float | None = None
        self._since = time.perf_counter()

    def __call__(self, epoch: Epoch) -> None:
        self.look()
        if self.seconds > self.most_seconds:
            raise _Late

    def look(self) -> None:
        """Evaluates the current network."""
        self.seconds += time.perf_counter() - self._since
        self.last = evaluate(self.net, self.test, self.scaling).top1
        self.best = max(self.best, self.last)
        if self.reached is None and self.last >= GOAL:
            self.reached = self.seconds
        self._since = time.perf_counter()


def packing(sizes: Sizes, split: Split) -> str:
    """Trials per hour for each number of processes that share the device."""
    architecture = network("simplenet_310k").architecture
    work = Work(architecture, split.train, split.test, sizes.finetune, sizes.trials)
    rows = []
    for processes in sizes.processes:
        found = side_by_side(work, processes)
        rows.append(
            [
                str(processes),
                f"{found.trials_per_hour:,.0f}",
                Spread.of(found.trial_seconds).text(2),
            ]
        )
    columns = ["processes", "trials an hour", "seconds a trial"]
    note = (
        f"`simplenet_310k` pruned to 0.3, {len(split.train):,} training images, "
        f"{sizes.finetune.epochs} epochs of fine-tuning, {len(split.test):,} test images three "
        "times; each process has one thread and no service that shares the GPU out."
    )
    return f"{table(columns, rows)}\n\n{note}"


if __name__ == "__main__":
    main()
