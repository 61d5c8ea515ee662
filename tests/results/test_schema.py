"""The schema stores rows without loss, refuses invalid rows and does not change unnoticed."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import results
from results import DamagedFileWarning, SchemaError
from results.storage.earlier_versions import columns_of
from results.storage.schema import (
    CELLS,
    IMPORTANCES,
    NESTED,
    SCHEMA_VERSION,
    STATUSES,
    VERSION_KEY,
    table,
)

PINNED = Path(__file__).with_name(f"schema_{SCHEMA_VERSION}.txt")
EARLIER = range(1, SCHEMA_VERSION)


def test_columns_and_types_agree_with_the_pinned_list():
    written = [
        f"{name}.{field.name} {field.type}"
        for name, schema in (("cells", CELLS), ("scores", IMPORTANCES))
        for field in schema
    ]
    pinned = PINNED.read_text().splitlines() if PINNED.exists() else []
    assert written == pinned, (
        "a column or its type has changed: existing files would be misread. Increase "
        f"SCHEMA_VERSION and store the new columns beside {PINNED.name}"
    )


def pinned_columns(version: int, of: str = "cells") -> list[str]:
    """The columns in the pinned list of a version."""
    lines = PINNED.with_name(f"schema_{version}.txt").read_text().splitlines()
    names = [line.split()[0].partition(".") for line in lines]
    return [name for of_table, _, name in names if of_table == of]


def write_earlier(store, version: int, row: dict, without: str | None = None) -> None:
    """Writes a cell's file as that version of the schema did."""
    columns = [name for name in pinned_columns(version) if name != without]
    written = table([row]).select(columns)
    if version < 7:
        # Their epochs had no step.
        at, epochs = columns.index("history"), CELLS.field("baseline_history")
        written = written.set_column(at, "history", written["history"].cast(epochs.type))
    marked = written.replace_schema_metadata({VERSION_KEY: str(version).encode()})
    pq.write_table(marked, store.cells.path / f"{row['key']}.parquet")


@pytest.mark.parametrize("version", [*EARLIER, SCHEMA_VERSION])
def test_the_columns_of_every_version_are_known(version):
    listed = {*pinned_columns(version), *pinned_columns(version, "scores")}
    assert columns_of(version) == listed


@pytest.mark.parametrize("version", EARLIER)
def test_a_row_of_an_earlier_version_is_read_with_the_new_columns_null(version, store, full_row):
    row = full_row()
    write_earlier(store, version, row)
    new = set(CELLS.names) - columns_of(version)
    assert new
    images = row["train_images"]
    derived = {"ratio_of": "parameters", "baseline_images": images, "finetune_images": images}
    # The network of every earlier row is a SimpleNet at 32 x 32.
    derived |= {"network_options": "{}", "groups": "all", "combine": "mean"}
    derived |= {"image_height": 32, "image_width": 32}
    derived |= {"compensation": "none", "compensation_options": "{}"}
    derived |= {"mac_ratio": float(row["macs"]) / row["macs_full"]}
    derived |= {"finetune": "finetune", "schedule": "one_shot", "schedule_options": "{}"}
    # Since version 7 the epochs have a step.
    epochs = [epoch if version >= 7 else epoch | {"step": None} for epoch in row["history"]]
    expected = row | {"history": epochs} | {name: derived.get(name) for name in new}
    assert store.read(CELLS.names).to_pylist() == [expected]


@pytest.mark.parametrize("version", range(1, 3))
@pytest.mark.parametrize(
    ("budget", "ratio_of", "widths_of"),
    [
        ("uniform_parameters", "parameters", None),
        ("uniform_channels", "channels", None),
        ("global", "parameters", None),
        ("widths_of(kse(alpha=2.0))", "parameters", "kse(alpha=2.0)"),
        (None, None, None),
    ],
)
def test_ratio_of_and_widths_of_are_derived_from_the_budget_of_earlier_rows(
    version, budget, ratio_of, widths_of, store, full_row
):
    write_earlier(store, version, full_row(budget=budget))
    derived = {"ratio_of": ratio_of, "widths_of": widths_of}
    assert store.read(["ratio_of", "widths_of"]).to_pylist() == [derived]
    chosen = results.load(store.folder, filters=[("ratio_of", "==", "channels")])
    assert len(chosen) == (ratio_of == "channels")
    store.compact()
    assert store.read(["widths_of"]).to_pylist() == [{"widths_of": widths_of}]


def test_earlier_rows_are_found_by_what_is_derived(store, full_row):
    wanted, unknown = full_row(), full_row("f" * 16, status="failed", variant=None)
    for row in (wanted, unknown):
        write_earlier(store, 4, row)
    wide = [("image_width", "==", 32), ("groups", "==", "all"), ("compensation", "==", "none")]
    assert results.load(store.folder, filters=wide)["key"].tolist() == [wanted["key"]]
    store.compact()
    assert results.load(store.folder, filters=wide)["key"].tolist() == [wanted["key"]]
    frame = results.load(store.folder)
    # A row that names no network says nothing of its groups.
    assert frame["groups"].isna().tolist() == [False, True]
    assert frame["group_names"].isna().all()


@pytest.mark.parametrize("version", EARLIER)
def test_an_earlier_file_without_a_column_of_its_version_is_damaged(version, store, full_row):
    write_earlier(store, version, full_row(), without="finetuned_test_top1")
    with pytest.warns(DamagedFileWarning, match="lacks the column finetuned_test_top1"):
        assert store.read().num_rows == 0


def test_every_column_has_a_description():
    assert [field.name for field in CELLS if not field.metadata[b"description"]] == []


def test_a_full_row_is_read_back_as_it_was(store, full_row):
    row = full_row()
    store.write(row)
    read = store.read(CELLS.names).to_pylist()
    assert read == [row]
    assert set(read[0]) == set(CELLS.names)


def test_columns_that_a_row_leaves_out_are_null(store):
    store.write({"key": "0" * 16, "status": "failed"})
    expected = dict.fromkeys(CELLS.names) | {"key": "0" * 16, "status": "failed"}
    assert store.read(CELLS.names).to_pylist() == [expected]


def test_a_file_can_be_read_without_this_package(store, full_row):
    row = full_row()
    store.write(row)
    assert pq.read_table(store.cells.path / f"{row['key']}.parquet").to_pylist() == [row]


def test_the_nested_columns_are_columns():
    assert set(NESTED) < set(CELLS.names)


@pytest.mark.parametrize("status", STATUSES)
def test_known_statuses_are_accepted(status, full_row):
    assert table([full_row(status=status)])["status"].to_pylist() == [status]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"acuracy": 0.5}, ["no column acuracy"]),
        ({"b": 1, "a": 1}, ["no column a, b"]),
        ({"status": "fine"}, ["'fine'", *STATUSES]),
        ({"status": None}, ["None", "allowed"]),
        ({"seed": "first"}, ["does not fit"]),
        ({"seed": 0.5}, ["does not fit", "seed is 0.5"]),
        ({"seed": True}, ["does not fit"]),
        ({"key": 7}, ["does not fit"]),
        ({"epochs": 2**31}, ["does not fit"]),
        ({"seed": 2**63}, ["does not fit"]),
        ({"ratio": "0.5"}, ["does not fit"]),
        ({"metric": 3}, ["does not fit"]),
        ({"collapsed": "no"}, ["does not fit"]),
        ({"widths": 64}, ["does not fit"]),
        ({"widths": ["64"]}, ["does not fit"]),
        ({"group_names": "conv1"}, ["does not fit"]),
        ({"group_names": [1]}, ["does not fit"]),
        ({"image_height": 32.5}, ["does not fit", "image_height is 32.5"]),
        ({"kept": [1, 2]}, ["does not fit"]),
        ({"history": [{"epoch": "one"}]}, ["does not fit"]),
        ({"started_at": "today"}, ["does not fit"]),
    ],
    ids=str,
)
def test_an_invalid_row_is_refused(changes, words, full_row):
    with pytest.raises(SchemaError) as caught:
        table([full_row(**changes)])
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_row_without_a_status_is_refused(full_row):
    row = full_row()
    del row["status"]
    with pytest.raises(SchemaError, match="status None"):
        table([row])
