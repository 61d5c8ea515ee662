"""Which Parquet files of a folder hold training, validation and test images."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prune_core.images.arrays import listed
from prune_core.images.errors import ImagesError
from prune_core.images.options import NO_OPTIONS, Options
from prune_core.images.splits import SPLITS, split_of_file, split_of_folder

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")

Files = tuple[Path, ...]


@dataclass(frozen=True)
class ParquetFolder:
    """The Parquet files of a folder, in reading order.

    Without test files, a share of each class of the training files becomes the test set.
    """

    folder: Path
    train: Files
    validation: Files
    test: Files
    notes: tuple[str, ...] = ()
    options: Options = NO_OPTIONS

    @property
    def files(self) -> Files:
        """All files, in reading order."""
        return self.train + self.validation + self.test


def find_parquet(folder: Path, options: Options = NO_OPTIONS) -> ParquetFolder:
    """Finds the training, validation and test files in the folder, else in its data/.

    These are train*.parquet, val*.parquet and test*.parquet, or all files of folders of these
    names, in upper or lower case. Options name others. Without test files, validation files are the
    test set. If no name says what a file is for, all are training files. Shards are read in the
    order of their names.

    Raises
    ------
    ImagesError
        No files for training, or a numbered shard is missing.
    """
    given = {split: _given(folder, split, getattr(options, split)) for split in SPLITS}
    for place in (folder, folder / "data"):
        found = {split: given[split] or _matching(place, split) for split in SPLITS}
        notes: list[str] = []
        if not any(found.values()) and (files := _parquet_in(place)):
            found["train"] = files
            notes.append(
                f"no file is called train, validation or test: all images are in "
                f"{listed([file.name for file in files])}"
            )
        if not found["train"]:
            continue
        if not found["test"] and not given["validation"] and found["validation"]:
            found["test"], found["validation"] = found["validation"], ()
            notes.append("no test*.parquet: the validation files are the test set")
        for files in found.values():
            _check_shards(files)
        if unused := sorted(
            {file.name for file in _parquet_in(place)}.difference(
                file.name for files in found.values() for file in files
            )
        ):
            notes.append(f"Parquet files that are not read: {listed(unused)}")
        return ParquetFolder(folder, **found, notes=tuple(notes), options=options)
    hint = ""
    deeper = [*folder.glob("*/train*.parquet"), *folder.glob("*/train*/*.parquet")]
    if elsewhere := sorted({file.relative_to(folder).parts[0] for file in deeper}):
        hint = f"; there is one in its folder {listed(elsewhere)}, so name that folder instead"
    raise ImagesError(
        f"{folder} has no train*.parquet, nor has its data/; it holds {_contents(folder)}{hint}. "
        "The option `train` names a file"
    )


def _given(folder: Path, split: str, pattern: str | None) -> Files:
    """The files that an option names: a file, all Parquet files of a folder, or a pattern."""
    if pattern is None:
        return ()
    path = folder / pattern
    if path.is_file():
        return (path,)
    if path.is_dir():
        found = _parquet_in(path)
    else:
        found = tuple(sorted(file for file in folder.glob(pattern) if file.is_file()))
    if not found:
        raise ImagesError(
            f"{folder}: the option {split} is {pattern!r}, but no Parquet file is called so; it "
            f"holds {_contents(folder)}"
        )
    return found


def _matching(place: Path, split: str) -> Files:
    files = tuple(file for file in _parquet_in(place) if split_of_file(file.name) == split)
    if files or not place.is_dir():
        return files
    folders = sorted(entry for entry in place.iterdir() if split_of_folder(entry.name) == split)
    return tuple(file for entry in folders for file in _parquet_in(entry))


def _parquet_in(place: Path) -> Files:
    if not place.is_dir():
        return ()
    named = (entry for entry in place.iterdir() if not entry.name.startswith("."))
    return tuple(sorted(entry for entry in named if entry.suffix == ".parquet" and entry.is_file()))


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
