"""The stage that trains an unpruned network."""

from __future__ import annotations

import time
from functools import partial

import torch

from prune_core.evaluation import Evaluation, evaluate
from prune_core.images import Split
from prune_core.network import Architecture, SimpleNet
from prune_core.precision import best_device
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.training import train
from sweep.plan.cells import Baseline
from sweep.stages.artifacts import TrainedBaseline
from sweep.stages.data import split_of
from sweep.stages.observer import SILENT, Observer
from sweep.stages.workspace import Workspace


def baseline(
    workspace: Workspace, wanted: Baseline, observer: Observer = SILENT
) -> TrainedBaseline:
    """Trains the unpruned network, or returns the stored one."""
    artifacts = workspace.artifacts
    if (found := artifacts.baseline(wanted.key)) is not None:
        return found
    started = time.perf_counter()
    split = split_of(wanted.dataset)
    preprocessing = Preprocessing.of(split.train.images)
    net = new_network(wanted.architecture, derive(wanted.seed, "weights"))
    history = train(
        net,
        split.train,
        preprocessing,
        wanted.recipe,
        derive(wanted.seed, "baseline"),
        wanted.dataset.flip_keeps_label,
        partial(observer.epoch, "baseline"),
    )
    seconds = time.perf_counter() - started
    validation, test = evaluated(net, split, preprocessing)
    artifacts.put_baseline(
        wanted.key,
        TrainedBaseline(net.cpu(), preprocessing, validation, test, tuple(history), seconds),
    )
    # Return the stored baseline, not the one in memory, so that all cells use the same weights.
    stored = artifacts.baseline(wanted.key)
    assert stored is not None
    return stored


def new_network(architecture: Architecture, seed: int) -> SimpleNet:
    """A network with new weights, drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SimpleNet(architecture).to(best_device())


def evaluated(
    net: SimpleNet, split: Split, preprocessing: Preprocessing
) -> tuple[Evaluation, Evaluation]:
    """Accuracy and loss on the validation images and on the test images."""
    return (
        evaluate(net, split.validation, preprocessing),
        evaluate(net, split.test, preprocessing),
    )
