"""Channel importance: what a spec can ask for under `metrics`."""

from prune_core.metrics import activations, information, weighted, weights
from prune_core.metrics.choice import Choice
from prune_core.metrics.plugins import load_plugins
from prune_core.metrics.registry import METRICS, Metric, MetricError, metric

__all__ = [
    "METRICS",
    "Choice",
    "Metric",
    "MetricError",
    "activations",
    "information",
    "metric",
    "weighted",
    "weights",
]

# Last, since what it imports reads the names above.
load_plugins()
