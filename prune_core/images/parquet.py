"""Images in Parquet files, in the layout of the Hugging Face hub."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prune_core.images.arrays import Labels, Undecoded, listed
from prune_core.images.cache import file_states
from prune_core.images.decode import Encoded, EncodedPart, decode_parts
from prune_core.images.errors import ImagesError
from prune_core.images.sources import ClassNames, Location, Origin, image_source

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label")

_BATCH = 512  # rows whose encoded bytes are held at once
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


@dataclass(frozen=True)
class ParquetFolder:
    """The Parquet files of a folder, in reading order."""

    folder: Path
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    notes: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, in reading order."""
        return self.train + self.test


@image_source(
    "parquet:FOLDER",
    "your own train*.parquet and test*.parquet, with columns image and label",
    "the layout of image data sets on the Hugging Face hub",
    flip_keeps_label=True,
)
def parquet_folder(location: Location) -> Origin:
    """The images of a folder of Parquet files; a label column may declare class names."""
    path = location.path()
    found = find_parquet(path)
    return Origin(
        path.name or str(path),
        ["parquet", str(path), file_states(path, found.files)],
        partial(read_parquet, found),
        lambda: _declared_names(found.train[0]),
    )


def find_parquet(folder: Path) -> ParquetFolder:
    """Finds train*.parquet and test*.parquet in the folder, else in its data/.

    Without test*.parquet, valid*.parquet (so also validation*) is the test set. Shards are read in
    the order of their names.

    Raises
    ------
    ImagesError
        No files for training or test, or a numbered shard is missing.
    """
    for place in (folder, folder / "data"):
        train = _matching(place, "train")
        if not train:
            continue
        test = _matching(place, "test")
        notes: tuple[str, ...] = ()
        if not test and (test := _matching(place, "valid")):
            notes = ("no test*.parquet: the validation files are the test set",)
        if not test:
            raise ImagesError(
                f"{place} has no test*.parquet, validation*.parquet or valid*.parquet; it holds "
                f"{_contents(place)}"
            )
        _check_shards(train)
        _check_shards(test)
        return ParquetFolder(folder, train, test, notes)
    hint = ""
    if elsewhere := sorted({file.parent.name for file in folder.glob("*/train*.parquet")}):
        hint = f"; there is one in its folder {listed(elsewhere)}, so name that folder instead"
    raise ImagesError(
        f"{folder} has no train*.parquet, nor has its data/; it holds {_contents(folder)}{hint}"
    )


def read_parquet(found: ParquetFolder) -> Undecoded:
    """The images of the files that `find_parquet` found; their labels are read at once.

    Raises
    ------
    ImagesError
        A damaged file, a column that is absent or of the wrong type, a null label, or labels that
        are not 0..K-1; and later, when the images are decoded, one that is null or no image. Names
        file and row.
    """
    train, test = (
        EncodedPart(np.concatenate([_labels(file) for file in files]), _batches(files))
        for files in (found.train, found.test)
    )
    return decode_parts(str(found.folder), train, test, found.notes)


def _declared_names(file: Path) -> ClassNames:
    """The names that the label column of a file from the Hugging Face hub declares."""
    import pyarrow.parquet as pq

    metadata = pq.read_schema(file).metadata or {}
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    labels = [features[column] for column in LABEL_COLUMNS if column in features]
    names = labels[0]["names"]
    return tuple(names) if names and all(isinstance(name, str) for name in names) else None


def _matching(folder: Path, prefix: str) -> tuple[Path, ...]:
    return tuple(sorted(file for file in folder.glob(f"{prefix}*.parquet") if file.is_file()))


def _contents(folder: Path) -> str:
    return listed(sorted(entry.name for entry in folder.iterdir())) or "nothing"


def _check_shards(files: Sequence[Path]) -> None:
    """A data set that was fetched in part must not pass for a whole one."""
    numbers = [match.groups() for file in files if (match := _SHARD.search(file.name))]
    if len({total for _, total in numbers}) > 1 or len(set(numbers)) < len(numbers):
        raise ImagesError(
            f"{files[0].parent}: more than one set of numbered files for one split: "
            f"{listed([file.name for file in files])}; keep one set"
        )
    total = int(numbers[0][1]) if numbers else 0
    if absent := sorted(set(range(total)) - {int(number) for number, _ in numbers}):
        raise ImagesError(
            f"{files[0].parent}: of the {total} files named like {files[0].name}, these numbers "
            f"are missing: {listed(absent)}; fetch them"
        )


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


def _column(file: Path, schema: "pa.Schema", names: Sequence[str], what: str) -> str:
    for name in names:
        if name in schema.names:
            return name
    raise ImagesError(
        f"{file} has no column for the {what}; it has {listed(schema.names) or 'no columns'}, and "
        f"the {what} must be in {' or '.join(names)}"
    )


def _labels(file: Path) -> Labels:
    """The labels of a file, int64 [rows]; also checks the types of both columns."""
    import pyarrow as pa

    opened = _open(file)
    schema = opened.schema_arrow
    image = _column(file, schema, IMAGE_COLUMNS, "image")
    _check_image_type(file, image, schema.field(image).type)
    name = _column(file, schema, LABEL_COLUMNS, "label")
    if not pa.types.is_integer(schema.field(name).type):
        raise ImagesError(
            f"{file}: column {name} holds {schema.field(name).type}; labels must be integers, "
            "0 to K-1"
        )
    try:
        column = opened.read(columns=[name]).column(name)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error
    if column.null_count:
        row = column.to_pylist().index(None)
        raise ImagesError(f"{file}, row {row} (from 0): the label is null; remove the row")
    values = column.to_numpy()
    wrong = np.flatnonzero((values < 0) | (values > np.iinfo(np.int64).max))
    if len(wrong):
        raise ImagesError(
            f"{file}, row {wrong[0]} (from 0): the label is {values[wrong[0]]}; labels must be "
            "0 to K-1 (-1 often stands for a test set whose labels are kept back)"
        )
    return values.astype(np.int64)


def _batches(files: Sequence[Path]) -> Iterator[list[Encoded]]:
    import pyarrow as pa

    for file in files:
        opened = _open(file)
        name = _column(file, opened.schema_arrow, IMAGE_COLUMNS, "image")
        row = 0
        try:
            for batch in opened.iter_batches(batch_size=_BATCH, columns=[name]):
                values = batch.column(0).to_pylist()
                yield [
                    Encoded(file, row + i, _bytes(file, row + i, v)) for i, v in enumerate(values)
                ]
                row += len(values)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from error


def _check_image_type(file: Path, name: str, kind: "pa.DataType") -> None:
    import pyarrow as pa

    content = kind
    if pa.types.is_struct(kind):
        content = next((field.type for field in kind if field.name == "bytes"), kind)
    if not (pa.types.is_binary(content) or pa.types.is_large_binary(content)):
        raise ImagesError(
            f"{file}: column {name} holds {kind}; images must be encoded bytes (JPEG, PNG, ...), "
            "as binary or as struct<bytes: binary, path: string>"
        )


def _bytes(file: Path, row: int, value: bytes | dict[str, object] | None) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(content, bytes):
        return content
    path = value.get("path") if isinstance(value, dict) else None
    outside = f" and only the path {path!r}: put the image's bytes into the file" if path else ""
    raise ImagesError(
        f"{file}, row {row} (from 0): the image is null{outside or '; remove the row'}"
    )
