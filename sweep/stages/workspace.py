"""Where a sweep keeps its results, baselines, statistics and networks."""

from __future__ import annotations

from dataclasses import dataclass

from results import Store
from results.storage.locations import Where, folder_of
from sweep.stages.artifacts import Artifacts


@dataclass(frozen=True)
class Workspace:
    """The results folder of a sweep, and the sweep's name.

    Attributes
    ----------
    folder : means the same folder in every process and on every node; see
        `results.storage.locations`.
    keeps_networks : whether cells that end well store their network.
    """

    folder: Where
    sweep: str
    keeps_networks: bool = False

    @property
    def store(self) -> Store:
        """The results."""
        return Store(self.folder)

    @property
    def artifacts(self) -> Artifacts:
        """The shared baselines and statistics."""
        return Artifacts(folder_of(self.folder) / "artifacts")
