"""Many files as one table: found in folders or named, read side by side, each row once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from results.storage.filters import Filter
from results.storage.format_version import check_folder
from results.storage.locations import DiskFolder, Folder, StoreError, Where, file_of, folder_of
from results.storage.parquet_files import SUFFIX, Damage, DamagedFileWarning, File, read_table
from results.storage.schema import CELLS, IMPORTANCES

CELLS_FOLDER = "cells"
IMPORTANCES_FOLDER = "scores"
# Each request to an object store waits some 20 ms for its answer, and needs no processor.
_REQUESTS_AT_ONCE = 32
_ATTEMPTS = 5

Source = Where | Sequence[Where]
"""A results folder, a Parquet file of one, or several of these."""


@dataclass
class Sources:
    """The files that hold cells, and those that hold scores; in the order they were named."""

    cells: list[File] = field(default_factory=list)
    scores: list[File] = field(default_factory=list)


def sources_of(source: Source, filesystem: fs.FileSystem | None = None) -> Sources:
    """The files behind what a person named.

    Raises
    ------
    StoreError
        If something does not exist or is no file of ours.
    """
    found = Sources()
    for where in [source] if isinstance(source, str | Path | Folder) else source:
        if (file := file_of(where, filesystem)) is not None:
            _add(found, File(*file, named=True))
            continue
        folder = folder_of(where, filesystem)
        if not folder.exists():
            raise StoreError(f"there is no results folder {folder}")
        check_folder(folder)
        found.cells += files_in(folder / CELLS_FOLDER)
        found.scores += files_in(folder / IMPORTANCES_FOLDER)
    return found


def files_in(folder: Folder) -> list[File]:
    """The Parquet files of a folder."""
    return [File(folder, entry) for entry in folder.entries() if entry.name.endswith(SUFFIX)]


def _add(found: Sources, file: File) -> None:
    """A file that was named, and the scores that lie beside it in a results folder."""
    try:
        with file.folder.open(file.entry.name) as source:
            names = pq.read_schema(source).names
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{file} cannot be read as Parquet: {error}") from error
    if CELLS.names[0] in names:
        found.cells.append(file)
        if (beside := file.folder.parent) is not None and file.folder.name == CELLS_FOLDER:
            found.scores += files_in(beside / IMPORTANCES_FOLDER)
    elif IMPORTANCES.names[0] in names:
        found.scores.append(file)
    else:
        raise StoreError(f"{file} is no table of prune-sweep: it has no column {CELLS.names[0]}")


def read_cells(
    find: Callable[[], Iterable[File]], names: list[str], chosen: Filter | None = None
) -> pa.Table:
    """Rows of `cells`, each key once: of several rows the one that finished last.

    Parameters
    ----------
    find : lists the files; called again if one goes while they are read, as in compaction.
    names : the columns.

    Raises
    ------
    StoreError, SchemaError
        See `results.load`.
    """
    # A cell has two rows for as long as its file and a compacted one that holds it are there, if
    # it was run again since, or if it lies in two folders.
    needed = ["key", *names, "finished_at"]
    if chosen is None:
        return merged_cells(_read(find, CELLS, needed)).select(names)
    # Of a cell's two rows one may fulfil the condition that does not count. So the condition can
    # pass by rows unread where no key is there twice, and nowhere else.
    if _distinct(_keys(find)):
        return _read(find, CELLS, names, chosen)
    found = merged_cells(_read(find, CELLS, [*needed, *chosen.columns]))
    return chosen.of(found).select(names)


def read_importances(find: Callable[[], Iterable[File]], chosen: Filter | None = None) -> pa.Table:
    """Rows of `scores`, each layer and channel of a key once, in this order."""
    return merged_importances(_read(find, IMPORTANCES, IMPORTANCES.names, chosen))


def merged_importances(rows: pa.Table) -> pa.Table:
    """Each channel of a key once, ordered by key, layer and channel."""
    names = ["scores_key", "layer", "channel"]
    ordered = rows.sort_by([(name, "ascending") for name in names])
    return ordered.filter(_last_of_each(ordered.select(names)))


def _read(
    find: Callable[[], Iterable[File]],
    full: pa.Schema,
    names: Iterable[str],
    chosen: Filter | None = None,
) -> pa.Table:
    kept = list(dict.fromkeys([full.names[0], *names, *(chosen.columns if chosen else ())]))
    schema = pa.schema([full.field(name) for name in kept], metadata=full.metadata)
    tables = [schema.empty_table()]
    for _, found in read_all(find, schema, chosen):
        if isinstance(found, Damage):
            if found.file.named:
                raise StoreError(f"{found.file} cannot be read: {found.reason}")
            warnings.warn(str(found), DamagedFileWarning, stacklevel=2)
        else:
            tables.append(found)
    # Thousands of files leave thousands of chunks, which every later step would go through.
    return pa.concat_tables(tables).combine_chunks()


def read_all(
    find: Callable[[], Iterable[File]], schema: pa.Schema, chosen: Filter | None = None
) -> list[tuple[File, pa.Table | Damage]]:
    """Every file with its table, or with what is wrong with it, in the order of the files.

    Files that are merged meanwhile are looked for again in what they were merged into.
    """
    files = list(find())
    for _ in range(_ATTEMPTS):
        with ThreadPoolExecutor(at_once(*(file.folder for file in files))) as pool:
            found = list(pool.map(lambda file: read_table(file, schema, chosen), files))
        again = list(find())
        if _merged(again) <= _merged(files):
            break
        files = again
    return list(zip(files, found, strict=True))


def at_once(*folders: Folder) -> int:
    """How many requests to folders to have under way."""
    on_disks = all(isinstance(folder, DiskFolder) for folder in folders)
    return (os.cpu_count() or 1) if on_disks else _REQUESTS_AT_ONCE


def _merged(files: Iterable[File]) -> set[str]:
    return {str(file) for file in files if file.key is None}


def _keys(find: Callable[[], Iterable[File]]) -> pa.Array:
    """The keys of all rows; of a file that holds one, its name tells."""
    files = list(find())
    single = pa.array([file.key for file in files if file.key is not None], pa.string())
    schema = pa.schema([CELLS.field("key")])
    others = read_all(lambda: [file for file in files if file.key is None], schema)
    columns = [one.column("key") for _, one in others if isinstance(one, pa.Table)]
    return pa.chunked_array([single, *(chunk for column in columns for chunk in column.chunks)])


def _distinct(keys: pa.ChunkedArray) -> bool:
    return pc.count_distinct(keys, mode="all").as_py() == len(keys)


def merged_cells(rows: pa.Table) -> pa.Table:
    """Each key once, ordered by key; of rows that finished together, that of the later source."""
    order = pc.sort_indices(rows, [("key", "ascending"), ("finished_at", "ascending")])
    keys = pa.table({"key": rows.column("key").take(order)})
    return rows.take(order.filter(_last_of_each(keys)))


def _last_of_each(rows: pa.Table) -> pa.Array:
    """Which rows are the last of a run of equal ones."""
    if len(rows) == 0:
        return pa.array([], pa.bool_())
    differs = None
    for column in rows.columns:
        values = column.combine_chunks()
        unlike = pc.not_equal(values[:-1], values[1:])
        differs = unlike if differs is None else pc.or_(differs, unlike)
    return pa.concat_arrays([differs, pa.array([True])])
