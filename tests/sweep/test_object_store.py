"""A sweep whose results lie in an object store, which may fail now and then or for good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from object_store import ObjectStore, Request

import results
from results import Store

# What differs from run to run.
VOLATILE = ["started_at", "finished_at", "git_revision"]
TINY = {"metrics": ["entropy_gaussian"], "ratios": [0.4, 0.6], "scopes": ["local"]}


def table(where: str | Path) -> pd.DataFrame:
    frame = results.load(where)
    timed = frame.filter(regex="seconds|latency").columns
    return frame.drop(columns=[*VOLATILE, *timed])


@pytest.fixture
def sweep(write_spec: Callable[..., Path], invoke: Callable[..., Result]) -> Callable[..., Result]:
    """Runs a tiny sweep, in this process."""
    spec = write_spec(TINY)
    return lambda out: invoke("run", spec, "--out", out, "--executor", "serial")


@pytest.fixture(scope="module")
def local() -> dict[str, pd.DataFrame]:
    return {}


@pytest.fixture
def on_disk(
    sweep: Callable[..., Result], tmp_path: Path, local: dict[str, pd.DataFrame]
) -> pd.DataFrame:
    """The table of the same sweep on a disk, which is run once."""
    if "table" not in local:
        assert sweep(tmp_path / "runs").exit_code == 0
        local["table"] = table(tmp_path / "runs")
    return local["table"]


def test_it_gives_the_numbers_of_a_disk_with_one_put_a_cell(
    object_store: ObjectStore,
    sweep: Callable[..., Result],
    on_disk: pd.DataFrame,
    invoke: Callable[..., Result],
) -> None:
    where = object_store.new_prefix()
    done = sweep(where)
    assert done.exit_code == 0, done.output
    pd.testing.assert_frame_equal(table(where), on_disk)
    written = [one.path for one in object_store.sent("PUT") if "/cells/" in one.path]
    cells = [path for path in written if path.endswith(".parquet")]
    assert len(cells) == len(set(cells)) == 2
    assert not [one for one in object_store.requests if one.method == "POST"]

    object_store.requests.clear()
    assert sweep(where).exit_code == 0
    assert not [one for one in object_store.sent("PUT") if one.path.endswith(".parquet")]

    told = invoke("status", where)
    assert told.exit_code == 0, told.output
    assert told.output.startswith(f"small in {where}")
    assert "2 cells in one file" in invoke("compact", where).output
    pd.testing.assert_frame_equal(table(where), on_disk)


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Slow Down"])
def test_it_survives_a_store_that_often_fails(
    status: str, object_store: ObjectStore, sweep: Callable[..., Result], on_disk: pd.DataFrame
) -> None:
    where = object_store.new_prefix()
    with object_store.refusing(lambda _: None if len(object_store.requests) % 3 else status):
        done = sweep(where)
    assert done.exit_code == 0, done.output
    pd.testing.assert_frame_equal(table(where), on_disk)


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_it_ends_with_an_error_that_names_the_place_and_goes_on_later(
    method: str, object_store: ObjectStore, sweep: Callable[..., Result], on_disk: pd.DataFrame
) -> None:
    where = object_store.new_prefix()

    def after_the_first_cell(request: Request) -> str | None:
        cells = [one for one in object_store.sent("PUT") if one.path.endswith(".parquet")]
        first = len({one.path for one in cells if "/cells/" in one.path}) > 1
        return "503 Slow Down" if first and request.method == method else None

    with object_store.refusing(after_the_first_cell):
        done = sweep(where)
    assert done.exit_code == 2, done.output
    (error,) = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert "some/prefix" in error
    assert "cannot be reached" in error
    left = Store(where).statuses()
    assert set(left.values()) == {"ok"}
    assert len(left) == {"PUT": 1, "GET": 2}[method]
    done = sweep(where)
    assert done.exit_code == 0, done.output
    pd.testing.assert_frame_equal(table(where), on_disk)


@pytest.mark.parametrize("command", ["status", "compact", "run", "plan"])
def test_a_store_that_does_not_answer_is_told(
    command: str,
    object_store: ObjectStore,
    write_spec: Callable[..., Path],
    invoke: Callable[..., Result],
) -> None:
    where = object_store.new_prefix()
    words = [write_spec(TINY), "--out", where] if command in ("run", "plan") else [where]
    with object_store.refusing(lambda _: "503 Slow Down"):
        done = invoke(command, *words)
    assert done.exit_code == 2, done.output
    assert "some/prefix" in done.output
    assert "Traceback" not in done.output
