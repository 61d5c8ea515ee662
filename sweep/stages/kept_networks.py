"""The networks that a sweep keeps, FOLDER/networks/<cell key>, and which of them stay."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from prune_core.network import SimpleNet
from prune_core.network_files import save
from prune_core.preprocessing import Preprocessing
from results.storage.locations import Where, folder_of
from sweep.plan.cells import Cell
from sweep.stages.artifacts import Artifacts
from sweep.stages.rows import Row

FOLDER = "networks"
RECORD = "cell.json"


class KeptNetworks:
    """The kept networks of a results folder."""

    def __init__(self, folder: Where) -> None:
        self._files = Artifacts(folder)
        self._folder = folder_of(folder) / FOLDER

    def put(
        self,
        key: str,
        net: SimpleNet,
        preprocessing: Preprocessing,
        class_names: Sequence[str] | None,
        row: Row,
    ) -> None:
        """Stores a cell's network, in place of an earlier one of the same cell.

        Parameters
        ----------
        row : with the figures of the network, by which it is known to be the row's.

        Raises
        ------
        StoreError
            If the disk or the store refuses.
        """

        def fill(folder: Path) -> None:
            save(net.cpu(), preprocessing, folder, class_names)
            (folder / RECORD).write_text(json.dumps({"key": key, **figures_of(row)}, indent=1))

        self.remove(key)
        self._files.put_files(FOLDER, key, RECORD, fill)

    def open(self, key: str) -> AbstractContextManager[Path | None]:
        """A cell's network and record in a folder on this machine while open, or None."""
        return self._files.files(FOLDER, key, RECORD)

    def remove(self, key: str) -> None:
        """Removes a cell's network, if there is one."""
        self._files.remove_files(FOLDER, key, RECORD)

    def keys(self) -> set[str]:
        """The cells whose networks are there."""
        return set(self._folder.folders())


def figures_of(row: Mapping[str, object]) -> Row:
    """What a row says of the accuracy of its final network."""
    return {name: value for name, value in row.items() if name.startswith("finetuned_")}


class BestSeeds:
    """Removes networks that another seed's beats, or whose cell is not ok, as cells end.

    What stays depends on the rows alone, in whatever order they come and however often a run is
    interrupted: of all seeds that are ok, the one with the best validation accuracy, of equal
    ones the smallest. Cells that are to be run again count from their new end on. KeptNetworks of
    cells that the spec does not name are left alone.

    Parameters
    ----------
    cells : all cells of the spec.
    done : validation accuracies of those that are ok and not to be run again.
    missing : keys of those that are to be run.
    """

    def __init__(
        self,
        networks: KeptNetworks,
        cells: Iterable[Cell],
        done: Mapping[str, float],
        missing: Iterable[str],
    ) -> None:
        self.networks = networks
        self._there = networks.keys()
        self._ranks: dict[object, dict[str, tuple[float, int]]] = {}
        named = set()
        for cell in cells:
            named.add(cell.key)
            if cell.key in done:
                self._rank(cell, done[cell.key])
        best = {max(ranks, key=ranks.__getitem__) for ranks in self._ranks.values()}
        self._remove(named - set(missing) - best)

    def ended(self, cell: Cell, accuracy: float | None) -> None:
        """A cell ended, with a validation accuracy if it is ok; its network and row are there."""
        self._there.add(cell.key)
        if accuracy is None:
            self._remove({cell.key})
            return
        self._rank(cell, accuracy)
        ranks = self._ranks[cell.family]
        self._remove(ranks.keys() - {max(ranks, key=ranks.__getitem__)})

    def _rank(self, cell: Cell, accuracy: float) -> None:
        rank = (accuracy, -cell.baseline.seed)
        self._ranks.setdefault(cell.family, {})[cell.key] = rank

    def _remove(self, keys: set[str]) -> None:
        for key in sorted(keys & self._there):
            self.networks.remove(key)
            self._there.discard(key)
