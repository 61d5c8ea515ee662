"""The stage that scores the channels of a baseline."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from prune_core.layer import LayerView, combined, views
from prune_core.normalisation import normalise
from prune_core.seeds import derive
from sweep.plan.cells import Importance
from sweep.stages.artifacts import TrainedBaseline
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
        return combined(self.of_producers, self.layers, self.wanted.combine)

    def comparable(self, normalisation: str) -> list[Tensor]:
        """The scores, normalised so that layers can be compared."""
        choice, combine = self.wanted.choice, self.wanted.combine
        return normalise(normalisation, choice, self.of_producers, self.layers, combine)


def importance(
    workspace: Workspace, wanted: Importance, trained: TrainedBaseline
) -> ChannelImportance:
    """Scores a baseline's channels with a metric; collects the statistics that it needs."""
    needed = wanted.statistics
    found = statistics(workspace, needed, trained) if needed else None
    began = time.perf_counter()
    answers = found.layers if found else None
    layers = views(trained.net, answers, derive(wanted.baseline.seed, "metric"))
    scores = wanted.choice(layers)
    costs: Row = {"seconds_scoring": time.perf_counter() - began}
    if found:
        costs |= {"seconds_statistics": found.seconds, "seconds_statistics_shared_by": found.shared}
    return ChannelImportance(wanted, layers, scores, costs)


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
