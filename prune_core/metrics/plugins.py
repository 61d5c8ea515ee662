"""Metrics of other packages: an installed one names the module that registers them.

In its `pyproject.toml`:

    [project.entry-points."prune_sweep.metrics"]
    mine = "my_package.my_metrics"

So they are known wherever the package is installed, on every worker too, and a spec can name
them without being able to run code.
"""

from __future__ import annotations

import warnings
from importlib.metadata import entry_points

GROUP = "prune_sweep.metrics"


class MetricPluginWarning(UserWarning):
    """A package whose metrics could not be loaded; the message names it and says why."""


def load_plugins() -> None:
    """Imports the modules that installed packages name; one that fails is left out."""
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            package = point.dist.name if point.dist else point.name
            warnings.warn(
                f"the metrics of {package} ({point.value}) could not be loaded: "
                f"{type(error).__name__}: {error}",
                MetricPluginWarning,
                stacklevel=2,
            )
