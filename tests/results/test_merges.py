"""Merges lose, double and shadow no row, whatever other processes read and write meanwhile."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import ObjectStore
from pyarrow import fs

from results import DamagedFileWarning, Store
from results.storage.filters import filter_of
from results.storage.folder import Folder
from results.storage.lease import Lease
from results.storage.parquet_files import File
from results.storage.reading import files_in, read_all, read_cells, read_importances
from results.storage.schema import CELLS, IMPORTANCES

KEYS = [f"{at:016x}" for at in range(4)]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OF = {"baseline_key": "b", "dataset": "digits", "seed": 0, "metric": "random"}


@pytest.fixture
def store(where: tuple[str, fs.FileSystem | None]) -> Store:
    """An empty store on each kind of file system."""
    made = Store(*where)
    made.create()
    return made


def row(key: str, status: str = "ok", minutes: int = 0) -> dict[str, object]:
    finished = NOON + timedelta(minutes=minutes)
    return {"key": key, "status": status, "finished_at": finished}


def fill(store: Store) -> dict[str, bytes]:
    """Writes four cells; returns their files."""
    for key in KEYS:
        store.write(row(key))
    return contents(store)


def contents(store: Store) -> dict[str, bytes]:
    return {entry.name: store.cells.read(entry.name) for entry in store.cells.entries()}


class WrittenMeanwhile(Store):
    """A store in whose folder another process writes a row just after the first merged file."""

    def __init__(self, store: Store, late: dict[str, object]) -> None:
        super().__init__(store.folder)
        self.other, self.late = store, [late]

    def _write_file(self, folder: Folder, name: str, content: pa.Table) -> None:
        super()._write_file(folder, name, content)
        if self.late:
            self.other.write(self.late.pop())


@pytest.mark.parametrize("minutes", [1, -60], ids=["clocks agree", "a clock is behind"])
@pytest.mark.parametrize(
    "how", [Store.compact, lambda store: store.merge(KEYS)], ids=["compact", "merge"]
)
def test_a_row_that_is_written_during_a_merge_counts(
    store: Store, how: Callable[[Store], Any], minutes: int
) -> None:
    fill(store)
    store.write(row(KEYS[0], "failed"))
    how(WrittenMeanwhile(store, row(KEYS[0], minutes=minutes)))
    assert store.statuses() == dict.fromkeys(KEYS, "ok")
    assert len(store.cells.entries()) == 2
    store.compact()
    assert store.statuses() == dict.fromkeys(KEYS, "ok")
    assert len(store.cells.entries()) == 1


@pytest.mark.parametrize(
    "merges",
    [[Store.compact], [lambda store: store.merge(KEYS)] * 2, [lambda store: store.merge(KEYS[:1])]],
    ids=["compact", "merge", "merge one cell"],
)
def test_a_row_that_was_run_again_counts_though_its_clock_is_behind(
    store: Store, merges: list[Callable[[Store], Any]]
) -> None:
    for key in KEYS:
        store.write(row(key, "failed", minutes=120))
    store.compact()
    store.write(row(KEYS[0]))
    wanted = dict.fromkeys(KEYS, "failed") | {KEYS[0]: "ok"}
    ok = filter_of([("status", "==", "ok")], CELLS)
    for merge in [lambda _: None, *merges]:
        merge(store)
        assert store.statuses() == wanted
        assert store.row(KEYS[0], ["status"]) == {"key": KEYS[0], "status": "ok"}
        found = read_cells(lambda: files_in(store.cells), ["key"], ok)
        assert found["key"].to_pylist() == KEYS[:1]
    assert len(store.cells.entries()) == 1


def test_a_file_that_was_set_aside_counts_until_the_cell_runs_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for minutes, status in [(240, "failed"), (120, "timeout"), (0, "ok")]:
        store.write(row(KEYS[0], status, minutes))
        assert store.statuses() == {KEYS[0]: status}
        file = store.cells.path / f"{KEYS[0]}.parquet"
        if status == "failed":
            file.rename(file.with_stem("compacted-" + "0" * 16))
        if status == "timeout":
            file.rename(file.with_stem(f"{KEYS[0]}-{'0' * 8}"))
            assert store.statuses() == {KEYS[0]: status}
            assert store.single() == {KEYS[0]}
    store.merge(KEYS)
    assert store.statuses() == {KEYS[0]: "ok"}
    assert len(store.cells.entries()) == 1


def test_compaction_waits_until_no_run_holds_the_folder(store: Store) -> None:
    fill(store)
    told: list[str] = []
    with Lease(store.folder):
        thread = threading.Thread(target=store.compact, args=[told.append])
        thread.start()
        while not told:
            assert thread.is_alive()
            thread.join(0.05)
        assert len(store.cells.entries()) == 4
    thread.join()
    assert len(told) == 1
    assert len(store.cells.entries()) == 1
    with Lease(store.folder, pytest.fail):
        pass


def test_merges_in_a_row_lose_and_exchange_no_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store)
    keys = [f"{at:016x}" for at in range(4, 16)]
    new = iter(keys)

    def find() -> list[File]:
        # Two cells end, are listed, and are merged before they are read.
        pair = list(islice(new, 2))
        for key in pair:
            store.write(row(key))
        files = files_in(store.cells)
        store.merge(pair)
        return files

    found = read_all(find, pa.schema([CELLS.field("key")]))
    assert len(found) == 4 + 6
    read = []
    for file, one in found:
        assert isinstance(one, pa.Table)
        stored = pq.read_table(pa.BufferReader(store.cells.read(file.entry.name)))
        assert one["key"].to_pylist() == stored["key"].to_pylist()
        read += one["key"].to_pylist()
    assert sorted(read) == [*KEYS, *keys]


def test_a_file_that_is_deleted_after_it_was_listed_is_not_damaged(store: Store) -> None:
    single = fill(store)
    damaged = f"{KEYS[1]}.parquet"
    store.compact()
    for name, content in single.items():
        store.cells.write(name, content[:-20] if name == damaged else content)

    def find() -> list[File]:
        # The merged file is complete, and some single files are deleted after the listing.
        files = files_in(store.cells)
        for key in KEYS[2:]:
            store.cells.delete(f"{key}.parquet")
        return files

    with pytest.warns(DamagedFileWarning) as caught:
        assert len(read_cells(find, ["key"])) == 4
    assert [damaged in str(warning.message) for warning in caught] == [True]


def test_a_filter_sees_no_row_twice_if_cells_are_merged_before_they_are_read(store: Store) -> None:
    fill(store)
    listings = 0

    def find() -> list[File]:
        nonlocal listings
        listings += 1
        if listings == 2:
            # A cell was run again, then all were merged; no single file has been deleted yet.
            store.write(row(KEYS[0], "failed", minutes=1))
            single = contents(store)
            store.compact()
            for name, content in single.items():
                store.cells.write(name, content)
        return files_in(store.cells)

    chosen = filter_of([("status", "==", "ok")], CELLS)
    assert read_cells(find, ["key"], chosen)["key"].to_pylist() == KEYS[1:]


def test_the_row_of_one_cell_is_its_newest(store: Store) -> None:
    assert store.row(KEYS[0], ["status"]) is None
    fill(store)
    assert store.row(KEYS[0], ["status"]) == {"key": KEYS[0], "status": "ok"}
    store.compact()
    assert store.row(KEYS[0], ["status"]) == {"key": KEYS[0], "status": "ok"}
    store.write(row(KEYS[0], "failed", minutes=1))
    assert store.row(KEYS[0], ["status"]) == {"key": KEYS[0], "status": "failed"}
    assert store.row(KEYS[1], ["status"]) == {"key": KEYS[1], "status": "ok"}
    assert store.row("e" * 16, ["status"]) is None


@pytest.mark.parametrize("key", ["0" * 16, "f" * 16], ids=["listed first", "listed last"])
def test_scores_that_are_written_again_replace_the_merged_ones(store: Store, key: str) -> None:
    for name in (key, "8" * 16):
        store.write_importances(name, OF, [[0.1, 0.2]])
    store.compact()
    store.write_importances(key, OF, [[0.3, 0.4]])

    def scores(*filters: tuple[str, str, object]) -> list[float]:
        chosen = filter_of(list(filters), IMPORTANCES)
        return read_importances(lambda: files_in(store.importances), chosen)["score"].to_pylist()

    for _ in range(2):
        assert scores(("scores_key", "==", key)) == [0.3, 0.4]
        assert sorted(scores(("score", "<", 0.35))) == [0.1, 0.2, 0.3]
        store.compact()


def test_earlier_merged_files_are_deleted_before_single_ones(object_store: ObjectStore) -> None:
    # Otherwise a kill in between would leave outdated scores beside the new ones.
    store = Store(object_store.new_prefix())
    fill(store)
    store.merge(KEYS)
    fill(store)
    object_store.requests.clear()
    store.compact()
    deleted = [one.path for one in object_store.sent("DELETE") if "/cells/" in one.path]
    assert ["compacted-" in path for path in deleted] == [True, False, False, False, False]
