"""What a sweep computes of a baseline's channels: statistics, and the scores of a metric."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prune_core.layer import Combine
from prune_core.metrics import Choice
from prune_core.networks import Architecture
from prune_core.statistics import STATISTICS_VERSION, Request
from sweep.planning.baselines import Baseline
from sweep.planning.keys import key_of


@dataclass(frozen=True)
class Statistics:
    """Channel statistics of a baseline over its first training images; its cells share them."""

    baseline: Baseline
    images: int
    requests: frozenset[Request]

    def key(self, request: Request) -> str:
        """The key of one request's answer, so that a later sweep collects only new requests."""
        return key_of(
            {
                "stage": "statistics",
                "version": STATISTICS_VERSION,
                "baseline": self.baseline.key,
                "images": self.images,
                "request": repr(request),
                **_origin(request),
                **groups_identity(self.baseline.architecture),
            }
        )


@dataclass(frozen=True)
class Importance:
    """A metric's scores of a baseline's channels; cells share them."""

    baseline: Baseline
    choice: Choice
    images: int
    combine: Combine = "mean"

    @cached_property
    def statistics(self) -> Statistics | None:
        """The channel statistics that the metric needs, if any."""
        needs = self.choice.needs()
        return Statistics(self.baseline, self.images, needs) if needs else None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that changes the scores, beside the baseline."""
        found = self.statistics
        return {
            "metric": self.choice.identity(),
            "statistics": {
                "version": STATISTICS_VERSION,
                "images": found.images,
                "requests": sorted(repr(request) for request in found.requests),
            }
            if found
            else None,
            **groups_identity(self.baseline.architecture, self.combine),
        }

    @cached_property
    def key(self) -> str:
        """See `sweep.planning.keys`."""
        return key_of({"stage": "scores", "baseline": self.baseline.key, **self.identity})


def _origin(request: Request) -> dict[str, Any]:
    """What tells apart statistics of other people with the same text; empty for this package.

    The name of a plug-in's module contains the fingerprint of its files. An installed package
    raises the class attribute `version` when its numbers change.
    """
    module = type(request).__module__
    if module.split(".")[0] == "prune_core":
        return {}
    return {"module": module, "version": getattr(request, "version", 1)}


def groups_identity(architecture: Architecture, combine: Combine | None = None) -> dict[str, Any]:
    """What says which channels form a group, and how their scores are combined.

    Empty for a chain of layers, so that the keys of cells of SimpleNet do not change.
    """
    found = architecture.groups_identity
    if found is None:
        return {}
    return {"groups": {**found, "combine": combine} if combine else found}
