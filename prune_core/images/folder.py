"""Image files in class folders: train/CLASS/*.png and test/CLASS/*.png."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.images.arrays import Labels, Undecoded, listed
from prune_core.images.cache import file_states
from prune_core.images.decode import Encoded, EncodedPart, decode_parts
from prune_core.images.errors import ImagesError
from prune_core.images.options import NO_OPTIONS, Options
from prune_core.images.order import held_out, shuffled
from prune_core.images.sources import Location, Origin, image_source
from prune_core.images.splits import (
    SPLITS,
    TEST_SHARE,
    is_stray,
    missing_classes,
    split_of_folder,
    undivided_note,
)

_BATCH = 1024  # images a batch

Pairs = tuple[tuple[Path, int], ...]


@dataclass(frozen=True)
class ClassFolders:
    """The image files of a folder; labels count the training class folders in alphabetical order.

    Each part is a tuple of files and labels, in reading order.
    """

    folder: Path
    classes: tuple[str, ...]
    train: Pairs
    validation: Pairs
    test: Pairs
    notes: tuple[str, ...]
    options: Options = NO_OPTIONS


@image_source(
    "folder:PATH",
    "your own image files, in train/CLASS/, val/CLASS/ and test/CLASS/, or only CLASS/",
    "the layout of torchvision's ImageFolder",
    flip_keeps_label=True,
    options=("train", "validation", "test", "on_error", "bits"),
)
def class_folders(location: Location) -> Origin:
    """The images of a folder; the classes are called as their folders."""
    path = location.path()
    found = find_class_folders(path, location.options)
    return Origin(
        path.name or str(path),
        [
            "folder",
            str(path),
            [_states(path, pairs) for pairs in (found.train, found.validation, found.test)],
            found.classes,
            location.options.given,
        ],
        partial(read_class_folders, found),
        lambda: found.classes,
    )


def find_class_folders(folder: Path, options: Options = NO_OPTIONS) -> ClassFolders:
    """Lists the images under train/, val/ and test/, or under class folders alone.

    Other usual names of these folders are understood, in upper or lower case, and options name
    any. Without test/, val/ is the test set. Without either, or without train/, a share of each
    class becomes the test set.

    The files of each part, sorted by class and name, are put into one fixed pseudo-random order
    (`order.shuffled`), so that the first n training images are of all classes. Hidden files, and
    folders that systems and tools leave behind, are passed over.

    Raises
    ------
    ImagesError
        No training images, two folders for one part, a class without training images, or a class
        folder of another part that the training images lack.
    """
    passed: list[str] = []
    notes: list[str] = []
    places = _places(folder, options, passed)
    if places["train"] is None:
        if places["test"] or places["validation"]:
            raise ImagesError(
                f"{folder} has no folder train/; it must hold train/CLASS/ and test/CLASS/, or one "
                f"folder for each class, and holds {_contents(folder)}. The option `train` names "
                "another folder"
            )
        _check_are_classes(folder)
    if places["test"] is None and options.validation is None:
        places["test"], places["validation"] = places["validation"], None
        if places["test"]:
            notes.append(f"no test/: the images in {places['test'].name}/ are the test set")
    names = _class_names(places["train"] or folder, passed)
    if places["train"] is None:
        places["train"] = folder
        notes.append(f"no train/ and test/: the folders {listed(names)} are the classes")
    parts: dict[str, Pairs] = {"train": (), "validation": (), "test": ()}
    ignored: list[Path] = []
    for split, place in places.items():
        if place is not None:
            strict = split == "train"
            there = names if strict else _known(place, _class_names(place, passed), names)
            parts[split] = _files(place, names, there, ignored, passed, strict)
    if places["test"] is None:
        labels = _labels(parts["train"])
        chosen = held_out(labels, TEST_SHARE)
        notes.append(undivided_note(labels, chosen))
        both = [
            tuple(pair for pair, flag in zip(parts["train"], chosen, strict=True) if flag == of)
            for of in (False, True)
        ]
        parts["train"], parts["test"] = both
    for split in ("validation", "test"):
        notes += missing_classes(split, _labels(parts["train"]), _labels(parts[split]), names)
    if passed:
        notes.append(f"folders passed over: {listed(sorted(set(passed)))}")
    if ignored:
        kind = "file" if len(ignored) == 1 else "files"
        notes.append(f"{len(ignored):,} {kind} passed over, such as {ignored[0]}")
    return ClassFolders(folder, names, **parts, notes=tuple(notes), options=options)


def read_class_folders(found: ClassFolders) -> Undecoded:
    """The images that `find_class_folders` listed.

    Raises
    ------
    ImagesError
        A single class; and later, when the images are decoded, files that are no images.
    """
    if len(found.classes) == 1:
        raise ImagesError(
            f"{found.folder}: all training images are in the one folder {found.classes[0]}; at "
            "least two classes are needed, each in a folder of its own"
        )
    pairs = found.train + found.validation
    return decode_parts(
        str(found.folder),
        EncodedPart(_labels(pairs), _batches(pairs)),
        EncodedPart(_labels(found.test), _batches(found.test)),
        found.notes,
        validation=len(found.validation),
        options=found.options,
    )


def _places(folder: Path, options: Options, passed: list[str]) -> dict[str, Path | None]:
    """The folder of each part; None where there is none."""
    there = _folders(folder, passed)
    places: dict[str, Path | None] = {}
    for split in SPLITS:
        if (asked := getattr(options, split)) is not None:
            places[split] = folder / asked
            if not (folder / asked).is_dir():
                raise ImagesError(
                    f"{folder}: the option {split} is {asked!r}, but there is no such folder; it "
                    f"holds {_contents(folder)}"
                )
            continue
        named = [entry for entry in there if split_of_folder(entry.name) == split]
        if len(named) > 1:
            raise ImagesError(
                f"{folder} has several folders of {split} images: "
                f"{listed([entry.name for entry in named])}; keep one, or name it with the option "
                f"`{split}`"
            )
        places[split] = named[0] if named else None
    if places["train"] is not None:
        used = {place for place in places.values() if place}
        passed += [entry.name for entry in there if entry not in used]
    return places


def _check_are_classes(folder: Path) -> None:
    """Refuses folders that hold no image themselves, but folders of the same names.

    They look like parts of a data set, such as fold1/cat and fold2/cat, and not like classes.
    """
    entries = _folders(folder, [])
    inside = [{entry.name for entry in _folders(each, [])} for each in entries]
    shared = set.intersection(*inside) if len(inside) > 1 else set()
    if shared and not any(_is_image(file) for each in entries for file in each.iterdir()):
        names = [entry.name for entry in entries]
        raise ImagesError(
            f"{folder}: the folders {listed(names)} hold folders of the same names, "
            f"{listed(sorted(shared))}, so they do not look like classes; name the one with the "
            "training images with the option `train`, and others with `validation` and `test`"
        )


def _class_names(place: Path, passed: list[str]) -> tuple[str, ...]:
    names = tuple(entry.name for entry in _folders(place, passed))
    if not names:
        raise ImagesError(
            f"{place} has no class folders; one is needed for each class. It holds "
            f"{_contents(place)}"
        )
    return names


def _known(place: Path, there: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """The class folders of another part, by name: those of the training images or fewer."""
    if extra := sorted(set(there) - set(names)):
        raise ImagesError(
            f"{place} has class folders that the training images lack: {listed(extra)}; the "
            f"training images have {listed(names)}"
        )
    return there


def _files(
    place: Path,
    names: Sequence[str],
    there: Sequence[str],
    ignored: list[Path],
    passed: list[str],
    strict: bool,
) -> Pairs:
    """The (file, label) pairs in their shuffled order; adds the files that are no images."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    pairs: list[tuple[Path, int]] = []
    label_of = {name: label for label, name in enumerate(names)}
    for name in there:
        before = len(pairs)
        for file in _walk(place / name, passed):
            if _is_image(file):
                pairs.append((file, label_of[name]))
            else:
                ignored.append(file)
        if strict and len(pairs) == before:
            raise ImagesError(
                f"{place / name} holds no image; remove the folder, or add files that end in "
                f"{', '.join(IMG_EXTENSIONS)}"
            )
    return tuple(pairs[position] for position in shuffled(len(pairs)))


def _is_image(file: Path) -> bool:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return file.name.lower().endswith(IMG_EXTENSIONS) and not file.name.startswith(".")


def _folders(place: Path, passed: list[str]) -> list[Path]:
    """The folders in a folder by name, without those that systems and tools leave behind."""
    there = sorted(entry for entry in place.iterdir() if entry.is_dir())
    passed += [entry.name for entry in there if is_stray(entry.name)]
    return [entry for entry in there if not is_stray(entry.name)]


def _walk(folder: Path, passed: list[str]) -> list[Path]:
    """All files below, by relative path; links are followed, as in torchvision's ImageFolder."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder, followlinks=True):
        passed += [name for name in folders if is_stray(name)]
        folders[:] = [name for name in folders if not is_stray(name)]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _contents(folder: Path) -> str:
    return (
        listed(sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".")))
        or "nothing"
    )


def _states(folder: Path, pairs: Pairs) -> list[Any]:
    """What changes if a file changes; a link to nowhere is told when it is decoded."""
    return file_states(folder, [file for file, _ in pairs if file.exists()])


def _labels(pairs: Sequence[tuple[Path, int]]) -> Labels:
    return np.array([label for _, label in pairs], dtype=np.int64)


def _batches(pairs: Sequence[tuple[Path, int]]) -> Iterator[list[Encoded]]:
    for start in range(0, len(pairs), _BATCH):
        yield [Encoded(file) for file, _ in pairs[start : start + _BATCH]]
