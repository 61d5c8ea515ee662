"""Images in Parquet files, in the layout of the Hugging Face hub."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prune_core.images.arrays import Undecoded, listed
from prune_core.images.cache import file_states
from prune_core.images.decode import Encoded, EncodedPart, decode_parts
from prune_core.images.errors import ImagesError
from prune_core.images.labels import (
    LabelColumn,
    MappedLabels,
    declared_names,
    label_column,
    mapped_labels,
)
from prune_core.images.options import NAMES, Options
from prune_core.images.order import held_out
from prune_core.images.parquet_files import Files, ParquetFolder, find_parquet
from prune_core.images.sources import Location, Origin, image_source
from prune_core.images.splits import TEST_SHARE, missing_classes, undivided_note

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

IMAGE_COLUMNS = ("image", "img", "images")
LABEL_COLUMNS = ("label", "fine_label", "labels", "target", "class", "coarse_label")
"""Columns that are taken without an option, the first that is there."""

_BATCH = 512  # rows whose encoded bytes are held at once


@image_source(
    "parquet:FOLDER",
    "your own train*.parquet, val*.parquet and test*.parquet, with columns image and label",
    "the layout of image data sets on the Hugging Face hub",
    flip_keeps_label=True,
    options=NAMES,
)
def parquet_folder(location: Location) -> Origin:
    """The images of a folder of Parquet files; a label column may declare or hold class names."""
    path = location.path()
    found = find_parquet(path, location.options)
    parts = [found.train, found.validation, found.test]
    return Origin(
        path.name or str(path),
        [
            "parquet",
            str(path),
            [file_states(path, files) for files in parts],
            location.options.given,
        ],
        partial(read_parquet, found),
        lambda: read_labels(found).class_names,
    )


def read_parquet(found: ParquetFolder) -> Undecoded:
    """The images of the files that `find_parquet` found; their labels are read at once.

    Raises
    ------
    ImagesError
        A damaged file, a column that is absent or of the wrong type, or a label that cannot be
        read; and later, when the images are decoded, those that are null or no image. Names file
        and row.
    """
    image_notes = _check_image_columns(found)
    labels = read_labels(found)
    train, validation = labels.parts["train"], labels.parts["validation"]
    batches: Iterable[list[Encoded]] = _batches(found.train, found.options)
    notes = [*found.notes, *image_notes, *labels.notes]
    if found.test:
        test = EncodedPart(labels.parts["test"], _batches(found.test, found.options))
    else:
        chosen = held_out(train, TEST_SHARE)
        notes.append(undivided_note(train, chosen))
        test = EncodedPart(train[chosen], _selected(_batches(found.train, found.options), chosen))
        train, batches = train[~chosen], _selected(batches, ~chosen)
    names = labels.class_names
    for part, found_labels in (("validation", validation), ("test", test.labels)):
        notes += missing_classes(part, train, found_labels, names)
    return decode_parts(
        str(found.folder),
        EncodedPart(
            np.concatenate([train, validation]),
            chain(batches, _batches(found.validation, found.options)),
        ),
        test,
        tuple(notes),
        validation=len(validation),
        options=found.options,
    )


def read_labels(found: ParquetFolder) -> MappedLabels:
    """The labels of all parts, in 0..K-1; see `prune_core.images.labels`.

    Raises
    ------
    ImagesError
        As `read_parquet`.
    """
    notes: list[str] = []
    parts = {
        "train": _columns(found.train, found.options, notes),
        "validation": _columns(found.validation, found.options, notes),
        "test": _columns(found.test, found.options, notes),
    }
    mapped = mapped_labels(str(found.folder), parts)
    return MappedLabels(mapped.parts, mapped.class_names, (*notes, *mapped.notes))


def _columns(files: Files, options: Options, notes: list[str]) -> list[LabelColumn]:
    """The label columns of files; adds to the notes what is not said yet."""
    import pyarrow as pa

    columns = []
    for file in files:
        opened = _open(file)
        schema = opened.schema_arrow
        name, others = _column(file, schema, LABEL_COLUMNS, "label", options.label_column)
        said = (
            [
                f"labels are those of the column {name}, not of {listed(others)} "
                "(`label_column` names another)"
            ]
            if others
            else []
        )
        names = declared_names(schema, name)
        lost = b"huggingface" not in (schema.metadata or {}) and any(
            pa.types.is_struct(column.type) for column in schema
        )
        try:
            column = opened.read(columns=[name]).column(name)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from error
        checked = label_column(file, name, column, names)
        if lost and not checked.is_text:
            said.append(
                f"column {name} has no class names (a file that was saved again loses them): "
                "classes are called by their numbers"
            )
        notes += [note for note in said if note not in notes]
        columns.append(checked)
    return columns


def _selected(
    batches: Iterable[list[Encoded]], chosen: NDArray[np.bool_]
) -> Iterator[list[Encoded]]:
    """The chosen images, [N], of all batches."""
    at = 0
    for batch in batches:
        flags = chosen[at : at + len(batch)]
        yield [encoded for encoded, flag in zip(batch, flags, strict=False) if flag]
        at += len(batch)


def _open(file: Path) -> "pq.ParquetFile":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ImagesError:
    return ImagesError(
        f"{file} cannot be read as Parquet ({str(error).rstrip('.')}); it may be cut short: fetch "
        "or write it again"
    )


def _column(
    file: Path, schema: "pa.Schema", names: Sequence[str], what: str, asked: str | None
) -> tuple[str, list[str]]:
    """The column to read, and others that it might have been."""
    usual = [name for name in names if name in schema.names]
    if asked is not None and asked in schema.names:
        return asked, []
    if asked is None and usual:
        return usual[0], usual[1:]
    must = f"`{what}_column` names {asked}" if asked else f"it must be in {' or '.join(names)}"
    raise ImagesError(
        f"{file} has no column for the {what}; it has {listed(schema.names) or 'no columns'}, and "
        f"{must}; the option `{what}_column` names a column"
    )


def _check_image_columns(found: ParquetFolder) -> tuple[str, ...]:
    notes: dict[str, None] = {}
    for file in found.files:
        schema = _open(file).schema_arrow
        asked = found.options.image_column
        name, others = _column(file, schema, IMAGE_COLUMNS, "image", asked)
        _check_image_type(file, name, schema.field(name).type)
        if others:
            notes[
                f"images are those of the column {name}, not of {listed(others)} "
                "(`image_column` names another)"
            ] = None
    return tuple(notes)


def _batches(files: Sequence[Path], options: Options) -> Iterator[list[Encoded]]:
    import pyarrow as pa

    for file in files:
        opened = _open(file)
        schema = opened.schema_arrow
        name, _ = _column(file, schema, IMAGE_COLUMNS, "image", options.image_column)
        row = 0
        try:
            for batch in opened.iter_batches(batch_size=_BATCH, columns=[name]):
                values = batch.column(0).to_pylist()
                yield [_encoded(file, row + at, value) for at, value in enumerate(values)]
                row += len(values)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from error


def _check_image_type(file: Path, name: str, kind: "pa.DataType") -> None:
    import pyarrow as pa

    content = kind
    if pa.types.is_struct(kind):
        content = next((field.type for field in kind if field.name == "bytes"), kind)
    types = pa.types
    if not (
        types.is_binary(content) or types.is_large_binary(content) or types.is_binary_view(content)
    ):
        raise ImagesError(
            f"{file}: column {name} holds {kind}; images must be encoded bytes (JPEG, PNG, ...), "
            "as binary or as struct<bytes: binary, path: string>"
        )


def _encoded(file: Path, row: int, value: bytes | dict[str, object] | None) -> Encoded:
    content = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(content, bytes):
        return Encoded(file, row, content)
    path = value.get("path") if isinstance(value, dict) else None
    only = f" and only the path {path!r}: the image's bytes must be in the file" if path else ""
    return Encoded(file, row, problem=f"the image is null{only}")
