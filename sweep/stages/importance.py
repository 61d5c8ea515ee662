"""The stage that scores the channels of a baseline."""

from __future__ import annotations

import time
from dataclasses import dataclass

from torch import Tensor

from prune_core.layer import LayerView, views
from prune_core.normalisation import normalise
from prune_core.seeds import derive
from sweep.plan.cells import Importance
from sweep.stages.artifacts import TrainedBaseline
from sweep.stages.rows import Row
from sweep.stages.statistics import statistics
from sweep.stages.workspace import Workspace


@dataclass(frozen=True)
class ChannelImportance:
    """The layers that a metric read, and the scores of their channels.

    Attributes
    ----------
    scores : one tensor [C] per layer, float64, higher = keep.
    costs : the columns of a row that say how long statistics and scoring took.
    """

    wanted: Importance
    layers: list[LayerView]
    scores: list[Tensor]
    costs: Row

    def comparable(self, normalisation: str) -> list[Tensor]:
        """The scores, normalised so that layers can be compared."""
        return normalise(normalisation, self.wanted.choice, self.scores, self.layers)


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
