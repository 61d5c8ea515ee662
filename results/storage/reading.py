"""Reads many files in parallel as one table in which every row appears once."""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from results.storage.filters import Filter
from results.storage.locations import (
    DiskFolder,
    Entry,
    Folder,
    StoreError,
    Where,
    file_of,
    folder_of,
)
from results.storage.parquet_files import SUFFIX, Damage, DamagedFileWarning, File, read_table
from results.storage.schema import CELLS, IMPORTANCES
from results.storage.wrong_folder import CELLS_FOLDER, check_results

IMPORTANCES_FOLDER = "scores"
# A request to an object store waits about 20 ms and needs almost no CPU, so run many at once.
_REQUESTS_AT_ONCE = 32
# A file that is listed so often but never found is a link to nothing, not a merged file.
_ATTEMPTS = 5

Source = Where | Sequence[Where]
"""A results folder, a Parquet file of one, or several of these."""
Pair = tuple[File, pa.Table | Damage]
"""A file and what was read from it."""


@dataclass
class Sources:
    """The files that hold cells, and those that hold scores, in the order that they were named."""

    cells: list[File] = field(default_factory=list)
    scores: list[File] = field(default_factory=list)


def sources_of(source: Source, filesystem: fs.FileSystem | None = None) -> Sources:
    """The files in the folders, and the single files, that the user named.

    Raises
    ------
    StoreError
        If a folder or file does not exist, or is not one of prune-sweep.
    """
    found = Sources()
    for where in [source] if isinstance(source, str | os.PathLike | Folder) else source:
        if (file := file_of(where, filesystem)) is not None:
            _add(found, File(*file, named=True))
            continue
        folder = folder_of(where, filesystem)
        check_results(folder)
        found.cells += files_in(folder / CELLS_FOLDER)
        found.scores += files_in(folder / IMPORTANCES_FOLDER)
    return found


def files_in(folder: Folder) -> list[File]:
    """The Parquet files of a folder, in the order in which the rows of a key were written.

    These are the merged files, files of single keys that a merge has set aside, and the others.
    """
    files = [File(folder, entry) for entry in folder.entries() if entry.name.endswith(SUFFIX)]
    return sorted(files, key=lambda file: (file.key is not None, not file.set_aside))


def _add(found: Sources, file: File) -> None:
    """Adds a named file and, if it is in a results folder, the scores of that folder."""
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
        raise StoreError(f"{file} is not a prune-sweep table: it has no column {CELLS.names[0]}")


def read_cells(
    find: Callable[[], Iterable[File]], names: list[str], chosen: Filter | None = None
) -> pa.Table:
    """Rows of `cells`, one per key: if a key has several rows, the newest.

    In a folder, the row in a file of its own is newer than that in a merged file. Of rows in
    several folders, the newest is the one that finished last.

    Parameters
    ----------
    find : lists the files; called again if a compaction deletes some while they are read.
    names : the columns to read.

    Raises
    ------
    StoreError, SchemaError
        See `results.load`.
    """
    # A cell has two rows if it is in two folders, if it was run again after a compaction, or
    # during a compaction, until its own file is deleted.
    needed = ["key", *names, "finished_at"]
    if chosen is None:
        return merged_cells(_read(find, CELLS, needed)).select(names)
    # If a cell has two rows, the outdated one may fulfil the condition. So filter while reading
    # only if no key is in two of the files that are read; otherwise merge first and then filter.
    if apart := _files_apart(find):
        schema = _schema(CELLS, [*names, *chosen.columns])
        pairs = read_all(find, schema, chosen)
        if {str(file) for file, _ in pairs} <= apart:
            return _joined(schema, pairs).select(names)
    found = merged_cells(_read(find, CELLS, [*needed, *chosen.columns]))
    return chosen.of(found).select(names)


def read_importances(find: Callable[[], Iterable[File]], chosen: Filter | None = None) -> pa.Table:
    """Rows of `scores`, one per key, layer and channel, in this order."""
    # If a channel has two rows, they differ only in the score. So a condition on the score may
    # hold for the outdated one, and is applied after that one has been left out.
    if chosen is not None and "score" in chosen.columns:
        return chosen.of(merged_importances(_read(find, IMPORTANCES, IMPORTANCES.names)))
    return merged_importances(_read(find, IMPORTANCES, IMPORTANCES.names, chosen))


def merged_importances(rows: pa.Table) -> pa.Table:
    """One row per key, layer and channel, in this order; of several, that of the last file."""
    names = ["scores_key", "layer", "channel"]
    ordered = rows.sort_by([(name, "ascending") for name in names])
    return ordered.filter(_last_of_each(ordered.select(names)))


def _read(
    find: Callable[[], Iterable[File]],
    full: pa.Schema,
    names: Iterable[str],
    chosen: Filter | None = None,
) -> pa.Table:
    schema = _schema(full, [*names, *(chosen.columns if chosen else ())])
    return _joined(schema, read_all(find, schema, chosen))


def _schema(full: pa.Schema, names: Iterable[str]) -> pa.Schema:
    """The key, which is the first column of the full schema, and these columns."""
    kept = dict.fromkeys([full.names[0], *names])
    return pa.schema([full.field(name) for name in kept], metadata=full.metadata)


def _joined(schema: pa.Schema, pairs: Sequence[Pair]) -> pa.Table:
    """The rows of all files without those of `newest_rows`; warns of the damaged files.

    Raises
    ------
    StoreError
        If the user named a file that is damaged.
    """
    tables = [pa.Table.from_batches([], schema)]
    for _, found in pairs:
        if isinstance(found, Damage):
            if found.file.named:
                raise StoreError(f"{found.file} cannot be read: {found.reason}")
            warnings.warn(str(found), DamagedFileWarning, stacklevel=2)
    tables += [rows for _, rows in newest_rows(pairs)]
    # Thousands of files give thousands of chunks, which would slow down every later step.
    return pa.concat_tables(tables).combine_chunks()


def newest_rows(pairs: Sequence[Pair]) -> list[tuple[File, pa.Table]]:
    """The rows of the files that are not damaged, without rows that a single cell's file replaces.

    It replaces those of the same key in the merged files of its folder, because it was written
    after them. The times in the rows may say otherwise: each comes from the clock of its machine.
    """
    read = [(file, found) for file, found in pairs if isinstance(found, pa.Table)]
    single: defaultdict[str, set[str]] = defaultdict(set)
    names = set()
    for file, _ in read:
        if file.key is not None:
            single[file.folder.address].add(file.key)
            names.add((file.folder.address, file.stem))
    newest = []
    for file, rows in read:
        where = file.folder.address
        if file.key is None and where in single:
            replaced = pc.is_in(rows.column(0), pa.array(list(single[where]), pa.string()))
            newest.append((file, rows.filter(pc.invert(replaced))))
        elif not (file.set_aside and (where, file.key) in names):
            newest.append((file, rows))
    return newest


def read_all(
    find: Callable[[], Iterable[File]], schema: pa.Schema, chosen: Filter | None = None
) -> list[Pair]:
    """Every file with its table or its damage, in the order of the files.

    A merge writes the merged file before it deletes the files that it merged. If a listed file no
    longer exists, all files are therefore listed again, and those that are new are read too, until
    every file of a listing has been read. So no row is left out, and a deleted file is not damaged.
    """
    found: dict[Entry, pa.Table | Damage] = {}
    absences: Counter[str] = Counter()
    while True:
        files = list(find())
        new = [file for file in files if _entry(file) not in found]
        with ThreadPoolExecutor(at_once(*(file.folder for file in new))) as pool:
            read = list(pool.map(lambda file: read_table(file, schema, chosen), new))
        for file, one in zip(new, read, strict=True):
            absences[str(file)] += one is None
            if one is not None:
                found[_entry(file)] = one
            elif absences[str(file)] == _ATTEMPTS:
                found[_entry(file)] = Damage(file, "it is listed but does not exist")
        if all(_entry(file) in found for file in files):
            return [(file, found[_entry(file)]) for file in files]


def _entry(file: File) -> Entry:
    return Entry(str(file), file.entry.size)


def at_once(*folders: Folder) -> int:
    """How many requests to these folders to run in parallel."""
    on_disks = all(isinstance(folder, DiskFolder) for folder in folders)
    return (os.cpu_count() or 1) if on_disks else _REQUESTS_AT_ONCE


def _files_apart(find: Callable[[], Iterable[File]]) -> set[str]:
    """The names of all files of cells if no key has two rows in them; otherwise none.

    A file of a single cell is not read: its name is the key.
    """
    files: list[File] = []

    def merged() -> list[File]:
        files[:] = find()
        return [file for file in files if file.key is None]

    pairs = read_all(merged, pa.schema([CELLS.field("key")]))
    keys = [pa.array([file.key for file in files if file.key is not None], pa.string())]
    for _, found in pairs:
        if isinstance(found, pa.Table):
            keys += found.column("key").chunks
    joined = pa.chunked_array(keys, pa.string())
    distinct = pc.count_distinct(joined, mode="all").as_py() == len(joined)
    return {str(file) for file in files} if distinct else set()


def merged_cells(rows: pa.Table) -> pa.Table:
    """One row per key, ordered by key: the one that finished last, or of the later source.

    Call `newest_rows` first: within a folder, it decides before the times do.
    """
    order = pc.sort_indices(rows, [("key", "ascending"), ("finished_at", "ascending")])
    return rows.take(order.filter(_last_of_each(rows.select(["key"]).take(order))))


def _last_of_each(rows: pa.Table) -> pa.Array:
    """A mask of the rows that are the last of a run of equal rows."""
    if len(rows) == 0:
        return pa.nulls(0, pa.bool_())
    differs = None
    for column in rows.columns:
        values = column.combine_chunks()
        unlike = pc.not_equal(values[:-1], values[1:])
        differs = unlike if differs is None else pc.or_(differs, unlike)
    # True, without a conversion from Python: pyarrow imports pandas for it, which takes a second.
    last = pa.nulls(1).is_null()
    return pa.concat_arrays([differs, last])
