"""Trials per hour on one device that several processes share."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from queue import Empty
from typing import Any

import torch

from prune_core.budgets import local
from prune_core.evaluation import evaluate
from prune_core.images import LabelledImages
from prune_core.layer import views
from prune_core.metrics import Choice
from prune_core.networks import Architecture, SimpleNet
from prune_core.precision import best_device
from prune_core.preprocessing import Preprocessing
from prune_core.surgery import prune
from prune_core.training import Recipe, recalibrate, train

RATIO = 0.3
# Limits the time that processes wait for one that could not start.
MOST_SECONDS = 240


@dataclass(frozen=True)
class Work:
    """The work of each process: `trials` trials, each with one pruned network."""

    architecture: Architecture
    images: LabelledImages
    test: LabelledImages
    recipe: Recipe
    trials: int


@dataclass(frozen=True)
class Packing:
    """The times of trials in parallel processes.

    Attributes
    ----------
    processes : number of processes.
    began, ended : times of every trial, in seconds on the same clock.
    """

    processes: int
    began: tuple[float, ...]
    ended: tuple[float, ...]

    @property
    def trials_per_hour(self) -> float:
        """All trials divided by the hours from the first start to the last end."""
        return 3600 * len(self.began) / (max(self.ended) - min(self.began))

    @property
    def trial_seconds(self) -> list[float]:
        """Seconds of each trial."""
        return [end - begin for begin, end in zip(self.began, self.ended, strict=True)]


def side_by_side(work: Work, processes: int, most_seconds: float = MOST_SECONDS) -> Packing:
    """Runs the work in parallel processes, which start together after one warm-up trial.

    Raises
    ------
    RuntimeError
        If a process fails, or does not answer within `most_seconds`.
    """
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(processes), context.Queue()
    members = [
        context.Process(target=_trials, args=(work, barrier, queue, most_seconds))
        for _ in range(processes)
    ]
    for member in members:
        member.start()
    spans: list[tuple[float, float]] = []
    try:
        for _ in members:
            try:
                found = queue.get(timeout=most_seconds)
            except Empty:
                raise RuntimeError(
                    f"a process did not answer within {most_seconds:.0f} s"
                ) from None
            if isinstance(found, str):
                raise RuntimeError(f"a trial failed: {found}")
            spans += found
    finally:
        for member in members:
            member.join(timeout=10)
            member.kill()
    began, ended = zip(*spans, strict=True)
    return Packing(processes, began, ended)


def _trials(work: Work, barrier: Barrier, queue: Any, most_seconds: float) -> None:
    try:
        # As in a trial, which has one CPU and a share of the GPU.
        torch.set_num_threads(1)
        torch.manual_seed(0)
        device = best_device()
        net = SimpleNet(work.architecture).to(device)
        images, test = work.images.to(device), work.test.to(device)
        scaling = Preprocessing.of(images.images)
        trial(net, images, test, scaling, work.recipe)
        barrier.wait(most_seconds)
        spans = []
        for _ in range(work.trials):
            began = time.monotonic()
            trial(net, images, test, scaling, work.recipe)
            spans.append((began, time.monotonic()))
        queue.put(spans)
    except BaseException as error:
        barrier.abort()
        queue.put(repr(error))
        raise


def trial(
    net: SimpleNet,
    images: LabelledImages,
    test: LabelledImages,
    scaling: Preprocessing,
    recipe: Recipe,
) -> Sequence[float]:
    """The work of a cell: score, prune, recalibrate, fine-tune, and evaluate after each."""
    scores = Choice.of("input_l1")(views(net))
    pruned = prune(net, local(scores, net.architecture, RATIO))
    accuracies = [evaluate(pruned, test, scaling).top1]
    recalibrate(pruned, images, scaling, recipe, 0, True)
    accuracies.append(evaluate(pruned, test, scaling).top1)
    train(pruned, images, scaling, recipe, seed=0, flip_keeps_label=True)
    accuracies.append(evaluate(pruned, test, scaling).top1)
    return accuracies
