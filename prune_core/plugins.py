"""Metrics, budget rules, image sources and networks of other packages.

An installed package names, in its `pyproject.toml`, the modules that register them:

    [project.entry-points."prune_sweep.metrics"]
    mine = "my_package.my_metrics"

    [project.entry-points."prune_sweep.budgets"]
    mine = "my_package.my_budgets"

    [project.entry-points."prune_sweep.images"]
    mine = "my_package.my_images"

    [project.entry-points."prune_sweep.networks"]
    mine = "my_package.my_networks"

The package is then known wherever it is installed, on every worker too, and a spec names what is
registered without containing code.
"""

from __future__ import annotations

import warnings
from importlib.metadata import entry_points

GROUPS = {
    "prune_sweep.metrics": "metrics",
    "prune_sweep.budgets": "budget rules",
    "prune_sweep.images": "image sources",
    "prune_sweep.networks": "networks",
}
"""The entry point groups, and what their modules register."""


class PluginWarning(UserWarning):
    """A package whose plugin could not be loaded; the message names it and says why."""


def load_plugins() -> None:
    """Imports the modules that installed packages name; one that fails is left out."""
    for group, what in GROUPS.items():
        for point in entry_points(group=group):
            try:
                point.load()
            except Exception as error:
                package = point.dist.name if point.dist else point.name
                warnings.warn(
                    f"the {what} of {package} ({point.value}) could not be loaded: "
                    f"{type(error).__name__}: {error}",
                    PluginWarning,
                    stacklevel=2,
                )
