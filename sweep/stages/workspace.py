"""The folder for the results, baselines, statistics and networks of a sweep."""

from __future__ import annotations

from dataclasses import dataclass

from prune_core.plugins import Plugin
from results import Store
from results.storage.locations import Where, folder_of
from sweep.stages.artifacts import Artifacts


@dataclass(frozen=True)
class Workspace:
    """The results folder of a sweep, the sweep's name and its plug-ins.

    Attributes
    ----------
    folder : a path or URI of the same folder in every process and on every node; see
        `results.storage.locations`.
    keeps_networks : whether successful cells store their network.
    plugins : what they register is used by tasks. Where a workspace is unpickled they are loaded,
        so pickle it before the tasks.
    """

    folder: Where
    sweep: str
    keeps_networks: bool = False
    plugins: tuple[Plugin, ...] = ()

    @property
    def store(self) -> Store:
        """The results store in the folder."""
        return Store(self.folder)

    @property
    def artifacts(self) -> Artifacts:
        """The shared baselines and statistics."""
        return Artifacts(folder_of(self.folder) / "artifacts")
