"""Seconds of training until a baseline reaches a goal accuracy."""

from __future__ import annotations

import time

from made_up import network
from torch import nn

from prune_core.evaluation import evaluate
from prune_core.images import LabelledImages
from prune_core.preprocessing import Preprocessing
from prune_core.training import Epoch, Recipe, train

GOAL = 0.94


class _Late(Exception):
    """The time limit of the baseline has passed."""


def baseline(
    variant: str,
    recipe: Recipe,
    most_seconds: float,
    images: LabelledImages,
    test: LabelledImages,
    known: bool,
) -> str:
    """A sentence with the seconds until the goal, and the accuracy.

    Parameters
    ----------
    most_seconds : of training; it is stopped after the epoch in which they pass.
    known : whether the images are real, so that the accuracy means something.
    """
    net = network(variant).to(images.device)
    scaling = Preprocessing.of(images.images)
    watch = Watch(net, test, scaling, most_seconds)
    ending = "to its end"
    try:
        train(net, images, scaling, recipe, seed=0, flip_keeps_label=True, report=watch)
    except _Late:
        ending = f"stopped after {most_seconds:.0f} s, in the middle of its cycle"
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
        self, net: nn.Module, test: LabelledImages, scaling: Preprocessing, most_seconds: float
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
