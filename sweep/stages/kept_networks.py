"""The networks that a sweep keeps, in FOLDER/networks/<cell key>."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from torch import nn

from prune_core.network_files import save
from prune_core.preprocessing import Preprocessing
from results.storage.locations import Where, folder_of
from sweep.planning.cells import Cell
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
        net: nn.Module,
        preprocessing: Preprocessing,
        class_names: Sequence[str] | None,
        row: Row,
    ) -> None:
        """Stores a cell's network and replaces an earlier one of the same cell.

        Parameters
        ----------
        row : the cell's row. Its accuracies are stored with the network, so that `export` can
            check that network and row belong together.

        Raises
        ------
        StoreError
            If the files cannot be written.
        """

        def fill(folder: Path) -> None:
            save(net.cpu(), preprocessing, folder, class_names)
            (folder / RECORD).write_text(json.dumps({"key": key, **figures_of(row)}, indent=1))

        self.remove(key)
        self._files.put_files(FOLDER, key, RECORD, fill)

    def open(self, key: str) -> AbstractContextManager[Path | None]:
        """Opens a local folder with a cell's network and record; None if none is kept."""
        return self._files.files(FOLDER, key, RECORD)

    def remove(self, key: str) -> None:
        """Removes a cell's network, if there is one."""
        self._files.remove_files(FOLDER, key, RECORD)

    def keys(self) -> set[str]:
        """The keys of the cells whose networks are kept."""
        return set(self._folder.folders())


def figures_of(row: Mapping[str, object]) -> Row:
    """The accuracies and losses of the final network in a row."""
    return {name: value for name, value in row.items() if name.startswith("finetuned_")}


class BestSeeds:
    """Keeps the network of the best seed only, and removes the others as cells end.

    The best seed is the one with the highest validation accuracy among the cells that are ok. If
    two are equal, it is the smaller seed. The result depends only on the rows, not on their order
    or on interruptions. A cell that runs again counts only after its new run has ended. Networks
    of cells that are not in the spec are left alone.

    Parameters
    ----------
    cells : all cells of the spec.
    done : validation accuracies of the cells that are ok and do not run again, by key.
    missing : keys of the cells that will run.
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
        """Call when a cell has ended and its network and row are stored.

        Parameters
        ----------
        accuracy : its validation accuracy, or None if the cell is not ok.
        """
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
