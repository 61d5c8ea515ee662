"""The stage that collects channel statistics of a baseline."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from prune_core.precision import best_device
from prune_core.statistics import Answer, Request, collect
from sweep.planning.scores import Statistics
from sweep.stages.artifacts import CollectedStatistic, TrainedBaseline
from sweep.stages.data import split_of
from sweep.stages.workspace import Workspace


@dataclass(frozen=True)
class BaselineStatistics:
    """The channel statistics of a baseline, and what they cost.

    Attributes
    ----------
    layers : for each layer a mapping from request to answer.
    seconds : wall-clock time of the collections that they come from.
    shared : number of statistics that these collections answered together. A collection passes
        over the images once for all of them, so its time cannot be divided among them.
    """

    layers: list[dict[Request, Answer]]
    seconds: float
    shared: int


def statistics(
    workspace: Workspace, wanted: Statistics, trained: TrainedBaseline
) -> BaselineStatistics:
    """The channel statistics of a baseline; collects those that are not stored yet.

    Parameters
    ----------
    trained : the stored baseline that `wanted` names.
    """
    artifacts = workspace.artifacts
    layers = len(wanted.baseline.architecture.groups.producers)
    found: dict[Request, CollectedStatistic] = {}
    for request in wanted.requests:
        stored = artifacts.statistic(wanted.key(request), trained.checksum, layers)
        if stored is not None:
            found[request] = stored
    missing = sorted(wanted.requests - found.keys(), key=repr)
    if missing:
        collected = _collected(wanted, trained, missing)
        for request, statistic in collected.items():
            artifacts.put_statistic(wanted.key(request), trained.checksum, statistic)
        found |= collected
    collections = {statistic.collection: statistic for statistic in found.values()}.values()
    return BaselineStatistics(
        layers=[
            {request: statistic.answers[layer] for request, statistic in found.items()}
            for layer in range(layers)
        ],
        seconds=sum(one.seconds for one in collections),
        shared=sum(one.shared for one in collections),
    )


def _collected(
    wanted: Statistics, trained: TrainedBaseline, requests: list[Request]
) -> dict[Request, CollectedStatistic]:
    images = split_of(wanted.baseline.dataset).train.first(wanted.images)
    net = trained.net.to(best_device())
    began = time.perf_counter()
    layers = collect(net, images, trained.preprocessing, requests)
    seconds, collection = time.perf_counter() - began, secrets.token_hex(8)
    return {
        request: CollectedStatistic(
            [layer[request] for layer in layers], collection, seconds, len(requests)
        )
        for request in requests
    }
