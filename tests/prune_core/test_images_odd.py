"""Odd data sets are read as Pillow and pandas read them, or refused by name."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import odd_images as odd
import pyarrow as pa
import pytest
from odd_images import Content, class_folders, in_folder, in_parquet, png, rows, save, write

from prune_core.images import Images, ImagesError, class_names, load

Expected = dict[str, Content]
PETS = ["cat", "dog", "emu"]


def loaded(source: str, cache: Path) -> tuple[Images, Expected]:
    """The images, and the pixels and class name of each one of each part."""
    images = load(source, image_size=odd.SIZE, cache=cache)
    names = class_names(source) or tuple(map(str, range(images.classes)))
    assert len(names) == images.classes
    parts = {
        "train": (images.train_images, images.train_labels),
        "validation": (images.validation_images, images.validation_labels),
        "test": (images.test_images, images.test_labels),
    }
    return images, {
        part: Counter(
            (image.numpy().tobytes(), names[label])
            for image, label in zip(pictures, labels.tolist(), strict=True)
        )
        for part, (pictures, labels) in parts.items()
        if pictures is not None and labels is not None
    }


def parquet_parts(folder: Path) -> str:
    write(folder, train=rows([0, 1, 0]), validation=rows([1, 0], 10), test=rows([1, 0], 20))
    return f"parquet:{folder}"


def three(folder: Path, **options: object) -> Expected:
    """What the three usual Parquet files hold."""
    return {
        part: in_parquet(folder / f"{part}.parquet", **options)  # type: ignore[arg-type]
        for part in ("train", "validation", "test")
        if (folder / f"{part}.parquet").exists()
    }


def val_parquet(folder: Path) -> tuple[str, Expected]:
    write(folder, train=rows([0, 1]), test=rows([1, 0], 20), **{"val-0": rows([1, 0], 10)})
    files = {"train": "train", "validation": "val-0", "test": "test"}
    return "", {part: in_parquet(folder / f"{name}.parquet") for part, name in files.items()}


def upper_case_parquet(folder: Path) -> tuple[str, Expected]:
    write(folder, Train=rows([0, 1]), TEST=rows([1, 0], 20))
    return "", {
        "train": in_parquet(folder / "Train.parquet"),
        "test": in_parquet(folder / "TEST.parquet"),
    }


def parquet_in_folders(folder: Path) -> tuple[str, Expected]:
    write(folder / "train", **{"0": rows([0, 1]), "1": rows([1], 5)})
    write(folder / "test", **{"0": rows([1, 0], 20)})
    return "", {
        "train": in_parquet(folder / "train/0.parquet", folder / "train/1.parquet"),
        "test": in_parquet(folder / "test/0.parquet"),
    }


def parquet_by_options(folder: Path) -> tuple[str, Expected]:
    write(folder, a=rows([0, 1]), b=rows([1, 0], 10))
    write(folder / "deep", c=rows([1], 20), d=rows([0], 21))
    return "?train=a.parquet&validation=b.parquet&test=deep", {
        "train": in_parquet(folder / "a.parquet"),
        "validation": in_parquet(folder / "b.parquet"),
        "test": in_parquet(folder / "deep/c.parquet", folder / "deep/d.parquet"),
    }


def three_parts(folder: Path) -> tuple[str, Expected]:
    parquet_parts(folder)
    return "", three(folder)


def three_splits(train: str, validation: str, test: str) -> Callable[[Path], tuple[str, Expected]]:
    def make(folder: Path) -> tuple[str, Expected]:
        places = {"train": train, "validation": validation, "test": test}
        for at, place in enumerate(places.values()):
            class_folders(folder / place, PETS, 2, 1000 * at)
        return "", {part: in_folder(folder / place) for part, place in places.items()}

    return make


def folder_by_options(folder: Path) -> tuple[str, Expected]:
    class_folders(folder / "fold 1", PETS, 2)
    class_folders(folder / "fold 2", PETS, 1, 1000)
    return "?train=fold 1&test=fold 2", {
        "train": in_folder(folder / "fold 1"),
        "test": in_folder(folder / "fold 2"),
    }


def parquet_by_patterns(folder: Path) -> tuple[str, Expected]:
    write(folder, **{"a-0": rows([0]), "a-1": rows([1, 0], 5), "b-0": rows([1, 0], 20)})
    return "?train=a-*.parquet&test=b-*", {
        "train": in_parquet(folder / "a-0.parquet", folder / "a-1.parquet"),
        "test": in_parquet(folder / "b-0.parquet"),
    }


def parts_elsewhere(folder: Path) -> tuple[str, Expected]:
    class_folders(folder, PETS, 2)
    outside = {"validation": folder.parent / "held", "test": folder.parent / "new"}
    for at, place in enumerate(outside.values()):
        class_folders(place, PETS, 1, 1000 + 1000 * at)
    return f"?train=.&validation=../held&test={outside['test']}", {
        "train": in_folder(folder),
        **{part: in_folder(place) for part, place in outside.items()},
    }


def no_test_folder(folder: Path) -> tuple[str, Expected]:
    class_folders(folder / "train", PETS, 2)
    class_folders(folder / "val", PETS, 1, 1000)
    return "", {"train": in_folder(folder / "train"), "test": in_folder(folder / "val")}


def fewer_test_classes(folder: Path) -> tuple[str, Expected]:
    class_folders(folder / "train", PETS, 2)
    class_folders(folder / "test", ["dog", "emu"], 2, 1000)
    return "", {part: in_folder(folder / part) for part in ("train", "test")}


def fewer_test_names(folder: Path) -> tuple[str, Expected]:
    """The test file numbers its two classes from 0; its names say which they are."""
    write(
        folder,
        train=rows([0, 1, 2], names=PETS),
        test=rows([0, 1], 20, names=["emu", "dog"]),
    )
    return "", {
        "train": in_parquet(folder / "train.parquet", names=PETS),
        "test": in_parquet(folder / "test.parquet", names=["emu", "dog"]),
    }


def labelled(
    *values: object, kind: pa.DataType | None = None
) -> Callable[[Path], tuple[str, Expected]]:
    def make(folder: Path) -> tuple[str, Expected]:
        labels = pa.array(values, kind)
        write(folder, train=rows(labels), test=rows(labels, 20))
        return "", three(folder)

    return make


def text_beside_declared_numbers(folder: Path) -> tuple[str, Expected]:
    write(folder, train=rows([1, 0], names=["cat", "dog"]), test=rows(["dog", "cat"], 20))
    return "", {
        "train": in_parquet(folder / "train.parquet", names=["cat", "dog"]),
        "test": in_parquet(folder / "test.parquet"),
    }


def column(name: str, other: str, option: str = "") -> Callable[[Path], tuple[str, Expected]]:
    def make(folder: Path) -> tuple[str, Expected]:
        for part, first in (("train", 0), ("test", 20)):
            table = rows([1, 0, 2], first, label=name).append_column(other, pa.array([0, 1, 0]))
            write(folder, **{part: table})
        return option, three(folder, label=name)

    return make


def image_column(folder: Path) -> tuple[str, Expected]:
    """`image` is a thumbnail of another size; the option names the picture itself."""
    for part, first in (("train", 0), ("test", 20)):
        thumbnails = pa.array([png(first + 50), png(first + 51)], pa.binary())
        table = rows([0, 1], first, image="photo").append_column("image", thumbnails)
        write(folder, **{part: table})
    return "?image_column=photo", three(folder, image="photo")


def turned(folder: Path) -> tuple[str, Expected]:
    class_folders(folder / "train", PETS, 1)
    for orientation in range(1, 9):
        exif = odd.Image.Exif()
        exif[0x0112] = orientation
        content = odd.encoded(odd.picture(50 + orientation, 8, 8), "PNG", exif=exif)
        save(folder / f"test/dog/{orientation}.png", content)
        exif = odd.Image.Exif()
        exif[0x0112] = orientation
        content = odd.encoded(odd.picture(70 + orientation, 20, 12), "JPEG", exif=exif)
        save(folder / f"train/cat/{orientation}.jpg", content)
    return "", {part: in_folder(folder / part) for part in ("train", "test")}


def strays(folder: Path) -> tuple[str, Expected]:
    for part, first in (("train", 0), ("test", 1000)):
        class_folders(folder / part, PETS, 2, first)
        for stray in ("__MACOSX", ".ipynb_checkpoints", "@eaDir", "cat/__MACOSX"):
            save(folder / part / stray / "0.png", png(first + 99))
    return "", {part: in_folder_of_pets(folder / part) for part in ("train", "test")}


def in_folder_of_pets(folder: Path) -> Content:
    return Counter({key: count for key, count in in_folder(folder).items() if key[1] in PETS})


def skipping(folder: Path) -> tuple[str, Expected]:
    class_folders(folder / "train", PETS, 3)
    class_folders(folder / "val", PETS, 2, 1000)
    class_folders(folder / "test", PETS, 2, 2000)
    expected = {
        "train": in_folder(folder / "train"),
        "validation": in_folder(folder / "val"),
        "test": in_folder(folder / "test"),
    }
    for at, place in enumerate(("train/cat", "train/emu", "val/dog", "test/cat", "test/emu")):
        save(folder / place / f"bad{at}.png", png(7)[:60])
    return "?on_error=skip", expected


READ: dict[str, tuple[str, Callable[[Path], tuple[str, Expected]]]] = {
    "train, validation and test": ("parquet", three_parts),
    "val-0.parquet": ("parquet", val_parquet),
    "Train and TEST.parquet": ("parquet", upper_case_parquet),
    "Parquet files in folders": ("parquet", parquet_in_folders),
    "Parquet files by options": ("parquet", parquet_by_options),
    "Parquet files by patterns": ("parquet", parquet_by_patterns),
    "parts elsewhere": ("folder", parts_elsewhere),
    "val but no test": ("folder", no_test_folder),
    "train, val, test": ("folder", three_splits("train", "val", "test")),
    "train, valid, test": ("folder", three_splits("train", "valid", "test")),
    "Training, Validation, Testing": (
        "folder",
        three_splits("Training", "Validation", "Testing"),
    ),
    "folders by options": ("folder", folder_by_options),
    "fewer test classes": ("folder", fewer_test_classes),
    "fewer names in test": ("parquet", fewer_test_names),
    "strings": ("parquet", labelled("dog", "cat", "emu", "cat")),
    "large strings": ("parquet", labelled("dog", "cat", kind=pa.large_string())),
    "numbers in strings": ("parquet", labelled("10", "9", "2")),
    "true and false": ("parquet", labelled(True, False, True)),
    "dictionary": ("parquet", labelled("b", "a", kind=pa.dictionary(pa.int8(), pa.string()))),
    "dictionary of numbers": (
        "parquet",
        labelled(7, 3, kind=pa.dictionary(pa.int8(), pa.int64())),
    ),
    "whole floats": ("parquet", labelled(1.0, 0.0, 2.0)),
    "float32": ("parquet", labelled(5.0, 6.0, kind=pa.float32())),
    "gaps": ("parquet", labelled(3, 10**12, 7)),
    "from 1": ("parquet", labelled(1, 2, 3)),
    "strings beside declared numbers": ("parquet", text_beside_declared_numbers),
    "labels": ("parquet", column("labels", "weight")),
    "target": ("parquet", column("target", "weight")),
    "class": ("parquet", column("class", "weight")),
    "fine_label": ("parquet", column("fine_label", "coarse_label")),
    "coarse_label": (
        "parquet",
        column("coarse_label", "fine_label", "?label_column=coarse_label"),
    ),
    "label_column": ("parquet", column("species", "label", "?label_column=species")),
    "image_column": ("parquet", image_column),
    "EXIF orientations": ("folder", turned),
    "stray folders": ("folder", strays),
    "bad images left out": ("folder", skipping),
}


@pytest.mark.parametrize(("kind", "make"), READ.values(), ids=READ)
def test_read_as_pillow_and_pandas_read_it(
    tmp_path: Path, kind: str, make: Callable[[Path], tuple[str, Expected]]
) -> None:
    options, expected = make(tmp_path / "data")
    images, found = loaded(f"{kind}:{tmp_path / 'data'}{options}", tmp_path / "cache")
    assert found == expected
    assert images.classes == len({name for _, name in expected["train"]})
    if "validation" in expected:
        split = images.split(0.1)
        counts = [len(split.train), len(split.validation), len(split.test)]
        assert counts == [expected[part].total() for part in ("train", "validation", "test")]


def refused_splits(folder: Path) -> None:
    for fold in ("fold1", "fold2"):
        class_folders(folder / fold, PETS, 1)


def two_validations(folder: Path) -> None:
    for place in ("train", "val", "valid", "test"):
        class_folders(folder / place, PETS, 1)


def unknown_test_class(folder: Path) -> None:
    class_folders(folder / "train", PETS, 1)
    class_folders(folder / "test", ["cat", "Dog"], 1)


def no_training_folder(folder: Path) -> None:
    class_folders(folder / "val", PETS, 1)
    class_folders(folder / "test", PETS, 1)


def lost_class(folder: Path) -> None:
    class_folders(folder / "train", PETS, 1)
    class_folders(folder / "test", PETS, 1)
    save(folder / "train/dog/0.png", b"bad")


def parquet(**tables: pa.Table) -> Callable[[Path], object]:
    return lambda folder: write(folder, **tables)


REFUSED: dict[str, tuple[str, Callable[[Path], object], list[str]]] = {
    "folds": ("folder:{}", refused_splits, ["fold1, fold2", "cat, dog, emu", "`train`"]),
    "two validation folders": ("folder:{}", two_validations, ["val, valid", "`validation`"]),
    "unknown test class": ("folder:{}", unknown_test_class, ["Dog", "cat, dog, emu"]),
    "no training folder": ("folder:{}", no_training_folder, ["train/", "test, val"]),
    "absent folder in option": (
        "folder:{}?test=nowhere",
        unknown_test_class,
        ["option test is 'nowhere'", "test, train"],
    ),
    "absent file in option": (
        "parquet:{}?train=nowhere.parquet",
        parquet(train=rows([0, 1])),
        ["option train is 'nowhere.parquet'", "train.parquet"],
    ),
    "absent column in option": (
        "parquet:{}?label_column=kind",
        parquet(train=rows([0, 1])),
        ["train.parquet", "label_column", "kind", "image, label"],
    ),
    "unread option": ("folder:{}?label_column=x", unknown_test_class, ["label_column", "on_error"]),
    "unknown option": ("folder:{}?bits=12&colour=1", unknown_test_class, ["'colour'", "bits"]),
    "bits": ("folder:{}?bits=17", unknown_test_class, ["bits is '17'", "8 to 16"]),
    "on_error": ("folder:{}?on_error=ignore", unknown_test_class, ["'ignore'", "raise or skip"]),
    "an option twice": ("folder:{}?test=a&test=b", unknown_test_class, ["test is given twice"]),
    "fewer names than labels": (
        "parquet:{}",
        parquet(train=rows([0, 4, 2], names=PETS), test=rows([1])),
        ["column label declares 3 class names (cat, dog, emu)", "labels 0 to 4"],
    ),
    "names beside bare numbers": (
        "parquet:{}",
        parquet(train=rows(["cat", "dog"]), test=rows([0, 1])),
        ["train.parquet, column label holds names", "test.parquet, column label holds numbers"],
    ),
    "unknown name in test": (
        "parquet:{}",
        parquet(train=rows(["cat", "dog"]), test=rows(["emu"])),
        ["test images have labels emu", "cat, dog"],
    ),
    "one name": ("parquet:{}", parquet(train=rows(["cat", "cat"])), ["label cat", "two classes"]),
    "a class that cannot be read": (
        "folder:{}?on_error=skip",
        lost_class,
        ["no training image of class 1"],
    ),
}


@pytest.mark.parametrize(("source", "make", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name(
    tmp_path: Path, source: str, make: Callable[[Path], object], words: list[str]
) -> None:
    make(tmp_path / "data")
    with pytest.raises(ImagesError) as raised:
        load(source.format(tmp_path / "data"), image_size=odd.SIZE, cache=tmp_path / "cache")
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_without_test_images_a_fixed_share_of_each_class_is_the_test_set(
    tmp_path: Path, kind: str
) -> None:
    """Of one folder of classes, or of one Parquet file without a name that says more."""
    data = tmp_path / "data"
    if kind == "folder":
        class_folders(data, PETS, 10)
        whole = in_folder(data)
    else:
        write(data, images=rows(PETS * 10))
        whole = in_parquet(data / "images.parquet")
    images, found = loaded(f"{kind}:{data}", tmp_path / "cache")
    assert found["train"] + found["test"] == whole
    assert images.test_labels.bincount().tolist() == [2, 2, 2]
    assert any("no test images: 6 of 30 images, 20 % of each class" in n for n in images.notes)
    again, _ = loaded(f"{kind}:{data}", tmp_path / "other")
    assert again.fingerprint == images.fingerprint
