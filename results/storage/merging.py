"""Merges many Parquet files of a folder into one, without losing a row that is written meanwhile.

The merged file is complete before the first file that it replaces is deleted. A file is deleted
only if it still has the content that was merged.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from results.storage.locations import Folder, StoreError
from results.storage.parquet_files import SUFFIX, Content, File, read_content
from results.storage.reading import at_once, files_in

Write = Callable[[Folder, str, pa.Table], None]
"""Writes rows to a folder under a name without suffix."""


def merge_files(
    folder: Folder,
    schema: pa.Schema,
    newest: Callable[[pa.Table], pa.Table],
    write: Write,
    wanted: Callable[[File], bool] = lambda _: True,
    may_go_on: Callable[[], None] = lambda: None,
) -> None:
    """Merges the files of a folder that can be read; does nothing if there are fewer than two.

    Parameters
    ----------
    newest : keeps one row of each key.
    wanted : which files to merge.
    may_go_on : called before the merged files are deleted; raises an error to keep them.

    Raises
    ------
    StoreError
        If the disk or the store refuses. No row is lost; a row may be in two files.
    """
    files = [file for file in files_in(folder) if wanted(file)]
    with ThreadPoolExecutor(at_once(folder)) as pool:
        read = list(pool.map(lambda file: read_content(file, schema), files))
    whole = [
        (file, content)
        for file, content in zip(files, read, strict=True)
        if isinstance(content, Content)
    ]
    if len(whole) < 2:
        return
    rows = newest(pa.concat_tables([content.rows for _, content in whole]))
    name = _new_name()
    write(folder, name, rows)
    may_go_on()
    try:
        rewritten = _delete(folder, whole)
        if rewritten:
            # The row of a cell that was run again is newer, even if its machine's clock is behind.
            current = rows.filter(pc.invert(pc.is_in(rows.column(0), pa.array(rewritten))))
            if len(current):
                write(folder, _new_name(), current)
            folder.delete(f"{name}{SUFFIX}")
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"merged files could not be removed from {folder} ({error.strerror or error}); no row "
            "is lost"
        ) from error


def _delete(folder: Folder, merged: Sequence[tuple[File, Content]]) -> list[str]:
    """Deletes files that have not changed since; returns the keys of those that have."""
    single = [(file.key, file, content) for file, content in merged if file.key is not None]

    def changed(one: tuple[str, File, Content]) -> bool:
        _, file, content = one
        return not folder.delete_if(file.entry.name, content.made, f"{_new_name()}{SUFFIX}")

    with ThreadPoolExecutor(at_once(folder)) as pool:
        # Earlier merged files are never written again. Delete them first: if this is interrupted,
        # their outdated rows are gone, or the newer rows are still in files of their own.
        list(pool.map(folder.delete, (file.entry.name for file, _ in merged if file.key is None)))
        kept = list(pool.map(changed, single))
    return [key for (key, _, _), is_kept in zip(single, kept, strict=True) if is_kept]


def _new_name() -> str:
    return f"compacted-{secrets.token_hex(8)}"
