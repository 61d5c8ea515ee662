"""The Parquet reader: layouts that work, and a clear message for each that does not."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from prune_core.images import Images, ImagesError, load

HUB = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(value: int, side: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def hub(contents: list[bytes | None]) -> pa.Array:
    return pa.array([{"bytes": content, "path": "x.png"} for content in contents], HUB)


def table(labels: list[int], first: int = 0) -> pa.Table:
    """Rows of plain bytes, whose labels never had names; image i is of one colour, first + i."""
    images = pa.array([png(first + i) for i in range(len(labels))], pa.binary())
    return pa.table({"image": images, "label": labels})


def write(folder: Path, **tables: pa.Table) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        pq.write_table(rows, folder / f"{name}.parquet")
    return folder


def read(folder: Path) -> Images:
    return load(f"parquet:{folder}", cache=folder / "cache")


def message(folder: Path) -> str:
    with pytest.raises(ImagesError) as raised:
        read(folder)
    assert str(folder) in str(raised.value)
    return str(raised.value)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path, train=table([0, 1, 0]), test=table([1]))


def test_shards_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in (1, 0):
        name = f"train-0000{number}-of-00002"
        write(tmp_path, **{name: table([number, 0], first=10 * number)})
    write(tmp_path, **{"test-00000-of-00001": table([0])})
    images = read(tmp_path)
    assert images.train_images[:, 0, 0, 0].tolist() == [0, 1, 10, 11]
    assert images.train_labels.tolist() == [0, 0, 1, 0]
    assert images.name == tmp_path.name


def test_several_batches_keep_their_rows(tmp_path: Path) -> None:
    labels = [i % 7 for i in range(1300)]
    rows = pa.table({"image": hub([png(i % 251) for i in range(1300)]), "label": labels})
    write(tmp_path, train=rows, test=table([0]))
    images = read(tmp_path)
    assert images.train_images[:, 2, 31, 31].tolist() == [i % 251 for i in range(1300)]
    assert images.train_labels.tolist() == labels


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_plain_bytes_and_other_column_names(tmp_path: Path, kind: pa.DataType) -> None:
    rows = pa.table(
        {"img": pa.array([png(1), png(2)], kind), "fine_label": [0, 1], "extra": [7, 7]}
    )
    images = read(write(tmp_path, train=rows, test=rows))
    assert images.train_images[:, 0, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int32(), pa.uint64()])
def test_labels_of_any_integer_type(tmp_path: Path, kind: pa.DataType) -> None:
    rows = pa.table({"image": hub([png(1), png(2)]), "label": pa.array([1, 0], kind)})
    assert read(write(tmp_path, train=rows, test=rows)).train_labels.tolist() == [1, 0]


@pytest.mark.parametrize("name", ["validation", "validation-00000-of-00001", "valid"])
def test_validation_stands_in_for_an_absent_test_set(tmp_path: Path, name: str) -> None:
    images = read(write(tmp_path, train=table([0, 1]), **{name: table([1, 0], first=9)}))
    assert len(images.test_labels) == 2
    assert images.validation_images is None
    assert images.notes == ("no test*.parquet: the validation files are the test set",)


def test_data_folder_of_a_hub_repository(tmp_path: Path) -> None:
    write(tmp_path / "data", train=table([0, 1]), test=table([1]))
    assert len(read(tmp_path).train_labels) == 2


def test_relative_folders(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = good / "cache"
    by_data = load(f"parquet:{good.name}", data=good.parent, cache=cache)
    monkeypatch.chdir(good.parent)
    by_directory = load(f"parquet:{good.name}", cache=cache)
    itself = load("parquet:.", data=good, cache=cache)
    assert by_data.fingerprint == by_directory.fingerprint == itself.fingerprint
    assert itself.name == good.name


def test_fingerprint_is_of_the_content_and_not_of_the_names(good: Path, tmp_path: Path) -> None:
    rows = pq.read_table(good / "train.parquet").rename_columns({"image": "img", "label": "label"})
    other = write(tmp_path / "other", **{"train-a": rows, "validation": table([1])})
    assert read(other).fingerprint == read(good).fingerprint
    changed = write(tmp_path / "changed", train=table([1, 0, 0]), test=table([1]))
    assert read(changed).fingerprint != read(good).fingerprint


def test_missing_folder(tmp_path: Path) -> None:
    assert "there is no folder" in message(tmp_path / "absent")
    with pytest.raises(ImagesError, match="relative to the data folder"):
        load("parquet:absent", data=tmp_path, cache=tmp_path)


def test_file_in_place_of_a_folder(good: Path) -> None:
    with pytest.raises(ImagesError, match=r"train\.parquet is a file; name the folder"):
        load(f"parquet:{good / 'train.parquet'}", cache=good)


def test_empty_folder(tmp_path: Path) -> None:
    assert "no train*.parquet, nor has its data/; it holds nothing" in message(tmp_path)


def test_no_train_files(tmp_path: Path) -> None:
    assert "it holds test.parquet" in message(write(tmp_path, test=table([0])))


def test_train_files_one_folder_deeper_are_pointed_out(tmp_path: Path) -> None:
    write(tmp_path / "plain_text", train=table([0, 1]))
    assert "there is one in its folder plain_text" in message(tmp_path)


def test_missing_shard(tmp_path: Path) -> None:
    name = "train-00001-of-00003"
    text = message(write(tmp_path, **{name: table([0, 1])}, test=table([0])))
    assert "these numbers are missing: 0, 2" in text


def test_two_sets_of_shards(tmp_path: Path) -> None:
    names = ["train-00000-of-00001-aa", "train-00000-of-00001-bb"]
    write(tmp_path, **{name: table([0, 1]) for name in names}, test=table([0]))
    assert "more than one set of numbered files" in message(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_truncated_file(good: Path, split: str, keep: float) -> None:
    file = good / f"{split}.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    assert f"{file} cannot be read as Parquet" in message(good)


def test_damaged_page(tmp_path: Path) -> None:
    """The footer is whole, so that the damage shows only where the images are read."""
    write(tmp_path, test=table([0]))
    rows = table([0, 1, 0, 1])
    options = {"use_dictionary": False, "compression": "snappy"}
    pq.write_table(rows, tmp_path / "train.parquet", write_page_checksum=True, **options)
    content = bytearray((tmp_path / "train.parquet").read_bytes())
    content[250:280] = bytes(30)  # within the compressed images
    (tmp_path / "train.parquet").write_bytes(content)
    assert "train.parquet cannot be read as Parquet" in message(tmp_path)


@pytest.mark.parametrize("name", ["image", "label"])
def test_absent_column_lists_the_columns(good: Path, name: str) -> None:
    other = {"image": "picture", "label": "kind"}[name]
    write(good, train=pq.read_table(good / "train.parquet").rename_columns({name: other}))
    text = message(good)
    assert f"no column for the {name}; it has " in text
    assert other in text


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (pa.array(["a.png", "b.png"]), "string"),
        (pa.array([[1], [2]]), "list<"),
        (pa.array([{"path": "a"}, {"path": "b"}]), "struct<path: string>"),
    ],
)
def test_image_column_of_another_type(tmp_path: Path, column: pa.Array, found: str) -> None:
    rows = pa.table({"image": column, "label": [0, 1]})
    text = message(write(tmp_path, train=rows, test=table([0])))
    assert f"column image holds {found}" in text
    assert "images must be encoded bytes" in text


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ([0.5, 1.0], "row 0 (from 0): the label is 0.5; labels must be whole numbers"),
        ([0.0, float("nan")], "row 1 (from 0): the label is nan; labels must be whole numbers"),
        ([1.0, float("inf")], "row 1 (from 0): the label is inf; labels must be whole numbers"),
        (["cat", ""], "row 1 (from 0): the label is ''; it must not be empty"),
        ([[0], [1]], "column label holds list<"),
        ([b"cat", b"dog"], "column label holds binary; labels must be whole numbers, names or"),
    ],
)
def test_labels_that_cannot_be_read(tmp_path: Path, column: list[object], text: str) -> None:
    rows = pa.table({"image": hub([png(0), png(1)]), "label": column})
    assert text in message(write(tmp_path, train=rows, test=table([0])))


@pytest.mark.parametrize(
    ("split", "bad", "found"),
    [
        ("train", b"not an image", "12 bytes in no known image format"),
        ("test", b"", "0 bytes"),
        ("train", png(3)[:60], "truncated"),
        ("train", png(3, side=200)[:-30], "truncated"),
    ],
)
def test_bytes_that_are_no_image(tmp_path: Path, split: str, bad: bytes, found: str) -> None:
    broken = pa.table({"image": hub([png(0), png(1), bad]), "label": [0, 1, 0]})
    write(tmp_path, **{"train": table([0, 1]), "test": table([1]), split: broken})
    text = message(tmp_path)
    assert f"{split}.parquet, row 2 (from 0): not a readable image" in text
    assert found in text


def test_every_bad_row_is_named(tmp_path: Path) -> None:
    contents: list[bytes | None] = [png(0)] * 1200
    contents[700] = contents[1100] = b"bad"
    rows = pa.table({"image": hub(contents), "label": [0, 1] * 600})
    text = message(write(tmp_path, train=rows, test=table([1])))
    assert "2 of 1,201 images cannot be read" in text
    for row in (700, 1100):
        assert f"train.parquet, row {row} (from 0): not a readable image (3 bytes in no" in text


def test_null_image(tmp_path: Path) -> None:
    rows = pa.table({"image": pa.array([{"bytes": png(0)}, None], HUB), "label": [0, 1]})
    assert "row 1 (from 0): the image is null; replace or remove it" in message(
        write(tmp_path, train=rows, test=table([1]))
    )


def test_image_with_a_path_only(tmp_path: Path) -> None:
    rows = pa.table({"image": hub([png(0), None]), "label": [0, 1]})
    text = message(write(tmp_path, train=rows, test=table([1])))
    assert "row 1 (from 0): the image is null and only the path 'x.png'" in text


def test_null_label(tmp_path: Path) -> None:
    rows = pa.table({"image": hub([png(0), png(1)]), "label": pa.array([0, None], pa.int64())})
    text = message(write(tmp_path, train=rows, test=table([1])))
    assert "train.parquet, row 1 (from 0): the label is null" in text


def test_negative_label(tmp_path: Path) -> None:
    text = message(write(tmp_path, train=table([0, 1]), test=table([1, -1])))
    assert (
        "test.parquet, row 1 (from 0): the label is -1; labels must be 0 or more (-1 often" in text
    )


def test_label_beyond_64_bits(tmp_path: Path) -> None:
    labels = pa.array([0, 2**63], pa.uint64())
    rows = pa.table({"image": hub([png(0), png(1)]), "label": labels})
    text = message(write(tmp_path, train=rows, test=table([0])))
    assert "row 1 (from 0): the label is 9223372036854775808" in text


def test_test_labels_outside_the_training_classes(tmp_path: Path) -> None:
    text = message(write(tmp_path, train=table([0, 1]), test=table([0, 3, 2])))
    assert "the test images have labels 2, 3, which no training image has" in text
    assert "training images have 0, 1" in text


def test_single_class(tmp_path: Path) -> None:
    text = message(write(tmp_path, train=table([0, 0]), test=table([0])))
    assert "all 2 training images have label 0; at least two classes" in text


@pytest.mark.parametrize(("split", "name"), [("train", "training"), ("test", "test")])
def test_zero_rows(good: Path, split: str, name: str) -> None:
    rows = pq.read_table(good / "train.parquet")
    write(good, **{split: rows.slice(0, 0)})
    assert f"there are no {name} images (0 rows)" in message(good)
