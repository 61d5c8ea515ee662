"""The stage that collects channel statistics of a baseline."""

from __future__ import annotations

from prune_core.precision import best_device
from prune_core.statistics import Answer, Request, collect
from sweep.plan.cells import Statistics
from sweep.stages.artifacts import TrainedBaseline
from sweep.stages.data import split_of
from sweep.stages.workspace import Workspace


def statistics(
    workspace: Workspace, wanted: Statistics, trained: TrainedBaseline
) -> list[dict[Request, Answer]]:
    """The channel statistics of a baseline; collects those that are not stored yet.

    Parameters
    ----------
    trained : the stored baseline that `wanted` names.

    Returns
    -------
    One mapping from request to answer per layer.
    """
    artifacts = workspace.artifacts
    found = {
        request: artifacts.statistic(wanted.key(request), trained.checksum)
        for request in wanted.requests
    }
    missing = [request for request, answers in found.items() if answers is None]
    if missing:
        collected = collect(
            trained.net.to(best_device()),
            split_of(wanted.baseline.dataset).train.first(wanted.images),
            trained.preprocessing,
            sorted(missing, key=repr),
        )
        for request in missing:
            answers = [layer[request] for layer in collected]
            artifacts.put_statistic(wanted.key(request), trained.checksum, answers)
            found[request] = answers
    layers = len(wanted.baseline.architecture.widths)
    return [
        {request: answers[layer] for request, answers in found.items() if answers is not None}
        for layer in range(layers)
    ]
