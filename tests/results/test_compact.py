"""Compaction changes the number of files and nothing that a reader sees."""

import os
import signal
import subprocess
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

import results
from results import DamagedFileWarning, Store

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def fill(folder: Path, cells: int = 6, status: str = "ok", minutes: int = 0) -> Store:
    store = Store(folder)
    store.create()
    for number in range(cells):
        key = f"{number:016x}"
        store.write(
            {
                "key": key,
                "status": status,
                "dataset": "digits",
                "seed": 0,
                "metric": "random",
                "scope": "local",
                "ratio": 0.5,
                "scores_key": "f" * 16,
                "kept": [[0], [0, 1]],
                "history": [{"epoch": 1, "loss": 0.5, "accuracy": 0.9}],
                "finished_at": NOON + timedelta(minutes=minutes),
            }
        )
    of = {"baseline_key": "b", "dataset": "digits", "seed": 0, "metric": "random"}
    store.write_importances("f" * 16, of, [[0.1, 0.2], [0.3, 0.4, 0.5]])
    store.write_importances("e" * 16, of, [[0.1, 0.2], [0.3, 0.4, 0.5]])
    return store


def seen(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[object]]:
    nested = Store(folder).read(["key", "history", "kept"]).to_pylist()
    return results.load(folder), results.load_channels(folder), nested


def same(one: tuple[pd.DataFrame, pd.DataFrame, list], other: tuple) -> None:
    pd.testing.assert_frame_equal(one[0], other[0])
    pd.testing.assert_frame_equal(one[1], other[1])
    assert one[2] == other[2]


def test_readers_see_the_same_rows(tmp_path: Path) -> None:
    store = fill(tmp_path)
    before = seen(tmp_path)
    assert store.compact() == 6
    assert len(list(store.cells.path.iterdir())) == 1
    assert len(list((tmp_path / "scores").iterdir())) == 1
    same(before, seen(tmp_path))
    assert store.compact() == 6
    same(before, seen(tmp_path))


def test_the_later_row_of_a_cell_that_is_run_again_counts(tmp_path: Path) -> None:
    store = fill(tmp_path, status="failed")
    store.compact()
    fill(tmp_path, cells=2, minutes=5)
    wanted = {f"{n:016x}": "ok" if n < 2 else "failed" for n in range(6)}
    assert store.statuses() == wanted
    store.compact()
    assert store.statuses() == wanted


def test_a_crash_before_the_small_files_are_deleted_duplicates_no_row(tmp_path: Path) -> None:
    store = fill(tmp_path)
    before = seen(tmp_path)
    small = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    store.compact()
    for path, content in list(small.items())[::2]:
        path.write_bytes(content)
    same(before, seen(tmp_path))


def test_a_damaged_file_is_kept_and_does_not_stop_compaction(tmp_path: Path) -> None:
    store = fill(tmp_path)
    damaged = store.cells.path / f"{0:016x}.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.warns(DamagedFileWarning, match=damaged.name):
        assert store.compact() == 5
    assert damaged.exists()


@pytest.mark.parametrize("milliseconds", [0, 3, 10, 30, 60, 100, 200])
def test_a_kill_at_any_moment_loses_no_row(tmp_path: Path, milliseconds: int) -> None:
    fill(tmp_path, cells=40)
    before = seen(tmp_path)
    code = (
        "import sys; from results import Store; print('go', flush=True); "
        "Store(sys.argv[1]).compact()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(milliseconds / 1000)  # sets the moment of the kill; waits for nothing
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    same(before, seen(tmp_path))


DIES = """
import os, signal, sys
from pathlib import Path
from results import Store
Path.unlink = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
Store(sys.argv[1]).compact()
"""


def test_a_kill_while_a_file_is_compared_hides_no_row(tmp_path: Path) -> None:
    store = fill(tmp_path)
    before = seen(tmp_path)
    killed = subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(store.cells.path.glob("*-*"))) > 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(before, seen(tmp_path))
        assert store.compact() == 6
        same(before, seen(tmp_path))
    assert len(list(store.cells.path.iterdir())) == 1


def test_single_cells_are_merged_and_others_left_alone(tmp_path: Path) -> None:
    store = fill(tmp_path)
    before, scores = seen(tmp_path), sorted((tmp_path / "scores").iterdir())
    assert store.single() == {f"{n:016x}" for n in range(6)}
    store.merge([f"{n:016x}" for n in range(3)])
    (first,) = store.cells.path.glob("compacted-*")
    assert store.single() == {f"{n:016x}" for n in range(3, 6)}
    store.merge([f"{n:016x}" for n in range(5)])
    assert store.single() == {f"{5:016x}"}
    assert first in store.cells.path.glob("compacted-*")
    assert sorted((tmp_path / "scores").iterdir()) == scores
    same(before, seen(tmp_path))


def test_missing_keys_are_ignored_in_a_merge(tmp_path: Path) -> None:
    store = fill(tmp_path, cells=1)
    store.merge([f"{n:016x}" for n in range(3)])
    assert store.single() == {f"{0:016x}"}
    assert not list(store.cells.path.glob("compacted-*"))
