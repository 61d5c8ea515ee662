"""Label columns of Parquet files: from numbers, names or true/false to 0..K-1, and their names."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prune_core.images.arrays import Labels, listed
from prune_core.images.errors import ImagesError
from prune_core.images.sources import ClassNames

if TYPE_CHECKING:
    import pyarrow as pa

Values = Labels | NDArray[np.object_]
"""Labels as a file holds them: int64 [rows] >= 0, or names, str [rows]."""


@dataclass(frozen=True, eq=False)
class LabelColumn:
    """The labels of one file.

    Attributes
    ----------
    place
        The file and column, for messages.
    values
        As the file holds them.
    names
        What the file declares that its numbers mean; None if nothing.
    """

    place: str
    values: Values
    names: ClassNames = None

    @property
    def is_text(self) -> bool:
        """Whether the labels are names."""
        return self.values.dtype == np.object_


@dataclass(frozen=True, eq=False)
class MappedLabels:
    """The labels of each part, int64 [N] in 0..K-1, and the K class names, if there are any."""

    parts: Mapping[str, Labels]
    class_names: ClassNames
    notes: tuple[str, ...]


def label_column(
    file: Path, name: str, column: "pa.ChunkedArray", names: ClassNames
) -> LabelColumn:
    """Checks the labels of a file.

    Raises
    ------
    ImagesError
        Labels of another type, null, empty, negative or not whole, or beyond the declared names.
    """
    place = f"{file}, column {name}"
    values = _values(file, name, column)
    if names is not None and values.dtype != np.object_ and len(values):
        low, high = int(values.min()), int(values.max())
        if high >= len(names):
            raise ImagesError(
                f"{place} declares {len(names)} class names ({listed(names)}), but holds labels "
                f"{low} to {high}; correct the names or the labels"
            )
    return LabelColumn(place, values, names)


def mapped_labels(where: str, parts: Mapping[str, Sequence[LabelColumn]]) -> MappedLabels:
    """Numbers the classes of all files alike: by their names where there are any.

    Parameters
    ----------
    where
        How messages name the source, such as its folder.
    parts
        The columns of "train", and of "validation" and "test" if there are any.

    Raises
    ------
    ImagesError
        Names in some files and numbers in others, or a label that no training image has.
    """
    columns = [column for of_part in parts.values() for column in of_part]
    book = _codebook(where, parts["train"], columns)
    codes = {
        part: np.concatenate([np.zeros(0, np.int64), *(_codes(one, book) for one in of_part)])
        for part, of_part in parts.items()
    }
    present = np.unique(codes["train"])

    def name_of(code: int) -> str:
        return str(code) if book is None else book[code]

    for part, found in codes.items():
        if len(present) and len(strangers := np.setdiff1d(found, present)):
            unknown = listed([name_of(int(code)) for code in strangers])
            raise ImagesError(
                f"{where}: the {part} images have labels {unknown}, which no training image has; "
                f"training images have {listed([name_of(int(code)) for code in present])}"
            )
    if len(present) == 1:
        raise ImagesError(
            f"{where}: all {len(codes['train']):,} training images have label "
            f"{name_of(int(present[0]))}; at least two classes are needed"
        )
    notes = _notes(parts["train"], columns, book, present, name_of)
    gaps = len(present) > 0 and int(present[-1]) != len(present) - 1
    if gaps:
        codes = {part: np.searchsorted(present, found) for part, found in codes.items()}
    names = None
    if book is not None or gaps:
        names = tuple(name_of(int(code)) for code in present)
    return MappedLabels(codes, names, notes)


def declared_names(schema: "pa.Schema", column: str) -> ClassNames:
    """The names that a column of a file from the Hugging Face hub declares; None if it has none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    # Names are optional, and this metadata is free text.
    except (LookupError, ValueError, TypeError):
        return None
    if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
        return None
    return tuple(names)


def _codebook(
    where: str, train: Sequence[LabelColumn], columns: Sequence[LabelColumn]
) -> list[str] | None:
    """The names of all labels in the order of their codes; None if the labels are bare numbers."""
    declared = next((column.names for column in columns if column.names is not None), None)
    text = [column for column in columns if column.is_text]
    if declared is None and not text:
        return None
    bare = [one for one in columns if not one.is_text and one.names is None and len(one.values)]
    if declared is None and bare:
        raise ImagesError(
            f"{where}: {text[0].place} holds names, but {bare[0].place} holds numbers; write "
            "labels of one kind in all files"
        )
    book = list(declared or ())
    # Names of the training files first, so that other files cannot change their order.
    for group in (train, columns):
        held = {str(name) for one in group if one.is_text for name in one.values}
        held |= {name for one in group if not one.is_text for name in one.names or ()}
        book += sorted(held - set(book))
    if len(set(book)) < len(book):
        raise ImagesError(f"{where}: class names are declared twice: {listed(book)}")
    return book


def _codes(column: LabelColumn, book: list[str] | None) -> Labels:
    if book is None or (not column.is_text and column.names is None):
        return column.values.astype(np.int64)
    code = {name: at for at, name in enumerate(book)}
    if column.is_text:
        return np.array([code[name] for name in column.values], dtype=np.int64)
    own = np.array([code[name] for name in column.names or ()], dtype=np.int64)
    return own[column.values.astype(np.int64)]


def _notes(
    train: Sequence[LabelColumn],
    columns: Sequence[LabelColumn],
    book: list[str] | None,
    present: Labels,
    name_of: Callable[[int], str],
) -> tuple[str, ...]:
    notes = []
    named = [name_of(int(code)) for code in present]
    if any(column.is_text for column in train):
        notes.append(f"the labels are names: classes 0 to {len(named) - 1} are {listed(named)}")
    elif len(present) and int(present[-1]) != len(present) - 1:
        notes.append(
            f"the labels {listed(present.tolist())} are numbered 0 to {len(present) - 1} here; "
            f"the classes are still called {listed(named)}"
        )
    declared = [column for column in columns if column.names is not None]
    if any(column.names != declared[0].names for column in declared):
        notes.append("files declare different class names or another order: matched by name")
    if declared and book is not None:
        bare = [one for one in columns if one.names is None and not one.is_text]
        if bare:
            notes.append(
                f"{bare[0].place} declares no class names; its numbers are read as those of "
                f"{declared[0].place}"
            )
        if absent := sorted(set(declared[0].names or ()) - set(named)):
            notes.append(f"no training image has the declared classes {listed(absent)}")
    return tuple(notes)


def _values(file: Path, name: str, column: "pa.ChunkedArray") -> Values:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if column.null_count:
        row = column.to_pylist().index(None)
        raise ImagesError(f"{file}, row {row} (from 0): the label is null; remove the row")
    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        text = np.array(column.to_pylist(), dtype=np.object_)
        _refuse(file, text, text == "", "it must not be empty")
        return text
    if types.is_boolean(kind):
        return np.array([str(value) for value in column.to_pylist()], dtype=np.object_)
    if not (types.is_integer(kind) or types.is_floating(kind)):
        raise ImagesError(
            f"{file}: column {name} holds {kind}; labels must be whole numbers, names or true/false"
        )
    values = column.to_numpy()
    if types.is_floating(kind):
        _refuse(file, values, values != np.floor(values), "labels must be whole numbers")
        _refuse(file, values, ~(np.abs(values) < 2.0**53), "labels must be whole numbers")
    beyond = (values < 0) | (values > np.iinfo(np.int64).max)
    hint = "labels must be 0 or more (-1 often stands for a test set whose labels are kept back)"
    _refuse(file, values, beyond, hint)
    return values.astype(np.int64)


def _refuse(file: Path, values: NDArray[Any], wrong: NDArray[np.bool_], must: str) -> None:
    if len(rows := np.flatnonzero(wrong)):
        value = values[rows[0]]
        shown = repr(value) if isinstance(value, str) else value
        raise ImagesError(f"{file}, row {rows[0]} (from 0): the label is {shown}; {must}")
