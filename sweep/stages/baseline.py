"""The stage that trains an unpruned network."""

from __future__ import annotations

import time
from functools import partial

import torch
from torch import nn

from prune_core.evaluation import Evaluation, evaluate
from prune_core.images import Split
from prune_core.networks import Architecture, ModuleArchitecture, attach
from prune_core.networks.weights import load_weights
from prune_core.precision import best_device
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.training import train
from sweep.planning.baselines import Baseline
from sweep.stages.artifacts import TrainedBaseline
from sweep.stages.checkpoints import StoredCheckpoints
from sweep.stages.data import split_of
from sweep.stages.observer import SILENT, Observer
from sweep.stages.weights import weights_of
from sweep.stages.workspace import Workspace


def baseline(
    workspace: Workspace, wanted: Baseline, observer: Observer = SILENT
) -> TrainedBaseline:
    """Trains the unpruned network, or returns the stored one.

    A training that was interrupted goes on after its last checkpoint.
    """
    if (found := _stored(workspace, wanted)) is not None:
        return found
    started = time.perf_counter()
    split = split_of(wanted.dataset)
    net = new_network(wanted.architecture, derive(wanted.seed, "weights"))
    preprocessing = None
    if wanted.weights is not None:
        preprocessing = wanted.weights.preprocessing
        load_weights(net, weights_of(workspace, wanted.weights), f"weights {wanted.weights.path}")
    preprocessing = preprocessing or Preprocessing.of(split.train)
    checkpoints = StoredCheckpoints(workspace, wanted.key)
    history = train(
        net,
        split.train,
        preprocessing,
        wanted.recipe,
        derive(wanted.seed, "baseline"),
        wanted.dataset.flip_keeps_label,
        partial(observer.epoch, "baseline"),
        checkpoints,
    )
    seconds = checkpoints.earlier_s + time.perf_counter() - started
    validation, test = evaluated(net, split, preprocessing)
    workspace.artifacts.put_baseline(
        wanted.key,
        TrainedBaseline(net.cpu(), preprocessing, validation, test, tuple(history), seconds),
    )
    # Return the stored baseline, not the one in memory, so that all cells use the same weights.
    stored = _stored(workspace, wanted)
    assert stored is not None
    checkpoints.forget()
    return stored


def new_network(architecture: Architecture, seed: int) -> nn.Module:
    """A network with new weights, drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture.build().to(best_device())


def _stored(workspace: Workspace, wanted: Baseline) -> TrainedBaseline | None:
    architecture = wanted.architecture
    own = architecture.builder if isinstance(architecture, ModuleArchitecture) else None
    found = workspace.artifacts.baseline(wanted.key, own)
    if found is not None:
        # Cells that prune other channel groups share it, and its file names only one grouping.
        attach(found.net, architecture)
    return found


def evaluated(
    net: nn.Module, split: Split, preprocessing: Preprocessing
) -> tuple[Evaluation, Evaluation]:
    """Accuracy and loss on the validation images and on the test images."""
    return (
        evaluate(net, split.validation, preprocessing),
        evaluate(net, split.test, preprocessing),
    )
