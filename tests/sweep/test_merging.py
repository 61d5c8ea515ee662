"""While a sweep runs, the files of cells that ended become one; no row changes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

import results
from results import Store, StoreError
from sweep.execution.merging import FileMerger
from sweep.planning.grid import plan


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files are many."""
    monkeypatch.setattr("sweep.execution.merging.MANY", 3)


def key(number: int) -> str:
    return f"{number:016x}"


def filled(folder: Path, cells: int) -> Store:
    store = Store(folder)
    store.create()
    for number in range(cells):
        store.write({"key": key(number), "status": "ok"})
    return store


def merged(store: Store) -> int:
    return len(list(store.cells.path.glob("compacted-*")))


def test_a_file_for_every_so_many_cells(few, tmp_path):
    store = filled(tmp_path, 8)
    merger = FileMerger(store, [], pytest.fail)
    for number in range(8):
        merger.ended(key(number))
        assert merged(store) == (number + 1) // 3
    assert store.single() == {key(6), key(7)}
    assert set(store.statuses()) == {key(number) for number in range(8)}


def test_what_a_run_before_left_is_merged_at_once(few, tmp_path):
    store = filled(tmp_path, 8)
    FileMerger(store, map(key, range(7)), pytest.fail)
    assert merged(store) == 1
    assert store.single() == {key(7)}


def test_a_store_that_refuses_does_not_end_the_sweep(few, tmp_path, monkeypatch):
    store, said = filled(tmp_path, 8), []
    merger = FileMerger(store, [], said.append)
    with monkeypatch.context() as patched:
        patched.setattr(store, "_write_file", refuse)
        for number in range(4):
            merger.ended(key(number))
    assert said == ["the files of finished cells were not merged; no row is lost: no room"]
    assert len(store.single()) == 8
    for number in range(4, 6):
        merger.ended(key(number))
    assert store.single() == {key(n) for n in (0, 1, 2, 6, 7)}


def refuse(*_: object) -> None:
    raise StoreError("no room")


def test_a_run_merges_and_its_rows_stay_the_same(few, tmp_path, run_digits):
    plain, merged_by_runs = tmp_path / "plain", tmp_path / "merged_by_runs"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sweep.execution.merging.MANY", 1_000)
        assert run_digits(plain).exit_code == 0
    assert run_digits(merged_by_runs).exit_code == 0
    cells = len(Store(plain).single())
    assert merged(Store(plain)) == 0
    assert merged(Store(merged_by_runs)) == cells // 3
    same = ["key", "status", "finetuned_test_top1", "parameters", "macs"]
    pd.testing.assert_frame_equal(results.load(plain)[same], results.load(merged_by_runs)[same])
    again = run_digits(merged_by_runs)
    assert f"{cells} done before, 0 to run" in again.output


def test_a_cell_that_is_run_again_keeps_its_file_until_the_next_run(
    few, tmp_path, spec, run_digits
):
    changes = {"metrics": ["output_l1"]}
    keys = {cell.key for cell in plan(spec(changes)).cells}
    assert len(keys) > 3
    store = Store(tmp_path)
    store.create()
    for one in keys:
        store.write(
            {"key": one, "status": "failed", "finished_at": datetime(2026, 1, 1, tzinfo=UTC)}
        )
    assert run_digits(tmp_path, changes, "--retry", "failed").exit_code == 0
    assert store.single() == keys
    assert run_digits(tmp_path, changes).exit_code == 0
    assert not store.single()
    assert store.statuses() == dict.fromkeys(keys, "ok")
