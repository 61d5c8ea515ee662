"""A results folder works the same on a disk, in an object store and on other file systems."""

import json
import subprocess
import threading
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import ObjectStore
from pyarrow import fs

import results
from results import DamagedFileWarning, SchemaError, Store, StoreError
from results.storage.lease import Lease
from results.storage.lease_queue import owner
from results.storage.schema import SCHEMA_VERSION, VERSION_KEY, table

KEYS = [f"{at:016x}" for at in range(4)]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Where = tuple[str, fs.FileSystem | None]


@pytest.fixture
def store(where: Where) -> Store:
    made = Store(*where)
    made.create()
    return made


def row(key: str, **changes: Any) -> dict[str, Any]:
    epochs = [{"epoch": epoch, "loss": 1 / epoch, "accuracy": 0.5} for epoch in (1, 2)]
    made = {
        "key": key,
        "baseline_key": "b" * 16,
        "status": "ok",
        "dataset": "digits",
        "seed": 0,
        "metric": "random",
        "scope": "local",
        "ratio": 0.5,
        "scores_key": "f" * 16,
        "kept": [[0], [0, 1]],
        "history": epochs,
        "baseline_history": epochs[:1],
        "finished_at": NOON,
    }
    return made | changes


def fill(store: Store) -> None:
    for at, key in enumerate(KEYS):
        store.write(row(key, seed=at, ratio=0.1 * at))
    of = {"baseline_key": "b", "dataset": "digits", "seed": 0, "metric": "random"}
    store.write_importances("f" * 16, of, [[0.1, 0.2], [0.3, 0.4, 0.5]])


def test_written_rows_are_read(store: Store) -> None:
    fill(store)
    assert store.read(["key", "seed"]).to_pylist() == [
        {"key": key, "seed": at} for at, key in enumerate(KEYS)
    ]
    store.write(row(KEYS[0], status="failed"))
    assert store.statuses() == dict.fromkeys(KEYS, "ok") | {KEYS[0]: "failed"}


def test_an_absent_folder_has_no_statuses_but_cannot_be_read(where: Where) -> None:
    store = Store(*where)
    store.check()
    assert store.statuses() == {}
    with pytest.raises(StoreError, match="there is no results folder"):
        store.read()


def test_every_table_is_the_same_after_compaction(store: Store, where: Where) -> None:
    fill(store)
    name, filesystem = where

    def seen() -> list[pd.DataFrame]:
        loads = (results.load, results.load_history, results.load_channels, results.load_scores)
        return [load(name, filesystem=filesystem) for load in loads]

    before = seen()
    assert [len(frame) for frame in before] == [4, 1 + 4 * 2, 4 * 5, 5]
    assert store.compact() == 4
    assert len(store.cells.entries()) == 1
    for one, other in zip(before, seen(), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_a_damaged_file_is_left_out_and_named(store: Store) -> None:
    fill(store)
    name = f"{KEYS[1]}.parquet"
    store.cells.write(name, store.cells.read(name)[:-20])
    with pytest.warns(DamagedFileWarning, match=name):
        assert sorted(store.statuses()) == [KEYS[0], *KEYS[2:]]
    with pytest.warns(DamagedFileWarning, match=name):
        store.compact()
    assert store.cells.has(name)


def test_a_newer_folder_is_refused_and_left_alone(store: Store) -> None:
    fill(store)
    content = json.dumps({"schema": SCHEMA_VERSION + 1}).encode()
    store.folder.write("format.json", content)
    for use in (store.check, store.create, store.read, store.compact):
        with pytest.raises(SchemaError, match="install a newer"):
            use()
    assert store.folder.read("format.json") == content
    assert len(store.cells.entries()) == 4


def test_an_older_folder_is_accepted_and_marked(store: Store) -> None:
    fill(store)
    older = table([row(KEYS[0])]).drop_columns("latency_1_ms")
    older = older.replace_schema_metadata({VERSION_KEY: b"1"})
    sink = pa.BufferOutputStream()
    pq.write_table(older, sink)
    store.cells.write(f"{KEYS[0]}.parquet", sink.getvalue())
    store.folder.write("format.json", b'{"schema": 1}')
    store.create()
    assert json.loads(store.folder.read("format.json")) == {"schema": SCHEMA_VERSION}
    assert store.read(["latency_1_ms"])["latency_1_ms"].null_count == 4
    assert len(store.statuses()) == 4


def test_one_run_at_a_time_holds_a_folder(store: Store) -> None:
    told: list[str] = []
    order: list[str] = []

    def second() -> None:
        with Lease(store.folder, told.append):
            order.append("second")

    with Lease(store.folder) as first:
        thread = threading.Thread(target=second)
        thread.start()
        while not told:
            assert thread.is_alive()
            thread.join(0.05)
        first.check()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert not store.folder.has("lease.json")
    assert (store.folder / "lease").entries() == []


def test_a_lease_that_is_not_renewed_is_taken_over_and_its_holder_notices(
    store: Store,
) -> None:
    with Lease(store.folder) as first:
        # As if the process had been suspended.
        first._stop.set()
        first._thread.join()
        with Lease(store.folder, lifetime=3.0) as second:
            assert not first._protocol.renew()
            assert second._protocol.renew()


def test_many_runs_hold_an_object_store_one_at_a_time(object_store: ObjectStore) -> None:
    store = Store(object_store.new_prefix())
    store.create()
    killed = subprocess.Popen(["true"])
    killed.wait()
    dead = owner("dead", 1) | {"number": 7, "holds": True, "pid": killed.pid}
    (store.folder / "lease").write("dead.json", json.dumps(dead).encode())
    inside, most, guard = 0, 0, threading.Lock()

    def run() -> None:
        nonlocal inside, most
        with Lease(store.folder) as lease:
            with guard:
                inside += 1
                most = max(most, inside)
            assert lease._protocol.renew()
            with guard:
                inside -= 1

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert (store.folder / "lease").entries() == []


def test_a_cell_is_written_by_one_put(object_store: ObjectStore) -> None:
    store = Store(object_store.new_prefix())
    store.create()
    object_store.requests.clear()
    for key in KEYS:
        store.write(row(key))
    wanted = [f"cells/{key}.parquet" for key in KEYS]
    sent = [one for one in object_store.requests if one.method in ("PUT", "POST")]
    assert [one.path.partition("prefix/")[2] for one in sent] == wanted


def test_many_cells_are_listed_at_once(object_store: ObjectStore) -> None:
    store = Store(object_store.new_prefix())
    store.create()
    fill(store)
    object_store.requests.clear()
    store.read(["key"])
    listings = [one for one in object_store.requests if "list-type" in one.query]
    assert len(listings) <= 4
    assert len(object_store.sent("GET")) == len(KEYS) + 1


def test_unreachable_cells_are_not_reported_as_damaged(object_store: ObjectStore) -> None:
    store = Store(object_store.new_prefix())
    store.create()
    fill(store)
    refuse = f"/cells/{KEYS[2]}.parquet"
    with (
        object_store.refusing(lambda one: "503" if one.path.endswith(refuse) else None),
        pytest.raises(StoreError, match="cannot be reached"),
    ):
        store.statuses()
    assert len(store.statuses()) == 4


@pytest.mark.parametrize("refused", ["GET", "HEAD"])
def test_an_unreachable_large_file_is_not_reported_as_damaged(
    object_store: ObjectStore, refused: str
) -> None:
    store = Store(object_store.new_prefix())
    store.create()
    for at, key in enumerate(KEYS[:2]):
        store.write(row(key, error="".join(chr(97 + (n * n + at) % 26) * 9 for n in range(9**5))))
    store.compact()
    (entry,) = store.cells.entries()
    wanted = lambda one: one.method == refused and one.path.endswith(entry.name)  # noqa: E731
    with (
        object_store.refusing(lambda one: "503" if wanted(one) else None),
        pytest.raises(StoreError, match="cannot be reached"),
    ):
        store.statuses()
    assert len(store.statuses()) == 2
