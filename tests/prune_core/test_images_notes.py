"""What a person is told of the images: nothing that changes numbers is done without a word."""

import io
from pathlib import Path

import numpy as np
import odd_images as odd
import pyarrow as pa
import pytest
from odd_images import class_folders, png, rows, save, write
from PIL import Image, ImageOps

from prune_core.images import Copies, Images, ImagesError, class_names, load
from prune_core.images.decode import Encoded, decode_into

PETS = ["cat", "dog", "emu"]


def read(source: str, tmp_path: Path) -> Images:
    return load(source, image_size=odd.SIZE, cache=tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    class_folders(tmp_path / "data/train", PETS, 3)
    class_folders(tmp_path / "data/test", PETS, 2, 1000)
    return tmp_path / "data"


def test_own_validation_images_are_held_out_and_said(tmp_path: Path) -> None:
    tables = {"train": rows([0, 1, 0]), "test": rows([0, 1], 20)}
    without = read(f"parquet:{write(tmp_path / 'two', **tables)}", tmp_path)
    tables["validation"] = rows([1, 0], 10)
    images = read(f"parquet:{write(tmp_path / 'three', **tables)}", tmp_path)
    for holdout in (0.1, 0.5, 0.0):
        split = images.split(holdout)
        assert split.validation.labels.tolist() == [1, 0]
        assert split.validation.images[0].numpy().tobytes() == odd.pixels(png(10))
        assert sorted(split.train.labels.tolist()) == [0, 0, 1]
        assert split.notes == (
            "its own 2 validation images are the held-out part; `holdout` is not used",
        )
    assert images.fingerprint != without.fingerprint
    # Of the cache, the second time.
    again = read(f"parquet:{tmp_path / 'three'}", tmp_path)
    assert again.fingerprint == images.fingerprint
    assert again.split(0.1).validation.labels.tolist() == [1, 0]
    assert images.cut(2).split(0.1).validation.labels.tolist() == [1, 0]


def test_validation_images_that_train_would_be_another_fingerprint(tmp_path: Path) -> None:
    """The same pixels in the same order, once held out and once for training."""
    held = write(tmp_path / "a", train=rows([0, 1]), val=rows([1], 10), test=rows([0, 1], 20))
    more = write(
        tmp_path / "b",
        **{"train-0": rows([0, 1]), "train-1": rows([1], 10), "test": rows([0, 1], 20)},
    )
    first, second = (read(f"parquet:{each}", tmp_path) for each in (held, more))
    assert first.fingerprint != second.fingerprint
    assert len(second.train_labels) == 3


def test_the_chosen_column_is_said(tmp_path: Path) -> None:
    table = rows([0, 1], label="fine_label").append_column("coarse_label", pa.array([0, 0]))
    table = table.append_column("img", table["image"])
    images = read(f"parquet:{write(tmp_path / 'data', train=table, test=table)}", tmp_path)
    assert images.notes[:2] == (
        "images are those of the column image, not of img (`image_column` names another)",
        "labels are those of the column fine_label, not of coarse_label (`label_column` names "
        "another)",
    )


@pytest.mark.parametrize(
    ("labels", "names", "note"),
    [
        (["emu", "cat", "dog"], ("cat", "dog", "emu"), "classes 0 to 2 are cat, dog, emu"),
        ([True, False], ("False", "True"), "classes 0 to 1 are False, True"),
        ([2, 5, 9], ("2", "5", "9"), "the labels 2, 5, 9 are numbered 0 to 2 here"),
        ([1.0, 2.0], ("1", "2"), "the labels 1, 2 are numbered 0 to 1 here"),
    ],
)
def test_the_mapping_of_labels_is_kept_as_class_names_and_said(
    tmp_path: Path, labels: list[object], names: tuple[str, ...], note: str
) -> None:
    data = write(tmp_path / "data", train=rows(labels), test=rows(labels, 20))
    images = read(f"parquet:{data}", tmp_path)
    assert class_names(f"parquet:{data}") == names
    assert sorted(images.train_labels.tolist()) == list(range(len(names)))
    assert note in images.notes[0]


def test_declared_names_that_a_copy_lost_are_said(tmp_path: Path) -> None:
    """pandas keeps the struct of the hub's images, but not its metadata."""
    content = pa.array([{"bytes": png(at), "path": None} for at in range(2)], odd.HUB)
    table = pa.table({"image": content, "label": [0, 1]})
    lost = write(tmp_path / "lost", train=table, test=rows([0, 1], 20))
    notes = read(f"parquet:{lost}", tmp_path).notes
    assert notes == (
        "column label has no class names (a file that was saved again loses them): classes are "
        "called by their numbers",
    )
    table = table.replace_schema_metadata(odd.declared("label", ["cat", "dog"]))
    kept = write(tmp_path / "kept", train=table, test=rows([0, 1], 20, names=["cat", "dog"]))
    assert read(f"parquet:{kept}", tmp_path).notes == ()
    half = write(tmp_path / "half", train=table, test=rows([1, 0], 20))
    (note,) = read(f"parquet:{half}", tmp_path).notes
    assert "test.parquet, column label declares no class names; its numbers are read as" in note


def test_names_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    data = write(
        tmp_path / "data",
        train=rows([0, 1, 2], names=PETS),
        test=rows([0, 1, 2], 20, names=["emu", "cat", "dog"]),
    )
    images = read(f"parquet:{data}", tmp_path)
    assert images.test_labels.tolist() == [2, 0, 1]
    assert images.notes == (
        "files declare different class names or another order: matched by name",
    )


def test_declared_classes_without_an_image_are_said(tmp_path: Path) -> None:
    data = write(
        tmp_path / "data", train=rows([0, 2], names=PETS), test=rows([2, 0], 20, names=PETS)
    )
    images = read(f"parquet:{data}", tmp_path)
    assert images.train_labels.tolist() == [0, 1]
    assert class_names(f"parquet:{data}") == ("cat", "emu")
    assert "no training image has the declared classes dog" in images.notes


def test_classes_without_a_test_image_are_said(folder: Path, tmp_path: Path) -> None:
    class_folders(folder / "val", ["emu"], 1, 2000)
    for file in (folder / "test/dog").iterdir():
        file.unlink()
    assert read(f"folder:{folder}", tmp_path).notes == (
        "validation images show 1 of 3 classes; none is of cat, dog",
        "test images show 2 of 3 classes; none is of dog",
    )


def test_copies_are_counted_on_decoded_pixels(folder: Path, tmp_path: Path) -> None:
    picture = odd.picture(0)  # train/cat/0.png
    save(folder / "test/cat/copy.png", odd.encoded(picture, "PNG", compress_level=1))
    save(folder / "test/dog/copy.bmp", odd.encoded(picture, "BMP"))
    save(folder / "test/dog/turned.png", odd.encoded(ImageOps.mirror(picture), "PNG"))
    save(folder / "train/cat/copy.png", png(0))
    save(folder / "train/cat/third.png", png(0))
    class_folders(folder / "val", PETS, 1)
    images = read(f"folder:{folder}", tmp_path)
    assert images.copies == Copies(train=2, validation=3, test=2, test_other_label=1)
    assert read(f"folder:{folder}", tmp_path).copies == images.copies  # of the cache
    assert images.notes == (
        "2 of 11 training images are copies of other training images (equal pixels after decoding)",
        "3 of 3 validation images are copies of training images (equal pixels after decoding)",
        "2 of 9 test images are copies of training images, 1 of them with another label (equal "
        "pixels after decoding)",
    )


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    """The same function decodes for training and for `predict`."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = odd.encoded(odd.picture(orientation, 12, 8), form, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    size = (upright.height, upright.width)
    assert size == ((12, 8) if orientation < 5 else (8, 12))
    pixels = np.empty((1, 3, *size), dtype=np.uint8)
    changes = decode_into([[Encoded(Path("x"), 0, content)]], pixels)
    assert np.array_equal(pixels[0].transpose(1, 2, 0), np.asarray(upright))
    assert changes.counts["turned"] == (orientation > 1)


def test_turned_images_are_said(folder: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    save(folder / "train/cat/turned.png", odd.encoded(odd.picture(9), "PNG", exif=exif))
    notes = read(f"folder:{folder}", tmp_path).notes
    assert notes == ("1 image turned upright by the EXIF orientation",)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_is_no_reason_to_refuse_an_image() -> None:
    content = odd.encoded(odd.picture(9), "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    pixels = np.empty((1, 3, *odd.SIZE), dtype=np.uint8)
    assert decode_into([[Encoded(Path("x"), 0, content)]], pixels).unreadable == []
    assert pixels[0].tobytes() == np.asarray(odd.picture(9)).transpose(2, 0, 1).tobytes()


@pytest.fixture
def twelve_bits(folder: Path) -> Path:
    """16-bit grey PNGs whose values end at 4,095."""
    values = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    for part in ("train", "test"):
        for name in PETS:
            file = folder / part / name / "deep.png"
            save(file, odd.encoded(Image.fromarray(values), "PNG"))
            values = values.T.copy() if part == "train" else np.rot90(values).copy()
    return folder


def test_the_range_of_16_bit_images_is_said(twelve_bits: Path, tmp_path: Path) -> None:
    notes = read(f"folder:{twelve_bits}", tmp_path).notes
    assert (
        "the values of 16-bit images are 0 to 4,095: they fill 12 of 16 bits; `bits: 12` uses "
        "their whole range" in notes
    )


def test_bits_use_the_whole_range(twelve_bits: Path, tmp_path: Path) -> None:
    images = read(f"folder:{twelve_bits}?bits=12", tmp_path)
    grey = [image for image in images.train_images if image[0].equal(image[2])]
    assert len(grey) == 3
    assert {(int(image.min()), int(image.max())) for image in grey} == {(0, 255)}
    assert "6 images with 16 bits a pixel: the high 8 of 12 bits kept" in images.notes
    assert not any("`bits: 12`" in note for note in images.notes)
    assert images.fingerprint != read(f"folder:{twelve_bits}", tmp_path).fingerprint
    with pytest.raises(ImagesError, match=r"the value 4,095 has more than 10 bits; raise `bits`"):
        read(f"folder:{twelve_bits}?bits=10", tmp_path)


def test_a_share_far_from_what_was_asked_is_said(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for part, images in (("train", 2), ("test", 1)):
        class_folders(data / part, [f"{at:03d}" for at in range(100)], images, len(part))
    images = read(f"folder:{data}", tmp_path)
    split = images.split(0.1)
    assert len(split.validation) == len(split.train) == 100
    assert split.notes == (
        "50 % of the training images are held out, not the 10 % of `holdout`: a class gives a "
        "whole number of images, at least 1, and the smallest class has 2 images",
    )
    assert images.split(0.5).notes == ()


def spoil(folder: Path, count: int) -> list[Path]:
    files = sorted((folder / "train/cat").iterdir())[:1]
    for at in range(count):
        file = folder / "train/dog" / f"bad{at:02d}.jpg"
        save(file, b"no image")
        files.append(file)
    files[0].write_bytes(files[0].read_bytes()[:50])
    return files


@pytest.mark.parametrize(("spoilt", "more"), [(3, ""), (25, "and 7 more")])
def test_all_images_that_cannot_be_read_are_named(
    folder: Path, tmp_path: Path, spoilt: int, more: str
) -> None:
    files = spoil(folder, spoilt)
    save(folder / "test/emu/bad.png", b"")
    with pytest.raises(ImagesError) as raised:
        read(f"folder:{folder}", tmp_path)
    first, *lines = str(raised.value).splitlines()
    assert first.startswith(f"{spoilt + 2} of {15 + spoilt + 1} images cannot be read")
    assert "on_error: skip" in first
    assert len(lines) == min(spoilt + 2, 20) + bool(more)
    assert lines[-1] == more or not more
    named = "\n".join(lines)
    assert sum(str(file) in named for file in files) == min(len(files), 20)


def test_images_left_out_are_counted_and_change_the_fingerprint(
    folder: Path, tmp_path: Path
) -> None:
    whole = read(f"folder:{folder}?on_error=skip", tmp_path)
    assert whole.fingerprint == read(f"folder:{folder}", tmp_path).fingerprint
    assert whole.notes == ()
    save(folder / "train/dog/bad.jpg", b"no image")
    save(folder / "test/cat/bad.jpg", b"no image")
    images = read(f"folder:{folder}?on_error=skip", tmp_path)
    (note,) = images.notes
    assert note.startswith("2 of 17 images cannot be read and are left out (on_error: skip): ")
    assert f"{folder / 'train/dog/bad.jpg'}: not a readable image (8 bytes in no" in note
    assert sorted(images.train_labels.tolist()) == sorted(whole.train_labels.tolist())
    assert images.fingerprint != whole.fingerprint
    again = read(f"folder:{folder}?on_error=skip", tmp_path)
    assert (again.fingerprint, again.notes) == (images.fingerprint, images.notes)


def test_null_images_of_parquet_files_are_left_out(tmp_path: Path) -> None:
    content = pa.array([png(0), None, png(2), b"bad"], pa.binary())
    table = pa.table({"image": content, "label": [0, 1, 1, 0]})
    data = write(tmp_path / "data", train=table, val=rows([1], 5), test=rows([0, 1], 20))
    with pytest.raises(ImagesError, match=r"2 of 7 images") as raised:
        read(f"parquet:{data}", tmp_path)
    assert "row 1 (from 0): the image is null" in str(raised.value)
    images = read(f"parquet:{data}?on_error=skip", tmp_path)
    assert images.train_labels.tolist() == [0, 1]
    assert images.validation_labels is not None
    assert images.validation_labels.tolist() == [1]


def test_stray_folders_are_passed_over_and_said_once(folder: Path, tmp_path: Path) -> None:
    for place in ("train", "test", "train/cat", "test/emu", "."):
        for stray in ("__MACOSX", ".ipynb_checkpoints"):
            save(folder / place / stray / "0.png", png(99))
    images = read(f"folder:{folder}", tmp_path)
    assert images.classes == 3
    assert images.notes == ("folders passed over: .ipynb_checkpoints, __MACOSX",)


def test_folders_beside_the_parts_are_said(folder: Path, tmp_path: Path) -> None:
    class_folders(folder / "tset", PETS, 1, 3000)
    assert read(f"folder:{folder}", tmp_path).notes == ("folders passed over: tset",)


def test_parquet_files_beside_the_parts_are_said(tmp_path: Path) -> None:
    data = write(tmp_path / "data", train=rows([0, 1]), test=rows([0, 1], 9), extra=rows([1], 5))
    assert read(f"parquet:{data}", tmp_path).notes == (
        "Parquet files that are not read: extra.parquet",
    )


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("cifar-10", "did you mean 'cifar10'?"),
        ("Digits", "did you mean 'digits'?"),
        ("parquett:x", "did you mean 'parquet:x'?"),
        ("./photos", "write 'folder:./photos'"),
        ("DATA", "write 'folder:DATA'"),
    ],
)
def test_a_wrong_source_says_what_to_write(
    folder: Path, source: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    source = source.replace("DATA", str(folder))
    with pytest.raises(ImagesError) as raised:
        load(source)
    assert words.replace("DATA", str(folder)) in str(raised.value)
