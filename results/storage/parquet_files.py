"""Single Parquet files: writing them with a checksum, and detecting damage on reading."""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from results.storage.earlier_versions import DERIVED, check_version, columns_of
from results.storage.filters import Filter
from results.storage.locations import Entry, Folder, StoreError
from results.storage.schema import VERSION_KEY, SchemaError

KEY = re.compile(r"[0-9a-f]{16}")
COMPACTED = re.compile(r"compacted-[0-9a-f]{16}")
_SINGLE = re.compile(r"([0-9a-f]{16})(-[0-9a-f]{8})?")
SUFFIX = ".parquet"
ROWS_OF_A_GROUP = 20_000
MANY = 1_000
"""So many files of single cells take seconds to read."""
_READ_WHOLE_BYTES = 512 * 1024
_SEAL = b"prune-sweep crc32:"
_CHECKSUM_BYTES = 4
_Found = TypeVar("_Found")


class DamagedFileWarning(UserWarning):
    """A file in the results folder is not a readable prune-sweep table and was left out."""


@dataclass(frozen=True)
class File:
    """A Parquet file in a folder.

    Attributes
    ----------
    named : whether the user named this file; it may then have any name.
    """

    folder: Folder
    entry: Entry
    named: bool = False

    @property
    def stem(self) -> str:
        """The name without `.parquet`: a key, if the file holds a single cell."""
        return self.entry.name.removesuffix(SUFFIX)

    @property
    def key(self) -> str | None:
        """The key of its only cell or scores; None if the file may hold several."""
        found = _SINGLE.fullmatch(self.stem)
        return found[1] if found else None

    @property
    def set_aside(self) -> bool:
        """Whether a merge renamed this file of a single key; see `Folder.delete_if`."""
        return self.key not in (None, self.stem)

    def __str__(self) -> str:
        return str(self.folder / self.entry.name)


@dataclass(frozen=True)
class Content:
    """The rows of a file, and the hash of the bytes that they were read from."""

    rows: pa.Table
    digest: bytes

    def made(self, content: bytes) -> bool:
        """Whether these are the bytes that the rows were read from."""
        return _digest(content) == self.digest


@dataclass(frozen=True)
class Damage:
    """Why a file cannot be read."""

    file: File
    reason: str

    def __str__(self) -> str:
        return f"{self.file} is damaged and counts as absent ({self.reason})"


def aside(key: str) -> str:
    """A new name for the file of a single key, under which readers still know its key."""
    return f"{key}-{secrets.token_hex(4)}{SUFFIX}"


def content_of(rows: pa.Table) -> bytes:
    """A table as a Parquet file, with a checksum of the whole file."""
    sink = pa.BufferOutputStream()
    # A flipped bit must make the file unreadable; it must never change a value.
    options: dict[str, Any] = {"write_page_checksum": True}
    if len(rows) == 1:
        # Field metadata, compression, dictionaries and statistics make a file of one row four times
        # slower to read and write.
        rows = rows.cast(
            pa.schema([field.remove_metadata() for field in rows.schema], rows.schema.metadata)
        )
        options |= {"compression": "none", "use_dictionary": False, "write_statistics": False}
    else:
        options |= {"compression": "zstd", "row_group_size": ROWS_OF_A_GROUP}
    pq.write_table(rows, sink, **options)
    return _sealed(sink.getvalue().to_pybytes())


def _sealed(content: bytes) -> bytes:
    """Adds a checksum of the file before the footer, in a place that Parquet readers ignore.

    Parquet's page checksums do not cover the page headers and the footer. A flipped bit there can
    change the type of a column, or exchange two columns.
    """
    at = _footer_of(content)
    return b"".join([content[:at], _SEAL, _checksum(content), content[at:]])


def _check_seal(content: bytes) -> None:
    """Raises ArrowInvalid if the checksum does not match; files of older versions have none."""
    at = _footer_of(content)
    start = at - len(_SEAL) - _CHECKSUM_BYTES
    if start < 0 or content[start : start + len(_SEAL)] != _SEAL:
        return
    if _checksum(content[:start] + content[at:]) != content[at - _CHECKSUM_BYTES : at]:
        raise pa.ArrowInvalid("its checksum does not match")


def _footer_of(content: bytes) -> int:
    """The position of the footer, from the end of the file; negative if the file is damaged."""
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little")


def read_table(
    file: File, schema: pa.Schema, chosen: Filter | None = None
) -> pa.Table | Damage | None:
    """A file's columns, for all rows or the chosen ones; columns that it lacks are null.

    Returns
    -------
    A table of this schema, the damage of the file, or None if the file does not exist.

    Raises
    ------
    SchemaError
        If the file has a newer schema version.
    StoreError
        If an object store does not answer.
    """
    parse = partial(_parse, file, schema, chosen)

    def rows() -> pa.Table:
        if file.entry.size > _READ_WHOLE_BYTES:
            try:
                with file.folder.open(file.entry.name) as source:
                    return parse(source)
            except OSError:
                # The Parquet reader raises OSError for a failed store and for damage. Reading the
                # whole file in one request tells them apart.
                pass
        content = file.folder.read(file.entry.name)
        _check_seal(content)
        return parse(pa.BufferReader(content))

    return _unless_damaged(file, rows)


def read_content(file: File, schema: pa.Schema) -> Content | Damage | None:
    """As `read_table`, but reads the whole file at once, checks its checksum and hashes it."""

    def content() -> Content:
        found = file.folder.read(file.entry.name)
        _check_seal(found)
        return Content(_parse(file, schema, None, pa.BufferReader(found)), _digest(found))

    return _unless_damaged(file, content)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _unless_damaged(file: File, read: Callable[[], _Found]) -> _Found | Damage | None:
    try:
        return read()
    except FileNotFoundError:
        return None
    except (SchemaError, StoreError):
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError) as error:
        return Damage(file, " ".join(str(error).split())[:200])


def _parse(file: File, schema: pa.Schema, chosen: Filter | None, source: pa.NativeFile) -> pa.Table:
    with pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=True) as parquet:
        written = parquet.schema_arrow
        _check(file, written, schema)
        there = set(written.names)
        present = _needed(schema, there)
        if chosen is not None and chosen.columns and parquet.num_row_groups > 1:
            # Read the columns of the condition first, then the others of row groups with a match.
            few = pa.schema([schema.field(name) for name in chosen.columns])
            looked = _needed(few, there)
            groups = [
                group
                for group in range(parquet.num_row_groups)
                if len(chosen.of(_shaped(parquet.read_row_group(group, looked), few)))
            ]
            found = parquet.read_row_groups(groups, present, use_threads=False)
        else:
            found = parquet.read(present, use_threads=file.entry.size > _READ_WHOLE_BYTES)
        empty = parquet.metadata.num_rows == 0
    # The first column is the key. In a file with a single key it must equal the file's name. If
    # the condition holds in no row group, no key was read.
    first = schema.names[0]
    if file.key is not None:
        # Not compared by pyarrow: it imports pandas to convert a name, which takes a second.
        keys = found.column(first).unique().to_pylist()
        if empty or keys not in ([], [file.key]):
            raise pa.ArrowInvalid(f"its {first} is not its name")
    return chosen.of(_shaped(found, schema)) if chosen else _shaped(found, schema)


def _check(file: File, written: pa.Schema, schema: pa.Schema) -> None:
    metadata = written.metadata or {}
    if not (file.key or COMPACTED.fullmatch(file.stem) or file.named):
        raise pa.ArrowInvalid("its name is not a key; it may be a copy")
    if VERSION_KEY not in metadata:
        raise pa.ArrowInvalid("it is not a prune-sweep table")
    check_version(metadata, str(file))
    expected = columns_of(int(metadata[VERSION_KEY]))
    if absent := (set(schema.names) - set(written.names)) & expected:
        raise pa.ArrowInvalid(f"it lacks the column {', '.join(sorted(absent))}")


def _needed(schema: pa.Schema, there: set[str]) -> list[str]:
    """The columns of `there` to read for a schema, with those from which others are derived."""
    present = [name for name in schema.names if name in there]
    absent = [name for name in schema.names if name not in there and name in DERIVED]
    sources = [source for name in absent for source in DERIVED[name].sources if source in there]
    return list(dict.fromkeys([*present, *sources]))


def _shaped(found: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the schema's columns, types and order; absent ones are derived or null."""
    if found.schema.equals(schema):
        return pa.Table.from_arrays(found.columns, schema=schema)
    present = set(found.column_names)
    columns = []
    for field in schema:
        if field.name in present:
            column = found.column(field.name)
        elif (derived := DERIVED.get(field.name)) and present.issuperset(derived.sources):
            column = derived.of(*(found.column(source) for source in derived.sources))
        else:
            column = pa.nulls(len(found), field.type)
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.table(columns, schema=schema)
