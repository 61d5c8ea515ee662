"""Inputs of `load` and the other loaders: folders, files, lists, columns and filters."""

import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pytest

import results
from results import DamagedFileWarning, ManyFilesWarning, SchemaError, Store, StoreError
from results.storage import reading
from results.storage.frames import CHANNELS, HISTORY
from results.storage.parquet_files import ROWS_OF_A_GROUP

KEYS = [f"{at:016x}" for at in range(6)]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOADS = [results.load, results.load_history, results.load_channels, results.load_scores]


def row(at: int, minutes: int = 0, **changes: Any) -> dict[str, Any]:
    """Cell `at`, of baseline `at % 2`."""
    made = {
        "key": KEYS[at],
        "baseline_key": f"baseline-{at % 2}",
        "status": "ok",
        "dataset": "cifar10" if at % 2 else "svhn",
        "seed": at % 2,
        "metric": "random",
        "normalisation": "none",
        "scope": "local",
        "budget": "uniform_parameters",
        "ratio": at / 10,
        "scores_key": f"{at % 2}" * 16,
        "kept": [[0], [0, 1]],
        "history": [{"epoch": 1, "loss": 0.5, "accuracy": at / 10}],
        "baseline_history": [
            {"epoch": 1, "loss": 2.0, "accuracy": 0.25},
            {"epoch": 2, "loss": 1.0, "accuracy": 0.5},
        ],
        "finished_at": NOON + timedelta(minutes=minutes),
    }
    return made | changes


def fill(folder: Path, rows: list[dict[str, Any]]) -> Path:
    store = Store(folder)
    store.create()
    for one in rows:
        store.write(one)
        of = {"baseline_key": "b", "dataset": one["dataset"], "seed": 0, "metric": "random"}
        store.write_importances(one["scores_key"], of, [[0.1, 0.2], [0.3, 0.4, 0.5]])
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six cells of two baselines."""
    return fill(tmp_path / "runs", [row(at) for at in range(6)])


@pytest.fixture(params=["small files", "compacted", "groups of two rows"])
def stored(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same cells in files of different kinds."""
    if request.param == "groups of two rows":
        monkeypatch.setattr("results.storage.parquet_files.ROWS_OF_A_GROUP", 2)
        monkeypatch.setattr("results.storage.parquet_files._READ_WHOLE_BYTES", 0)
    if request.param != "small files":
        Store(folder).compact()
    return folder


@pytest.mark.parametrize(
    "filters",
    [
        [("dataset", "==", "cifar10"), ("ratio", ">", 0.1)],
        [[("ratio", "==", 0.3)], [("key", "in", [KEYS[5]])]],
        (pc.field("dataset") == "cifar10") & (pc.field("ratio") > 0.1),
    ],
    ids=["all", "any", "expression"],
)
def test_filters_choose_the_cells_of_every_table(stored: Path, filters: Any) -> None:
    assert results.load(stored, filters=filters)["key"].tolist() == [KEYS[3], KEYS[5]]
    history = results.load_history(stored, filters=filters)
    assert history["key"].dropna().tolist() == [KEYS[3], KEYS[5]]
    assert history["baseline_key"].unique().tolist() == ["baseline-1"]
    channels = results.load_channels(stored, filters=filters)
    assert sorted(channels["key"].unique()) == [KEYS[3], KEYS[5]]


def test_every_table_of_cells_says_the_compensation(tmp_path: Path) -> None:
    rows = [row(0, compensation="none"), row(2, compensation="least_squares")]
    folder = fill(tmp_path / "runs", rows)
    expected = {KEYS[0]: "none", KEYS[2]: "least_squares"}
    for load in (results.load, results.load_history, results.load_channels):
        found = load(folder).dropna(subset="key").drop_duplicates("key")
        assert found.set_index("key")["compensation"].to_dict() == expected
    chosen = [("compensation", "==", "none")]
    assert results.load_channels(folder, filters=chosen)["key"].unique().tolist() == [KEYS[0]]


def test_channels_have_the_name_of_their_group(tmp_path: Path) -> None:
    named = row(0, group_names=["conv1", "layer1.0.conv1"])
    folder = fill(tmp_path / "runs", [named, row(1)])
    for _ in range(2):
        channels = results.load_channels(folder)
        first = channels[channels["key"] == KEYS[0]]
        assert first["group"].tolist() == ["conv1"] * 2 + ["layer1.0.conv1"] * 3
        assert first["layer"].tolist() == [0, 0, 1, 1, 1]
        # Rows of earlier versions have no names.
        assert channels.loc[channels["key"] == KEYS[1], "group"].isna().all()
        Store(folder).compact()


def test_scores_are_filtered_by_their_own_columns(stored: Path) -> None:
    found = results.load_scores(stored, filters=[("layer", "==", 1), ("dataset", "==", "svhn")])
    assert found["score"].tolist() == [0.3, 0.4, 0.5]


def test_scores_in_a_file_of_several_row_groups_are_filtered(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    of = {"baseline_key": "b", "dataset": "digits", "seed": 0, "metric": "random"}
    widths = [ROWS_OF_A_GROUP, 5]
    store.write_importances("0" * 16, of, [[float(layer)] * n for layer, n in enumerate(widths)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for filters, count in (
            ([("layer", "==", 1)], 5),
            ([("score", "<", 0.5)], ROWS_OF_A_GROUP),
            ([("dataset", "==", "mnist")], 0),
            (pc.scalar(True), sum(widths)),
        ):
            assert len(results.load_scores(tmp_path, filters=filters)) == count


def test_a_file_of_several_row_groups_with_another_key_is_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    of = {"baseline_key": "b", "dataset": "digits", "seed": 0, "metric": "random"}
    store.write_importances("0" * 16, of, [[0.5] * (ROWS_OF_A_GROUP + 5)])
    (file,) = store.importances.path.iterdir()
    file.rename(file.with_stem("1" * 16))
    for filters in (None, [("channel", ">", ROWS_OF_A_GROUP)]):
        with pytest.warns(DamagedFileWarning, match="its scores_key is not its name"):
            assert len(results.load_scores(tmp_path, filters=filters)) == 0


def test_a_filter_that_nothing_fulfils_gives_empty_tables_of_the_same_types(stored: Path) -> None:
    for load in LOADS[:2]:
        whole, empty = load(stored), load(stored, filters=[("dataset", "==", "mnist")])
        assert len(empty) == 0
        pd.testing.assert_series_equal(whole.dtypes, empty.dtypes)
    assert results.load_channels(stored, filters=[("seed", "==", 9)]).columns.tolist() == CHANNELS


def test_a_filter_ignores_rows_that_a_later_one_replaced(stored: Path) -> None:
    later = [row(1, minutes=5, status="failed"), row(2, minutes=5, ratio=0.9)]
    fill(stored, later)
    assert results.load(stored, filters=[("status", "==", "failed")])["key"].tolist() == [KEYS[1]]
    ok = results.load(stored, filters=[("status", "==", "ok")])
    assert sorted(ok["key"]) == [KEYS[0], *KEYS[2:]]
    assert len(results.load(stored, filters=[("ratio", "==", 0.2)])) == 0


@pytest.mark.parametrize("load", LOADS)
def test_columns_come_in_the_order_asked_for(load: Callable[..., pd.DataFrame], stored: Path):
    whole = load(stored)
    names = ["metric", "dataset"]
    pd.testing.assert_frame_equal(load(stored, columns=names), whole[names])


def test_nested_columns_are_read_when_named(stored: Path) -> None:
    found = results.load(stored, columns=["key", "kept"], filters=[("ratio", "==", 0.5)])
    assert [[list(layer) for layer in cell] for cell in found["kept"]] == [[[0], [0, 1]]]


@pytest.mark.parametrize("load", LOADS)
def test_an_unknown_column_is_refused(load: Callable[..., pd.DataFrame], folder: Path) -> None:
    with pytest.raises(ValueError, match="no column acuracy; allowed are"):
        load(folder, columns=["acuracy"])
    with pytest.raises(ValueError, match=r"columns is 'seed'; give a list, such as \['seed'\]"):
        load(folder, columns="seed")
    for filters in (
        [("acuracy", ">", 0.5)],
        pc.field("acuracy") > 0.5,
        "acuracy",
        [("seed", "~", 1)],
    ):
        with pytest.raises(ValueError, match="cannot be used"):
            load(folder, filters=filters)


def test_history_has_one_row_per_epoch_and_each_baseline_once(folder: Path) -> None:
    frame = results.load_history(folder)
    assert frame.columns.tolist() == HISTORY
    baseline = frame[frame["stage"] == "baseline"]
    assert baseline[["baseline_key", "epoch", "loss", "accuracy"]].to_numpy().tolist() == [
        ["baseline-1", 1, 2.0, 0.25],
        ["baseline-1", 2, 1.0, 0.5],
        ["baseline-0", 1, 2.0, 0.25],
        ["baseline-0", 2, 1.0, 0.5],
    ]
    of_cells = ["key", "metric", "scope", "budget", "normalisation", "compensation", "ratio"]
    assert baseline[of_cells].isna().all(axis=None)
    finetune = frame[frame["stage"] == "finetune"]
    assert finetune[["key", "accuracy"]].to_numpy().tolist() == [
        [KEYS[at], at / 10] for at in (1, 3, 5, 0, 2, 4)
    ]
    assert len(frame) == 4 + 6


def test_a_baseline_trained_twice_has_the_history_of_the_last_cell(tmp_path: Path) -> None:
    again = [{"epoch": 1, "loss": 9.0, "accuracy": 0.0}]
    rows = [row(0), row(2, minutes=9, baseline_history=again), row(4, minutes=5)]
    rows.append(row(1, minutes=20, baseline_history=None))
    frame = results.load_history(fill(tmp_path, rows))
    assert frame[frame["stage"] == "baseline"]["loss"].tolist() == [9.0]


def test_several_folders_are_combined_and_the_later_row_counts(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", [row(0), row(1, minutes=5), row(2)])
    other = fill(tmp_path / "other", [row(1, ratio=0.9), row(2, minutes=5, ratio=0.9), row(3)])
    for both in ([one, other], [other, str(one)]):
        frame = results.load(both).set_index("key")["ratio"]
        assert frame.sort_index().to_dict() == {
            KEYS[0]: 0.0,
            KEYS[1]: 0.1,
            KEYS[2]: 0.9,
            KEYS[3]: 0.3,
        }
        assert len(results.load_scores(both)) == 2 * 5
        assert len(results.load_channels(both)) == 4 * 5


def test_of_rows_with_equal_times_the_later_source_counts(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", [row(1)])
    other = fill(tmp_path / "other", [row(1, ratio=0.9)])
    assert results.load([one, other])["ratio"].tolist() == [0.9]
    assert results.load([other, one])["ratio"].tolist() == [0.1]


def test_a_single_file_is_loaded_with_the_scores_of_its_folder(stored: Path) -> None:
    files = sorted((stored / "cells").iterdir())
    found = results.load(files[0])
    whole = results.load(stored)
    wanted = whole[whole["key"].isin(found["key"])].reset_index(drop=True)
    assert len(wanted) in (1, 6)
    pd.testing.assert_frame_equal(found, wanted)
    pd.testing.assert_frame_equal(results.load(files), whole)
    assert len(results.load_channels(files)) == 6 * 5
    scores = sorted((stored / "scores").iterdir())
    pd.testing.assert_frame_equal(results.load_scores(scores), results.load_scores(stored))


def test_a_file_given_by_path_may_have_any_name(stored: Path, tmp_path: Path) -> None:
    Store(stored).compact()
    (file,) = (stored / "cells").iterdir()
    moved = file.rename(tmp_path / "thesis.parquet")
    assert len(results.load(moved)) == 6
    assert len(results.load_channels([moved, *(stored / "scores").iterdir()])) == 6 * 5


def test_a_file_given_by_path_must_be_intact(folder: Path, tmp_path: Path) -> None:
    first, second, *_ = sorted((folder / "cells").iterdir())
    second.write_bytes(first.read_bytes())
    with pytest.raises(StoreError, match=f"{second.name} cannot be read: its key is not its name"):
        results.load(second)
    first.write_bytes(first.read_bytes()[:-20])
    with pytest.raises(StoreError, match=f"{first.name} cannot be read"):
        results.load([folder, first])
    (tmp_path / "x.parquet").write_bytes(b"")
    for source in (tmp_path / "absent", tmp_path / "absent.parquet", tmp_path / "x.parquet"):
        with pytest.raises(StoreError, match=source.name):
            results.load(source)


def test_a_newer_folder_is_refused(folder: Path) -> None:
    (folder / "format.json").write_text('{"schema": 99}')
    for load in LOADS:
        with pytest.raises(SchemaError, match="install a newer"):
            load(folder)


def test_very_many_files_cause_a_warning_that_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    results.load(folder)
    assert len(recwarn) == 0
    monkeypatch.setattr("results.storage.frames.MANY", 6)
    for load in LOADS[:3]:
        with pytest.warns(ManyFilesWarning, match=f"prune-sweep compact {folder}"):
            load(folder)
    Store(folder).compact()
    results.load(folder)
    assert len(recwarn) == 0


def test_files_merged_while_they_are_read_are_read_from_the_merged_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, read_table = results.load(folder), reading.read_table

    def merged_first(*what: Any) -> Any:
        monkeypatch.setattr(reading, "read_table", read_table)
        Store(folder).compact()
        return read_table(*what)

    monkeypatch.setattr(reading, "read_table", merged_first)
    pd.testing.assert_frame_equal(results.load(folder), before)
