"""The results folder: one Parquet file per cell, written atomically.

    FOLDER/format.json           the folder's schema version
    FOLDER/cells/<key>.parquet   a cell's row
    FOLDER/cells/compacted-<random>.parquet   many cells' rows, after `merge` or `compact`
    FOLDER/cells/<key>-<random>.parquet   a cell's row, set aside while it is compared or merged
    FOLDER/scores/<key>.parquet  channel scores that cells share, one row per channel
    FOLDER/plan.json             the cells of the last run, for `status`

The files in `cells/` alone say which cells have been run; nothing else is needed to resume.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from results.storage.format_version import check_folder, write_version
from results.storage.lease import Lease
from results.storage.locations import Entry, Folder, StoreError, Where, folder_of
from results.storage.merging import merge_files
from results.storage.parquet_files import KEY, SUFFIX, File, content_of, read_table
from results.storage.reading import (
    IMPORTANCES_FOLDER,
    files_in,
    merged_cells,
    merged_importances,
    read_cells,
    read_importances,
)
from results.storage.schema import CELLS, IMPORTANCES, NESTED, SCHEMA_VERSION, SchemaError, table
from results.storage.wrong_folder import CELLS_FOLDER, check_results, has_results


class Store:
    """A results folder.

    Parameters
    ----------
    folder : a path or URI, see `results.storage.locations`. The first write creates it; reading
        from a folder that does not exist raises StoreError.
    filesystem : a pyarrow file system, for one that has no URI; the folder is then a path in it.
    """

    def __init__(self, folder: Where, filesystem: fs.FileSystem | None = None) -> None:
        self.folder = folder_of(folder, filesystem)

    @property
    def cells(self) -> Folder:
        """The folder with the files of the cells."""
        return self.folder / CELLS_FOLDER

    @property
    def importances(self) -> Folder:
        """The folder with the channels' scores."""
        return self.folder / IMPORTANCES_FOLDER

    def check(self) -> None:
        """Refuses a folder of a newer schema version, and a path that is a file.

        Raises
        ------
        StoreError, SchemaError
        """
        check_folder(self.folder)

    def create(self) -> None:
        """Creates the folder and checks that it can be written to.

        A folder of an older schema version is marked with the current version. Its rows stay as
        they are; columns that they lack are read as null.

        Raises
        ------
        StoreError
            If it cannot be written to.
        """
        version = check_folder(self.folder)
        try:
            self.cells.make()
            if version == SCHEMA_VERSION:
                probe = f".probe.{secrets.token_hex(4)}"
                self.cells.write(probe, b"")
                self.cells.delete(probe)
            else:
                write_version(self.folder)
        except OSError as error:
            raise StoreError(
                f"the results folder {self.folder} cannot be written to "
                f"({error.strerror or error}); name another with --out"
            ) from error

    def write(self, row: dict[str, object]) -> None:
        """Writes a cell's row; replaces an earlier row of the same key.

        Raises
        ------
        SchemaError
            If the row does not fit the schema.
        StoreError
            If the disk or the store refuses; an earlier file is then intact.
        """
        self._write(self.cells, str(row.get("key")), table([row]))

    def write_importances(
        self, key: str, of: dict[str, object], scores: Sequence[list[float]]
    ) -> None:
        """Writes the scores of a network's channels, unless the same scores are stored already.

        Parameters
        ----------
        of : baseline_key, dataset, seed and metric.
        scores : for each layer, the scores of its channels.

        Raises
        ------
        StoreError
            If the disk or the store refuses.
        """
        rows = [
            {"scores_key": key, **of, "layer": layer, "channel": channel, "score": score}
            for layer, channels in enumerate(scores)
            for channel, score in enumerate(channels)
        ]
        content = pa.Table.from_pylist(rows, schema=IMPORTANCES)
        if not self._has_importances(key, content):
            self._write(self.importances, key, content)

    def read(self, columns: Iterable[str] | None = None) -> pa.Table:
        """All rows of `cells`, ordered by key; an unreadable file is left out with a warning.

        Parameters
        ----------
        columns : which to read; all but the nested ones if not given.

        Raises
        ------
        StoreError
            If there is no such folder, or it holds no results.
        SchemaError
            If a file has a newer schema version.
        """
        names = list(columns) if columns else [n for n in CELLS.names if n not in NESTED]
        check_results(self.folder)
        found = read_cells(partial(files_in, self.cells), names)
        return found.replace_schema_metadata(CELLS.metadata)

    def read_importances(self) -> pa.Table:
        """All rows of `scores`, ordered by scores_key, layer and channel; see `read`."""
        check_results(self.folder)
        return read_importances(partial(files_in, self.importances))

    def statuses(self) -> dict[str, str]:
        """The status of every cell that has a row, by key."""
        if not has_results(self.folder):
            return {}
        found = self.read(["key", "status"]).to_pydict()
        return dict(zip(found["key"], found["status"], strict=True))

    def row(self, key: str, columns: Iterable[str]) -> dict[str, Any] | None:
        """These columns of a cell's row, or None; reads no files of other single cells."""
        found = read_cells(
            lambda: [file for file in files_in(self.cells) if file.key in (key, None)],
            list(dict.fromkeys(["key", *columns])),
        )
        rows = found.filter(pc.equal(found.column("key"), key)).to_pylist()
        return rows[0] if rows else None

    def single(self) -> set[str]:
        """The keys of the cells that have a file of their own."""
        return {file.key for file in files_in(self.cells) if file.key is not None}

    def merge(self, keys: Collection[str]) -> None:
        """Merges the files of these single cells into one, as `compact` does.

        Merged files that hold a row of one of these cells are merged too.

        For the run that holds the folder's lease. Other processes may read and write at the same
        time. If one writes a row of these cells, on a disk its row stays and counts; in an object
        store only if it is not written at the moment when the cell's file is deleted.

        Raises
        ------
        StoreError
            If the disk or the store refuses. No row is lost.
        """
        merge_files(self.cells, CELLS, merged_cells, self._write_file, keys=set(keys))

    def compact(self, waiting: Callable[[str], None] | None = None) -> int:
        """Merges the files of all cells into one, and those of all scores.

        Takes the folder's lease, so it first waits until no run works on the folder. The merged
        file is complete before the first other file is deleted, so an interruption loses no row.
        Unreadable files are kept.

        Parameters
        ----------
        waiting : called once, with the process that holds the folder, if it has to wait; without
            it, a warning names the process.

        Returns
        -------
        The number of cells.

        Raises
        ------
        StoreError
            If there is no such folder, the disk or the store refuses, or a run has taken over the
            folder because this process was suspended. No row is lost.
        """
        check_results(self.folder)
        with Lease(self.folder, waiting or self._warn_waiting) as lease:
            for folder, schema, newest in (
                (self.cells, CELLS, merged_cells),
                (self.importances, IMPORTANCES, merged_importances),
            ):
                merge_files(folder, schema, newest, self._write_file, may_go_on=lease.check)
            return len(self.statuses())

    def _warn_waiting(self, holder: str) -> None:
        warnings.warn(f"{self.folder} is used by {holder}; waiting until it ends", stacklevel=2)

    def _has_importances(self, key: str, content: pa.Table) -> bool:
        file = File(self.importances, Entry(f"{key}{SUFFIX}", 0))
        found = read_table(file, IMPORTANCES)
        return isinstance(found, pa.Table) and found.equals(content)

    def _write(self, folder: Folder, key: str, content: pa.Table) -> None:
        if not KEY.fullmatch(key):
            raise SchemaError(f"{key!r} is not a key: it must have 16 hexadecimal digits")
        self._write_file(folder, key, content)

    def _write_file(self, folder: Folder, name: str, content: pa.Table) -> None:
        try:
            folder.make()
            folder.write(f"{name}{SUFFIX}", content_of(content))
        except OSError as error:
            raise StoreError(
                f"{name} could not be written to {folder}: {error.strerror or error}"
            ) from error
