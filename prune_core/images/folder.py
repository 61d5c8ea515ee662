"""Image files in class folders: train/CLASS/*.png and test/CLASS/*.png."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from prune_core.images.arrays import Labels, Undecoded, listed
from prune_core.images.cache import file_states
from prune_core.images.decode import Encoded, EncodedPart, decode_parts
from prune_core.images.errors import ImagesError
from prune_core.images.order import shuffled
from prune_core.images.sources import Location, Origin, image_source

_BATCH = 1024  # images a batch


@dataclass(frozen=True)
class ClassFolders:
    """The image files of a folder; labels count the class folders in alphabetical order."""

    folder: Path
    classes: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]
    notes: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, in reading order."""
        return tuple(file for file, _ in self.train + self.test)


@image_source(
    "folder:PATH",
    "your own image files, in train/CLASS/ and test/CLASS/",
    "the layout of torchvision's ImageFolder",
    flip_keeps_label=True,
)
def class_folders(location: Location) -> Origin:
    """The images of a folder; the classes are called as their folders."""
    path = location.path()
    found = find_class_folders(path)
    return Origin(
        path.name or str(path),
        ["folder", str(path), file_states(path, found.files)],
        partial(read_class_folders, found),
        lambda: found.classes,
    )


def find_class_folders(folder: Path) -> ClassFolders:
    """Lists the images under train/ and test/.

    The files of each split, sorted by class and name, are put into one fixed pseudo-random order
    (`order.shuffled`), so that the first n training images are of all classes. Hidden files and
    folders are passed over.

    Raises
    ------
    ImagesError
        train/ or test/ is absent or has no class folders, the class folders of the two differ, or
        one holds no image.
    """
    classes = {split: _class_names(folder, split) for split in ("train", "test")}
    for here, there in (("train", "test"), ("test", "train")):
        extra = sorted(set(classes[here]) - set(classes[there]))
        if extra:
            raise ImagesError(
                f"{folder}: {here}/ has class folders that {there}/ lacks: {listed(extra)}; both "
                "must have the same ones"
            )
    names = classes["train"]
    train, train_ignored = _files(folder / "train", names)
    test, test_ignored = _files(folder / "test", names)
    ignored = train_ignored + test_ignored
    notes = (f"{len(ignored):,} files passed over, such as {ignored[0]}",) if ignored else ()
    return ClassFolders(folder, names, train, test, notes)


def read_class_folders(found: ClassFolders) -> Undecoded:
    """The images that `find_class_folders` listed.

    Raises
    ------
    ImagesError
        A single class; and later, when the images are decoded, a file that is no image.
    """
    train, test = (
        EncodedPart(_labels(pairs), _batches(pairs)) for pairs in (found.train, found.test)
    )
    return decode_parts(str(found.folder), train, test, found.notes)


def _class_names(folder: Path, split: str) -> tuple[str, ...]:
    inside = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    if not (folder / split).is_dir():
        raise ImagesError(
            f"{folder} has no folder {split}/; it must hold train/CLASS/ and test/CLASS/, and "
            f"holds {listed(inside) or 'nothing'}"
        )
    names = sorted(
        entry.name
        for entry in (folder / split).iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if not names:
        raise ImagesError(f"{folder / split} has no class folders; one is needed for each class")
    return tuple(names)


def _files(
    split: Path, classes: Sequence[str]
) -> tuple[tuple[tuple[Path, int], ...], tuple[str, ...]]:
    """The (file, label) pairs in their shuffled order, and the files that are no images."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    pairs: list[tuple[Path, int]] = []
    ignored: list[str] = []
    for label, name in enumerate(classes):
        before = len(pairs)
        for file in _walk(split / name):
            if file.name.lower().endswith(IMG_EXTENSIONS):
                pairs.append((file, label))
            else:
                ignored.append(str(file))
        if len(pairs) == before:
            raise ImagesError(
                f"{split / name} holds no image; remove it from train/ and test/, or add files "
                f"that end in {', '.join(IMG_EXTENSIONS)}"
            )
    return tuple(pairs[position] for position in shuffled(len(pairs))), tuple(ignored)


def _walk(folder: Path) -> list[Path]:
    """All files below, by relative path; links are followed, as in torchvision's ImageFolder."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _labels(pairs: Sequence[tuple[Path, int]]) -> Labels:
    return np.array([label for _, label in pairs], dtype=np.int64)


def _batches(pairs: Sequence[tuple[Path, int]]) -> Iterator[list[Encoded]]:
    for start in range(0, len(pairs), _BATCH):
        yield [Encoded(file) for file, _ in pairs[start : start + _BATCH]]
