"""Rows of the `cells` table with a value in every column, and folders to store them in."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import made_up_sweep
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


@pytest.fixture(scope="session")
def compensated() -> Callable[..., list[Row]]:
    """The rows of a made-up grid without compensation, and again with each compensation named.

    Compensation closes 0.6 of the distance to the fine-tuned accuracy, and more for later names;
    after fine-tuning it adds 2 points at the smallest ratio, less or more by the seed.
    """

    def build(grid: made_up_sweep.Grid, *names: str) -> list[Row]:
        plain = [row | {"compensation": "none"} for row in made_up_sweep.rows(grid)]
        return plain + [
            _compensated(row, name, at) for at, name in enumerate(names) for row in plain
        ]

    return build


def _compensated(row: Row, name: str, at: int) -> Row:
    part = f'"compensation": {{"name": "{name.partition("(")[0]}", "version": 1}}, '
    # Another key, and no other row has it.
    key = f"{'abcdef'[at]}{row['key'][1:]}"
    identity = row["identity"].replace("{", "{" + part, 1)
    made = row | {"key": key, "compensation": name, "identity": identity}
    for split in ("validation", "test"):
        before, after = (row[f"{stage}_{split}_top1"] for stage in ("recalibrated", "finetuned"))
        solved = before + (0.6 + 0.1 * at + 0.01 * row["seed"]) * (after - before)
        made[f"recalibrated_{split}_top1"] = solved
        made[f"compensated_{split}_top1"] = solved - 0.01
        gained = (0.02 + 0.002 * row["seed"]) * (1 - row["ratio"]) ** 2
        made[f"finetuned_{split}_top1"] = min(after + gained, 1.0)
    return made | {"seconds_moments": 4.0, "seconds_compensate": 0.5}


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
