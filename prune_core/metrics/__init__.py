"""Channel importance: the metrics that a spec can name."""

from prune_core.metrics import (
    activations,
    consumers,
    feature_maps,
    gradients,
    information,
    invariant,
    surgeon,
    weighted,
    weights,
)
from prune_core.metrics.choice import Choice
from prune_core.metrics.registry import METRICS, Metric, MetricError, metric

__all__ = [
    "METRICS",
    "Choice",
    "Metric",
    "MetricError",
    "activations",
    "consumers",
    "feature_maps",
    "gradients",
    "information",
    "invariant",
    "metric",
    "surgeon",
    "weighted",
    "weights",
]
