"""The results folder: one Parquet file a cell, written whole or not at all.

    FOLDER/format.json           the schema version that the folder belongs to
    FOLDER/cells/<key>.parquet   a cell's row
    FOLDER/cells/compacted-<hash>.parquet   many cells' rows, after `merge` or `compact`
    FOLDER/scores/<key>.parquet  the channels' scores that cells share, a row a channel
    FOLDER/plan.json             the cells of the last run, for `status`

What is in `cells/` is the truth about what has been run; nothing else is needed to go on.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
from pyarrow import fs

from results.storage.format_version import check_folder, write_version
from results.storage.locations import Entry, Folder, StoreError, Where, folder_of
from results.storage.parquet_files import KEY, SUFFIX, Damage, File, content_of, read_table
from results.storage.reading import (
    CELLS_FOLDER,
    IMPORTANCES_FOLDER,
    at_once,
    files_in,
    merged_cells,
    merged_importances,
    read_all,
    read_cells,
    read_importances,
)
from results.storage.schema import CELLS, IMPORTANCES, NESTED, SCHEMA_VERSION, SchemaError, table


class Store:
    """A results folder.

    Parameters
    ----------
    folder : a path or URI, see `results.storage.locations`; created by the first write, and
        reading an absent one raises StoreError.
    filesystem : whose path it is, for one that no URI names.
    """

    def __init__(self, folder: Where, filesystem: fs.FileSystem | None = None) -> None:
        self.folder = folder_of(folder, filesystem)

    @property
    def cells(self) -> Folder:
        """Where the files of the cells lie."""
        return self.folder / CELLS_FOLDER

    @property
    def importances(self) -> Folder:
        """Where the channels' scores lie."""
        return self.folder / IMPORTANCES_FOLDER

    def check(self) -> None:
        """Refuses a folder of a newer schema version, or a file where the folder should be.

        Raises
        ------
        StoreError, SchemaError
        """
        check_folder(self.folder)

    def create(self) -> None:
        """Makes the folder ready for writing, and proves that it is.

        A folder of an older schema version becomes one of this version: its rows stay as they
        are, and the columns that they lack are null.

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
        """Writes a cell's row, in place of an earlier one of the same key.

        Raises
        ------
        SchemaError
            If the row does not fit the schema.
        StoreError
            If the disk or the store refuses; an earlier file is then still whole.
        """
        self._write(self.cells, str(row.get("key")), table([row]))

    def write_importances(
        self, key: str, of: dict[str, object], scores: Sequence[list[float]]
    ) -> None:
        """Writes the scores of a network's channels, unless the same ones are there.

        Parameters
        ----------
        of : baseline_key, dataset, seed and metric.
        scores : for each layer the scores of its channels.

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
            If there is no such folder.
        SchemaError
            If a file has a newer schema version.
        """
        names = list(columns) if columns else [n for n in CELLS.names if n not in NESTED]
        self._check_readable()
        found = read_cells(partial(files_in, self.cells), names)
        return found.replace_schema_metadata(CELLS.metadata)

    def read_importances(self) -> pa.Table:
        """All rows of `scores`, ordered by scores_key, layer and channel; see `read`."""
        self._check_readable()
        return read_importances(partial(files_in, self.importances))

    def statuses(self) -> dict[str, str]:
        """The status of every cell that has a row, by key."""
        if not self.folder.exists():
            return {}
        found = self.read(["key", "status"]).to_pydict()
        return dict(zip(found["key"], found["status"], strict=True))

    def single(self) -> set[str]:
        """The keys of the cells that have a file of their own."""
        return {file.key for file in files_in(self.cells) if file.key is not None}

    def merge(self, keys: Collection[str]) -> None:
        """Merges the files of these single cells into one, as `compact` does.

        What others read or write meanwhile is left alone, but for the rows of these cells: nobody
        may be about to write one.

        Raises
        ------
        StoreError
            If the disk or the store refuses.
        """
        wanted = set(keys)
        self._merge_files(self.cells, CELLS, merged_cells, lambda file: file.key in wanted)

    def compact(self) -> int:
        """Merges the files of all cells into one, and those of all scores; returns the cells.

        The merged file is whole in the folder before the first other file goes, so whenever this
        ends, every row is there. Unreadable files stay where they are.

        Raises
        ------
        StoreError
            If the disk or the store refuses.
        """
        self._check_readable()
        self._merge_files(self.cells, CELLS, merged_cells)
        self._merge_files(self.importances, IMPORTANCES, merged_importances)
        return len(self.statuses())

    def _merge_files(
        self,
        folder: Folder,
        schema: pa.Schema,
        merged: Callable[[pa.Table], pa.Table],
        wanted: Callable[[File], bool] = lambda _: True,
    ) -> None:
        # Only what was read whole is merged, and only what was merged goes.
        found = read_all(lambda: filter(wanted, files_in(folder)), schema)
        whole = [(file, one) for file, one in found if isinstance(one, pa.Table)]
        if len(whole) > 1:
            name = f"compacted-{secrets.token_hex(8)}"
            self._write_file(folder, name, merged(pa.concat_tables([one for _, one in whole])))
            with ThreadPoolExecutor(at_once(folder)) as pool:
                list(pool.map(folder.delete, (file.entry.name for file, _ in whole)))

    def _check_readable(self) -> None:
        if not self.folder.exists():
            raise StoreError(f"there is no results folder {self.folder}")
        check_folder(self.folder)

    def _has_importances(self, key: str, content: pa.Table) -> bool:
        file = File(self.importances, Entry(f"{key}{SUFFIX}", 0))
        found = read_table(file, IMPORTANCES)
        return not isinstance(found, Damage) and found.equals(content)

    def _write(self, folder: Folder, key: str, content: pa.Table) -> None:
        if not KEY.fullmatch(key):
            raise SchemaError(f"{key!r} is no key: 16 hexadecimal digits are expected")
        self._write_file(folder, key, content)

    def _write_file(self, folder: Folder, name: str, content: pa.Table) -> None:
        try:
            folder.make()
            folder.write(f"{name}{SUFFIX}", content_of(content))
        except OSError as error:
            raise StoreError(
                f"{name} could not be written to {folder}: {error.strerror or error}"
            ) from error
