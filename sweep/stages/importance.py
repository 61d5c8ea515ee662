"""The stage that scores the channels of a baseline."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from prune_core.images import LabelledImages
from prune_core.layer import LayerView, combined, views
from prune_core.normalisation import normalise
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.statistics import Answer, collect
from sweep.planning.scores import Importance
from sweep.stages.artifacts import CollectedStatistic, TrainedBaseline
from sweep.stages.rows import Row
from sweep.stages.statistics import statistics
from sweep.stages.workspace import Workspace


@dataclass(frozen=True)
class ChannelImportance:
    """The views that a metric read, and the scores of the channels.

    Attributes
    ----------
    of_producers : one tensor [C] per view, float64, higher = keep.
    costs : the columns of a row that say how long statistics and scoring took.
    """

    wanted: Importance
    layers: list[LayerView]
    of_producers: list[Tensor]
    costs: Row

    @cached_property
    def scores(self) -> list[Tensor]:
        """The scores of the channel groups, one tensor [C] per group."""
        wanted = self.wanted
        return combined(self.of_producers, self.layers, wanted.choice.combine(wanted.combine))

    def comparable(self, normalisation: str) -> list[Tensor]:
        """The scores, normalised so that layers can be compared."""
        choice = self.wanted.choice
        combine = choice.combine(self.wanted.combine)
        return normalise(normalisation, choice, self.of_producers, self.layers, combine)


def importance(
    workspace: Workspace, wanted: Importance, trained: TrainedBaseline
) -> ChannelImportance:
    """Scores a baseline's channels with a metric; collects the statistics that it needs."""
    drawn = derive(wanted.baseline.seed, "metric")
    if (known := _stored(workspace, wanted, trained)) is not None:
        scores, costs = known
        return ChannelImportance(wanted, views(trained.net, seed=drawn), scores, costs)
    needed = wanted.statistics
    found = statistics(workspace, needed, trained) if needed else None
    began = time.perf_counter()
    layers = views(trained.net, found.layers if found else None, drawn)
    scores = wanted.choice(layers)
    seconds = time.perf_counter() - began
    costs = {"seconds_scoring": seconds}
    if found:
        costs |= {"seconds_statistics": found.seconds, "seconds_statistics_shared_by": found.shared}
        if wanted.choice.metric.of_group:
            # The producers of a group share one tensor, which a file must not hold twice.
            answers: list[Answer] = [{"scores": values.clone()} for values in scores]
            answers[0]["seconds"] = torch.tensor(seconds, dtype=torch.float64)
            stored = CollectedStatistic(answers, "", found.seconds, found.shared)
            workspace.artifacts.put_statistic(wanted.key, trained.checksum, stored)
    return ChannelImportance(wanted, layers, scores, costs)


def importance_anew(
    wanted: Importance, net: nn.Module, images: LabelledImages, scaling: Preprocessing, seed: int
) -> ChannelImportance:
    """Scores the channels of a network that is no baseline, and stores nothing.

    Parameters
    ----------
    net : a pruned network of the baseline that `wanted` names.
    images : the training images; the statistics are those of the first `wanted.images`.
    seed : for metrics that draw random numbers.
    """
    requests = wanted.choice.needs()
    began, costs, answers = time.perf_counter(), {}, None
    if requests:
        answers = collect(net, images.first(wanted.images), scaling, sorted(requests, key=repr))
        costs = {"seconds_statistics": time.perf_counter() - began}
        began = time.perf_counter()
    layers = views(net, answers, seed)
    scores = wanted.choice(layers)
    costs["seconds_scoring"] = time.perf_counter() - began
    return ChannelImportance(wanted, layers, scores, costs)


def _stored(
    workspace: Workspace, wanted: Importance, trained: TrainedBaseline
) -> tuple[list[Tensor], Row] | None:
    """Scores that an earlier cell of the baseline computed, with their costs.

    Scores of whole groups take long to compute, and read large statistics.
    """
    if not wanted.choice.metric.of_group:
        return None
    layers = len(wanted.baseline.architecture.groups.producers)
    found = workspace.artifacts.statistic(wanted.key, trained.checksum, layers)
    if found is None:
        return None
    scores = [answer["scores"] for answer in found.answers]
    return scores, {
        "seconds_statistics": found.seconds,
        "seconds_statistics_shared_by": found.shared,
        "seconds_scoring": float(found.answers[0]["seconds"]),
    }


def store_importance(workspace: Workspace, found: ChannelImportance) -> None:
    """Writes the scores of all channels into the results; cells of one metric share them."""
    wanted = found.wanted
    of = {
        "baseline_key": wanted.baseline.key,
        "dataset": wanted.baseline.dataset.name,
        "seed": wanted.baseline.seed,
        "metric": wanted.choice.label,
    }
    scores = [layer.tolist() for layer in found.scores]
    workspace.store.write_importances(wanted.key, of, scores)
