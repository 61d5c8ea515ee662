"""A results folder survives crashes and foreign files: writes are atomic, reads are checked."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results import DamagedFileWarning, SchemaError, Store, StoreError
from results.storage.schema import CELLS, NESTED, SCHEMA_VERSION, VERSION_KEY, table

KEY, OTHER = "0" * 16, "f" * 16


def listing(folder: Path) -> dict[str, str]:
    """Hashes of all files, by name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def with_version(version: bytes, rows: pa.Table) -> pa.Table:
    return rows.replace_schema_metadata({VERSION_KEY: version})


def test_rows_are_ordered_by_key(store, full_row):
    for key in (OTHER, KEY, "8" * 16):
        store.write(full_row(key))
    assert store.read(["key"])["key"].to_pylist() == [KEY, "8" * 16, OTHER]
    assert store.statuses() == {KEY: "ok", "8" * 16: "ok", OTHER: "ok"}


def test_a_key_that_is_written_again_is_replaced(store, full_row):
    store.write(full_row(KEY, status="failed", seed=1))
    store.write(full_row(KEY, status="ok", seed=2))
    assert store.read(["status", "seed"]).to_pylist() == [{"status": "ok", "seed": 2}]
    assert names(store.cells.path) == [f"{KEY}.parquet"]


def test_columns_come_in_the_order_asked_for_and_without_nested_ones_by_default(store, full_row):
    store.write(full_row())
    assert store.read(["seed", "key"]).column_names == ["seed", "key"]
    assert store.read().column_names == [n for n in CELLS.names if n not in NESTED]


@pytest.mark.parametrize("key", ["", "0" * 15, "0" * 17, "../../0123456789", "A" * 16, None])
def test_an_invalid_key_is_refused(key, store, full_row):
    with pytest.raises(SchemaError, match="16 hexadecimal digits"):
        store.write(full_row() | {"key": key})
    assert names(store.cells.path) == []


DIES = """
import os, signal, sys
from pathlib import Path
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from results import Store
Store(sys.argv[1]).write({"key": sys.argv[2], "status": "failed"})
"""


def test_a_process_killed_before_the_rename_leaves_the_old_row(store, full_row):
    store.write(full_row(KEY, seed=1))
    before = listing(store.folder.path)
    killed = subprocess.run([sys.executable, "-c", DIES, store.folder.path, KEY], check=False)
    assert killed.returncode == -signal.SIGKILL
    after = listing(store.folder.path)
    leftovers = sorted(after.keys() - before.keys())
    assert len(leftovers) == 1, "the process died before it wrote, or after it renamed"
    name = Path(leftovers[0]).name
    assert name.startswith(".")
    assert not name.endswith(".parquet")
    assert before.items() <= after.items()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.read(["status", "seed"]).to_pylist() == [{"status": "ok", "seed": 1}]
    store.write(full_row(KEY, seed=2))
    assert store.read(["seed"])["seed"].to_pylist() == [2]


def test_a_write_that_the_disk_refuses_leaves_nothing_behind(store, full_row):
    # A folder in the file's place makes the rename fail, even for root.
    (store.cells.path / f"{KEY}.parquet" / "full").mkdir(parents=True)
    with pytest.raises(StoreError, match=KEY):
        store.write(full_row(KEY))
    assert names(store.cells.path) == [f"{KEY}.parquet"]


def test_a_row_that_does_not_fit_leaves_the_old_one(store, full_row):
    store.write(full_row(KEY))
    before = listing(store.folder.path)
    with pytest.raises(SchemaError):
        store.write(full_row(KEY, seed="many"))
    assert listing(store.folder.path) == before


def truncated(path: Path, rows: pa.Table) -> None:
    pq.write_table(rows, path)
    path.write_bytes(path.read_bytes()[:-20])


def of_another_type(path: Path, rows: pa.Table) -> None:
    column = rows.schema.get_field_index("seed")
    changed = rows.set_column(column, "seed", pa.array(["many"]))
    pq.write_table(with_version(str(SCHEMA_VERSION).encode(), changed), path)


DAMAGE: dict[str, Callable[[Path, pa.Table], object]] = {
    "truncated": truncated,
    "empty": lambda path, rows: path.write_bytes(b""),
    "text": lambda path, rows: path.write_text("not Parquet at all, but long enough"),
    "a folder": lambda path, rows: path.mkdir(),
    "a link to nothing": lambda path, rows: path.symlink_to("absent"),
    "foreign": lambda path, rows: pq.write_table(pa.table({"key": [KEY], "status": ["ok"]}), path),
    "no version": lambda path, rows: pq.write_table(rows.replace_schema_metadata(None), path),
    "absurd version": lambda path, rows: pq.write_table(with_version(b"one", rows), path),
    "a column of another type": of_another_type,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_left_out_and_named(damage, store, full_row):
    store.write(full_row(OTHER))
    damaged = store.cells.path / f"{KEY}.parquet"
    damage(damaged, table([full_row(KEY)]))
    with pytest.warns(DamagedFileWarning) as caught:
        read = store.read()
    assert read["key"].to_pylist() == [OTHER]
    assert [str(damaged) in str(warning.message) for warning in caught] == [True]


def test_a_damaged_cell_counts_as_not_run(store, full_row):
    store.write(full_row(OTHER))
    truncated(store.cells.path / f"{KEY}.parquet", table([full_row(KEY)]))
    with pytest.warns(DamagedFileWarning):
        assert store.statuses() == {OTHER: "ok"}


def test_a_copy_of_a_cells_file_is_not_a_second_cell(store, full_row):
    store.write(full_row(KEY))
    copy = store.cells.path / f"{KEY} (1).parquet"
    shutil.copy(store.cells.path / f"{KEY}.parquet", copy)
    with pytest.warns(DamagedFileWarning, match=r"\(1\).parquet"):
        assert store.read(["key"])["key"].to_pylist() == [KEY]


def test_a_damaged_file_can_be_written_again(store, full_row):
    (store.cells.path / f"{KEY}.parquet").write_bytes(b"PAR1")
    store.write(full_row(KEY))
    assert store.statuses() == {KEY: "ok"}


def test_a_newer_file_is_refused_by_name(store, full_row):
    newer = store.cells.path / f"{KEY}.parquet"
    version = SCHEMA_VERSION + 1
    pq.write_table(with_version(str(version).encode(), table([full_row(KEY)])), newer)
    with pytest.raises(SchemaError) as caught:
        store.read()
    for word in (str(newer), f"version {version}", f"up to {SCHEMA_VERSION}", "install a newer"):
        assert word in str(caught.value)


def test_columns_that_an_older_file_lacks_are_null(store, full_row):
    older = table([full_row(KEY)]).select(["key", "status", "seed"])
    pq.write_table(with_version(b"0", older), store.cells.path / f"{KEY}.parquet")
    store.write(full_row(OTHER))
    read = store.read(CELLS.names)
    assert read.schema.equals(CELLS)
    expected = dict.fromkeys(CELLS.names) | {"key": KEY, "status": "ok"}
    expected["seed"] = full_row()["seed"]
    assert read.to_pylist() == [expected, full_row(OTHER)]


@pytest.mark.parametrize("content", [{"schema": SCHEMA_VERSION + 1}, {"schema": 0}, {}, [], 1])
def test_a_folder_of_another_version_is_refused_and_left_alone(content, store, full_row):
    store.write(full_row())
    (store.folder.path / "format.json").write_text(json.dumps(content))
    before = listing(store.folder.path)
    for use in (store.check, store.create, store.read, store.statuses):
        with pytest.raises(SchemaError, match=str(store.folder.path)):
            use()
    assert listing(store.folder.path) == before


def test_a_format_file_that_is_not_json_is_refused(store):
    (store.folder.path / "format.json").write_bytes(b"\xff{")
    with pytest.raises(SchemaError, match=r"format\.json"):
        store.create()


def test_an_absent_folder_has_no_statuses_but_cannot_be_read(tmp_path):
    store = Store(tmp_path / "absent")
    store.check()
    assert store.statuses() == {}
    with pytest.raises(StoreError, match="absent"):
        store.read()
    assert not store.folder.path.exists()


def test_creating_twice_changes_nothing(store, full_row):
    store.write(full_row())
    before = listing(store.folder.path)
    store.create()
    assert listing(store.folder.path) == before


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    path = tmp_path / "runs"
    path.write_text("mine")
    for use in (Store(path).check, Store(path).create):
        with pytest.raises(StoreError, match="is a file"):
            use()
    assert path.read_text() == "mine"


@pytest.mark.parametrize("inside", ["runs", "runs/deep"])
def test_a_folder_below_a_file_is_refused(inside, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises((StoreError, SchemaError), match="file/runs"):
        Store(tmp_path / "file" / inside).create()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_whose_cells_are_a_file_is_refused(tmp_path):
    (tmp_path / "cells").write_text("mine")
    with pytest.raises(StoreError, match="cannot be written to"):
        Store(tmp_path).create()
    assert names(tmp_path) == ["cells"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_folder_that_accepts_no_files_is_refused():
    # The kernel's own folders refuse even root.
    with pytest.raises(StoreError, match=r"/proc/runs cannot be written to .*--out"):
        Store("/proc/runs").create()


@pytest.mark.skipif(os.geteuid() == 0, reason="root ignores permissions")
def test_a_read_only_folder_is_refused(store):
    store.cells.path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="cannot be written to"):
            store.create()
    finally:
        store.cells.path.chmod(0o700)


@pytest.mark.parametrize("name", ["cells", "scores", "artifacts", "timeouts"])
def test_a_link_in_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        Store(tmp_path / "runs").create()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_flipped_bit_never_changes_a_row(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    row = {"key": "a" * 16, "status": "ok", "seed": 3, "ratio": 0.5, "finetuned_test_top1": 0.75}
    store.write(row | {"widths": [3, 4], "kept": [[0, 1, 2], [0, 3]], "scores_key": "b" * 16})
    path = store.cells.path / f"{'a' * 16}.parquet"
    whole = path.read_bytes()
    columns = ["key", *row, "widths", "kept", "scores_key"]
    expected = store.read(columns)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    # These bits of the footer hold column types; a float64 read as float32 is a valid number.
    for at in (*range(0, footer, 9), *range(footer, footer + 1_500)):
        for bit in (1, 3):
            content = bytearray(whole)
            content[at] ^= 1 << bit
            path.write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DamagedFileWarning)
                try:
                    found = store.read(columns)
                except SchemaError:
                    continue
            assert len(found) == 0 or found.equals(expected), (at, bit)


def test_a_file_without_a_checksum_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    store.write({"key": "a" * 16, "status": "ok"})
    path = store.cells.path / f"{'a' * 16}.parquet"
    plain = pq.read_table(path)
    pq.write_table(plain, path)
    assert store.statuses() == {"a" * 16: "ok"}
