"""The files of a person's own networks, kept in FOLDER/sources/<fingerprint>.

Workers do not read them: each task carries the texts. They are kept so that rows can be understood,
and networks exported, when the original files have changed. Nothing runs them unasked.
"""

from __future__ import annotations

from collections.abc import Iterable

from prune_core.networks import ModuleArchitecture
from prune_core.networks.own import OwnNetwork
from prune_core.networks.source import NetworkSource
from results.storage.folder import Folder
from sweep.plan.cells import Cell

FOLDER = "sources"


def keep_sources(folder: Folder, cells: Iterable[Cell]) -> None:
    """Writes the files of the own networks of cells into the results folder."""
    for source in {_source(cell) for cell in cells}:
        if source is None:
            continue
        write_files(folder / FOLDER / source.fingerprint, source)


def write_files(folder: Folder, source: NetworkSource) -> None:
    """Writes the files of an own network that are not there yet, in folders as they were."""
    for name, text in source.files:
        *parents, file = name.split("/")
        inside = folder
        for parent in parents:
            inside = inside / parent
        if not inside.has(file):
            inside.make()
            inside.write(file, text.encode())


def _source(cell: Cell) -> NetworkSource | None:
    architecture = cell.baseline.architecture
    if isinstance(architecture, ModuleArchitecture):
        builder = architecture.builder
        return builder.source if isinstance(builder, OwnNetwork) else None
    return None
