"""Data frames have the same columns and types, whether the cells are ok or failed."""

import math

import pandas as pd
import pytest

import results
from results.storage.schema import CELLS, NESTED

STATUSES = {
    "empty": [],
    "all ok": ["ok", "ok"],
    "all failed": ["failed", "timeout"],
    "mixed": ["failed", "ok", "diverged"],
}


def failed(key: str, status: str) -> dict[str, object]:
    return {"key": key, "status": status, "error": "why"}


@pytest.fixture
def frames(store, full_row) -> dict[str, pd.DataFrame]:
    """A frame for each of STATUSES."""
    made = {}
    for name, statuses in STATUSES.items():
        for path in store.cells.path.iterdir():
            path.unlink()
        for at, status in enumerate(statuses):
            key = f"{at:016x}"
            store.write(full_row(key) if status == "ok" else failed(key, status))
        made[name] = results.load(store.folder.path)
    return made


def test_types_do_not_depend_on_what_failed(frames):
    expected = frames["all ok"].dtypes
    assert list(expected.index) == [name for name in CELLS.names if name not in NESTED]
    for name, frame in frames.items():
        assert len(frame) == len(STATUSES[name])
        pd.testing.assert_series_equal(frame.dtypes, expected, obj=name)


def test_integers_stay_integers_beside_missing_ones(frames, full_row):
    mixed = frames["mixed"]
    ok = mixed[mixed["status"] == "ok"].iloc[0]
    row = full_row(ok["key"])
    assert ok["seed"] == row["seed"]
    assert ok["parameters"] == row["parameters"]
    assert mixed[mixed["status"] != "ok"]["parameters"].isna().all()


def test_times_have_a_time_zone(frames):
    for frame in frames.values():
        assert str(frame["started_at"].dtype) == "datetime64[us, UTC]"


def test_a_string_can_be_given_instead_of_a_path(store):
    assert results.load(str(store.folder.path)).empty


def test_rows_are_ordered_by_dataset_seed_metric_and_ratio(store, full_row):
    points = [("a", 1, "m", 0.5), ("a", 1, "m", 0.25), ("a", 0, "z", 0.5), ("B", 9, "m", 0.5)]
    for at, (dataset, seed, metric, ratio) in enumerate(points):
        row = full_row(f"{at:016x}", dataset=dataset, seed=seed, metric=metric, ratio=ratio)
        alike = {"variant": "v", "normalisation": "none", "scope": "local", "budget": "b"}
        store.write(row | alike)
    frame = results.load(store.folder.path)
    assert list(zip(frame["dataset"], frame["seed"], frame["ratio"], strict=True)) == [
        ("B", 9, 0.5),
        ("a", 0, 0.5),
        ("a", 1, 0.25),
        ("a", 1, 0.5),
    ]


def test_accuracies_are_means_over_the_seeds_of_cells_that_are_ok(store, full_row):
    alike = {"dataset": "d", "metric": "m", "normalisation": "none", "scope": "local", "ratio": 0.5}
    alike |= {"budget": "b", "collapsed": False}
    for seed, accuracy in ((0, 0.5), (1, 0.7)):
        store.write(full_row(f"{seed:016x}", seed=seed, finetuned_test_top1=accuracy, **alike))
    store.write(full_row("e" * 16, seed=2, status="failed", finetuned_test_top1=0.0, **alike))
    single = {**alike, "ratio": 0.25, "collapsed": True}
    store.write(full_row("f" * 16, seed=0, finetuned_test_top1=0.25, **single))
    quarter, half = results.accuracy_table(results.load(store.folder.path)).to_dict("records")
    assert (half["mean"], half["seeds"], half["collapsed"]) == (pytest.approx(0.6), 2, 0)
    assert half["deviation"] == pytest.approx(math.sqrt(0.02))
    assert (quarter["mean"], quarter["seeds"], quarter["collapsed"]) == (0.25, 1, 1)
    assert math.isnan(quarter["deviation"])


@pytest.mark.parametrize("at", ["baseline", "pruned", "recalibrated", "finetuned"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_stage_and_split_has_its_table(at, split, store, full_row):
    store.write(full_row())
    made = results.accuracy_table(results.load(store.folder.path), at, split)
    assert made["mean"].tolist() == [full_row()[f"{at}_{split}_top1"]]


def test_no_cells_give_an_empty_table(store):
    assert results.accuracy_table(results.load(store.folder.path)).empty


def test_cells_of_an_older_version_are_counted(store, full_row):
    row = full_row()
    del row["budget"]
    store.write(row)
    assert len(results.accuracy_table(results.load(store.folder.path))) == 1
