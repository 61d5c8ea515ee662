"""A baseline and a cell go on after the last checkpoint of their training."""

import pandas as pd
import pytest
import torch

import results
from prune_core.checkpoints import Checkpoint
from prune_core.training import Epoch
from sweep.execution.run_task import run_task
from sweep.execution.tasks import missing_tasks
from sweep.planning.grid import plan
from sweep.stages import checkpoints
from sweep.stages.artifacts import DamagedArtifactWarning
from sweep.stages.baseline import baseline
from sweep.stages.checkpoints import StoredCheckpoints
from sweep.stages.observer import Observer
from sweep.stages.workspace import Workspace

CHANGES = {
    "recipe.epochs": 3,
    "recipe.images": 128,
    "metrics": ["output_l1"],
    "ratios": [0.3],
    "scopes": ["local"],
    "finetune": {"epochs": 3, "images": 128},
}
FIGURES = ["baseline_test_loss", "finetuned_test_loss", "finetuned_validation_loss"]


class Seen(Observer):
    """The epochs of one stage; the process is interrupted in one of them."""

    def __init__(self, stage="", end=0):
        self.stage, self.end, self.epochs = stage, end, []

    def epoch(self, stage, epoch):
        self.epochs += [epoch.epoch] * (stage == self.stage)
        if stage == self.stage and epoch.epoch == self.end:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _after_every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)


def run(folder, cell, observer):
    workspace = Workspace(folder, "small")
    workspace.store.create()
    for task in missing_tasks(workspace, [cell]):
        run_task(workspace, task, observer)


def kept(folder):
    return [path.name for path in sorted((folder / "artifacts/checkpoints").glob("*"))]


@pytest.mark.parametrize("stage", ["baseline", "finetune"])
def test_an_interrupted_training_goes_on(spec, tmp_path, stage):
    (cell,) = plan(spec(CHANGES)).cells
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole, cell, Observer())
    with pytest.raises(KeyboardInterrupt):
        run(broken, cell, Seen(stage, 2))
    name = cell.baseline.key if stage == "baseline" else f"{cell.key}-1"
    assert kept(broken) == [f"{name}.safetensors"]
    seen = Seen(stage)
    run(broken, cell, seen)
    assert seen.epochs == [3]
    assert kept(broken) == kept(whole) == []
    ((row,), (expected,)) = (results.load(one).to_dict("records") for one in (broken, whole))
    assert [row[name] for name in FIGURES] == [expected[name] for name in FIGURES]
    assert row["baseline_checksum"] == expected["baseline_checksum"]
    epochs, of_whole = results.load_history(broken), results.load_history(whole)
    pd.testing.assert_frame_equal(epochs, of_whole)
    assert len(epochs) == 6


def test_a_damaged_checkpoint_is_not_used(spec, tmp_path):
    (cell,) = plan(spec(CHANGES)).cells
    workspace = Workspace(tmp_path, "small")
    with pytest.raises(KeyboardInterrupt):
        baseline(workspace, cell.baseline, Seen("baseline", 2))
    path = tmp_path / f"artifacts/checkpoints/{cell.baseline.key}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    seen = Seen("baseline")
    with pytest.warns(DamagedArtifactWarning, match=rf"{cell.baseline.key}.*is damaged"):
        baseline(workspace, cell.baseline, seen)
    assert seen.epochs == [1, 2, 3]


def test_the_time_of_interrupted_trainings_counts(tmp_path, monkeypatch):
    clock = iter([0.0, 10.0, 100.0, 107.0, 1000.0])
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: next(clock))
    workspace = Workspace(tmp_path, "small")
    history = (Epoch(1, 0.1 + 0.2, 1 / 3),)
    checkpoint = Checkpoint("abc", {"a": torch.arange(3)}, history)
    StoredCheckpoints(workspace, "x").keep(checkpoint)
    second = StoredCheckpoints(workspace, "x")
    assert second.last("another") is None
    assert second.earlier_s == 0
    found = second.last("abc")
    assert found.history == history
    assert torch.equal(found.tensors["a"], torch.arange(3))
    assert second.earlier_s == 10
    second.keep(found)
    third = StoredCheckpoints(workspace, "x")
    third.last("abc")
    assert third.earlier_s == 17


def test_checkpoints_are_rare(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY_S", 300.0)
    clock = [0.0]
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: clock[0])
    one = StoredCheckpoints(Workspace(tmp_path, "small"), "x")
    due = []
    for clock[0] in (100.0, 299.0, 301.0, 400.0, 602.0):
        due.append(one.due())
        if due[-1]:
            one.keep(Checkpoint("abc", {}, ()))
    assert due == [False, False, True, False, True]
