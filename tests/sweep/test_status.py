"""`prune-sweep status` tells what is done, failed, running and left."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from prune_core.checkpoints import Checkpoint
from prune_core.training import Epoch
from results import Store, StoreError
from results.storage.processes import this_process
from sweep.commands.status import show
from sweep.errors import UserError
from sweep.stages.checkpoints import StoredCheckpoints
from sweep.stages.workspace import Workspace

KEYS = [f"{at:016x}" for at in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A results folder of a sweep with five cells: two ok, one diverged, two not run."""
    store = Store(tmp_path)
    store.create()
    (tmp_path / "plan.json").write_text(json.dumps({"name": "s", "cells": dict.fromkeys(KEYS, "")}))
    for key, status in zip(KEYS, ["ok", "ok", "diverged"], strict=False):
        store.write({"key": key, "status": status})
    # A cell of another spec in the same folder is not this sweep's.
    store.write({"key": "f" * 16, "status": "ok"})
    return tmp_path


def shown(folder: Path) -> tuple[bool, list[list[str]]]:
    on = Console(file=io.StringIO(), width=100)
    complete = show(on, folder)
    assert isinstance(on.file, io.StringIO)
    return complete, [line.split() for line in on.file.getvalue().splitlines()]


def test_nothing_is_imported_that_takes_seconds():
    code = (
        "import sys, cluster.cli, sweep.commands.status; "
        "print(*{'torch', 'ray', 'sklearn', 'scipy.stats', 'matplotlib'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_cells_are_counted(folder):
    complete, lines = shown(folder)
    assert not complete
    assert ["5", "2", "0", "1", "2", "-"] in lines
    assert ["1", "diverged"] in lines
    assert " ".join(lines[-1]).endswith("run the spec again to continue")


@pytest.mark.parametrize("cells", [1, 2, 3])
def test_the_time_left_is_that_of_a_part_where_the_run_is_of_one(cells, folder):
    record = {"active": True, **this_process(), "running": ["a cell"]}
    record |= {"seconds_left": 7_200, "cells_left": cells}
    (folder / "progress.json").write_text(json.dumps(record))
    _, lines = shown(folder)
    told = "the run is of a part: 1 cell left of it, 2 h 0 min"
    # Two cells have no row; the row of one that just ended may be ahead of the progress.
    assert (told in map(" ".join, lines)) == (cells == 1)
    assert (["5", "2", "1", "1", "2", "-"] in lines) == (cells == 1)


def test_a_run_under_way_is_told(folder):
    record = {"active": True, **this_process()}
    record |= {"running": ["digits seed 0 random local 0.5"], "seconds_left": 7_200}
    (folder / "progress.json").write_text(json.dumps(record))
    _, lines = shown(folder)
    assert ["5", "2", "1", "1", "2", "2", "h", "0", "min"] in lines
    assert "running: digits seed 0 random local 0.5" in [" ".join(line) for line in lines]
    assert not any("again" in line for line in lines)


def test_the_epochs_of_a_long_training_are_told(folder):
    record = {"active": True, **this_process(), "running": ["digits seed 0 baseline"]}
    record["trainings"] = {"digits seed 0 baseline": {"key": "abc", "epochs": 10}}
    (folder / "progress.json").write_text(json.dumps(record))
    told = "running: digits seed 0 baseline"
    assert told in [" ".join(line) for line in shown(folder)[1]]
    kept = StoredCheckpoints(Workspace(folder, "small"), "abc")
    kept.keep(Checkpoint("", {"a": torch.zeros(3)}, (Epoch(1, 2.0, 0.1), Epoch(2, 1.0, 0.2))))
    assert f"{told}, 2 of 10 epochs done" in [" ".join(line) for line in shown(folder)[1]]
    (folder / "artifacts/checkpoints/abc.safetensors").write_bytes(b"x" * 20)
    assert told in [" ".join(line) for line in shown(folder)[1]]


def test_a_sweep_is_complete_when_every_cell_is_ok(folder):
    for key in KEYS:
        Store(folder).write({"key": key, "status": "ok"})
    complete, lines = shown(folder)
    assert complete
    assert ["5", "5", "0", "0", "0", "-"] in lines


def test_a_cell_that_is_not_ok_leaves_the_sweep_incomplete(folder):
    for key in KEYS:
        Store(folder).write({"key": key, "status": "failed" if key == KEYS[0] else "ok"})
    complete, lines = shown(folder)
    assert not complete
    assert ["1", "failed"] in lines


@pytest.mark.parametrize("name", ["absent", "file"])
def test_what_is_no_folder_is_refused(name, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=name):
        shown(tmp_path / name)


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no sweep has written to it"):
        shown(tmp_path)
    Store(tmp_path).create()
    with pytest.raises(UserError, match="no sweep was run"):
        shown(tmp_path)
    Store(tmp_path).write({"key": KEYS[0], "status": "ok"})
    with pytest.raises(UserError, match=r"has results, but no plan\.json"):
        shown(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"name": 1}', '{"name": "s", "cells": 3}'])
def test_a_damaged_plan_is_refused(text, folder):
    (folder / "plan.json").write_text(text)
    with pytest.raises(UserError, match=r"plan\.json cannot be read"):
        shown(folder)
