"""The source of the images names the classes, or they have no names."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prune_core.images import class_names


@pytest.mark.parametrize("source", ["digits", "svhn"])
def test_digits_are_named_by_their_numbers(source):
    assert class_names(source) == tuple("0123456789")


def test_folders_of_images_name_their_classes(tmp_path):
    for name in ("train/dog", "train/cat", "train/.hidden", "test/dog", "test/cat"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "one.png").touch()
    assert class_names("folder:pets", tmp_path) == ("cat", "dog")
    assert class_names(f"folder:{tmp_path / 'pets'}") == ("cat", "dog")


def declared(label: object) -> dict[bytes, bytes]:
    """What the Hugging Face hub writes into its files."""
    features = {"image": {"_type": "Image"}, **({} if label is None else {"label": label})}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        (declared({"names": ["cat", "dog"], "_type": "ClassLabel"}), ("cat", "dog")),
        (declared({"dtype": "int64", "_type": "Value"}), None),
        (declared({"names": [0, 1]}), None),
        (declared({"names": []}), None),
        (declared("label"), None),
        (declared(None), None),
        ({b"huggingface": b"{"}, None),
        ({b"huggingface": b"[]"}, None),
        ({b"huggingface": b"\xff"}, None),
        (None, None),
    ],
    ids=str,
)
def test_parquet_files_may_declare_them(tmp_path, metadata, names):
    rows = pa.table({"label": [0, 1]}).replace_schema_metadata(metadata)
    for split in ("train", "test"):
        pq.write_table(rows, tmp_path / f"{split}.parquet")
    assert class_names(f"parquet:{tmp_path}") == names


@pytest.mark.parametrize("source", ["folder:nowhere", "parquet:nowhere", "cifar10", "x"])
def test_a_missing_source_has_no_names(tmp_path, source):
    assert class_names(source, tmp_path) is None
