"""Rows of the `cells` table with a value in every column, and folders to store them in."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import fs

from results import Store
from results.storage.schema import CELLS

Row = dict[str, Any]
Where = tuple[str, fs.FileSystem | None]


def _value(kind: pa.DataType, seed: int) -> Any:
    if pa.types.is_struct(kind):
        return {field.name: _value(field.type, seed) for field in kind}
    if pa.types.is_list(kind):
        return [_value(kind.value_type, seed), _value(kind.value_type, seed + 1)]
    if pa.types.is_timestamp(kind):
        return datetime(2024, 2, 29, 23, 59, 59, 1 + seed, tzinfo=UTC)
    return {
        pa.string(): f"text {seed} äß 数",
        # Above 2^31 and above what a float represents exactly, so that a wrong type is detected.
        pa.int64(): 2**53 + 1 + seed,
        pa.int32(): 7 + seed,
        pa.float64(): 0.1 + seed,
        pa.bool_(): seed % 2 == 0,
    }[kind]


@pytest.fixture(scope="session")
def full_row() -> Callable[..., Row]:
    """A row with a value in every column, different for each; `changes` replace columns."""

    def build(key: str = "0123456789abcdef", **changes: Any) -> Row:
        row = {field.name: _value(field.type, at) for at, field in enumerate(CELLS)}
        return row | {"key": key, "status": "ok"} | changes

    return build


@pytest.fixture(params=["disk", "s3", "another file system"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    """The name of a results folder, and its file system if the name does not say it."""
    if request.param == "disk":
        return str(tmp_path / "runs"), None
    if request.param == "s3":
        return request.getfixturevalue("object_store").new_prefix(), None
    return "runs", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store, ready for writing."""
    store = Store(tmp_path / "runs")
    store.create()
    return store
