"""Merges many Parquet files of a folder into one, without losing a row that is written meanwhile.

The merged file is complete before the first file that it replaces is deleted. A file is deleted
only if it still has the content that was merged.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from results.storage.locations import Folder, StoreError
from results.storage.parquet_files import Content, File, aside, read_content, read_table
from results.storage.reading import at_once, files_in, newest_rows

Write = Callable[[Folder, str, pa.Table], None]
"""Writes rows to a folder under a name without suffix."""


def merge_files(
    folder: Folder,
    schema: pa.Schema,
    newest: Callable[[pa.Table], pa.Table],
    write: Write,
    keys: Collection[str] | None = None,
    may_go_on: Callable[[], None] = lambda: None,
) -> None:
    """Merges the files of a folder that can be read; does nothing if there are fewer than two.

    Parameters
    ----------
    newest : keeps one row of each key.
    keys : merges only the files of these single keys, and the merged files that hold one of them.
    may_go_on : called before the merged files are deleted; raises an error to keep them.

    Raises
    ------
    StoreError
        If the disk or the store refuses. No row is lost; a row may be in two files.
    """
    files = files_in(folder) if keys is None else _files_of(folder, schema, keys)
    with ThreadPoolExecutor(at_once(folder)) as pool:
        read = list(pool.map(lambda file: read_content(file, schema), files))
    whole = [
        (file, content)
        for file, content in zip(files, read, strict=True)
        if isinstance(content, Content)
    ]
    if len(whole) < 2:
        return
    rows = [rows for _, rows in newest_rows([(file, content.rows) for file, content in whole])]
    write(folder, f"compacted-{secrets.token_hex(8)}", newest(pa.concat_tables(rows)))
    may_go_on()
    try:
        _delete(folder, whole)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"merged files could not be removed from {folder} ({error.strerror or error}); no row "
            "is lost"
        ) from error


def _files_of(folder: Folder, schema: pa.Schema, keys: Collection[str]) -> list[File]:
    """The files of these single keys, and the merged files that hold one of them.

    So no key is in two merged files, of which the clocks alone would say which is newer.
    """
    files = files_in(folder)
    single = [file for file in files if file.key in keys]
    if not single:
        return []
    merged = [file for file in files if file.key is None]
    wanted = pa.array([file.key for file in single], pa.string())
    names = pa.schema([schema.field(0)], metadata=schema.metadata)

    def holds_one(file: File) -> bool:
        found = read_table(file, names)
        return isinstance(found, pa.Table) and pc.any(pc.is_in(found.column(0), wanted)).as_py()

    with ThreadPoolExecutor(at_once(folder)) as pool:
        held = list(pool.map(holds_one, merged))
    return [file for file, holds in zip(merged, held, strict=True) if holds] + single


def _delete(folder: Folder, merged: list[tuple[File, Content]]) -> None:
    """Deletes files that have not changed since they were merged."""

    def delete(one: tuple[File, Content]) -> None:
        file, content = one
        if file.key is None or file.set_aside:
            # Such a file is never written again.
            folder.delete(file.entry.name)
        else:
            folder.delete_if(file.entry.name, content.made, aside(file.key))

    several = [one for one in merged if one[0].key is None]
    set_aside = [one for one in merged if one[0].set_aside]
    others = [one for one in merged if one[0].key is not None and not one[0].set_aside]
    with ThreadPoolExecutor(at_once(folder)) as pool:
        # In the order in which they were written: if this is interrupted, what is left of a key's
        # files is the newest one, or nothing beside the merged file.
        for files in (several, set_aside, others):
            list(pool.map(delete, files))
