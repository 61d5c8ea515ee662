"""The images that a task sees, counted while it runs."""

from __future__ import annotations

from collections import Counter

import pytest

from prune_core.training import RECALIBRATION_IMAGES
from sweep.execution.run_task import run_task
from sweep.execution.tasks import missing_tasks
from sweep.planning.cells import Cell
from sweep.planning.grid import plan
from sweep.planning.images_seen import images_seen
from sweep.stages import baseline, cell
from sweep.stages.workspace import Workspace


@pytest.fixture
def seen(monkeypatch):
    """Images that networks were trained on, and those that they inferred."""
    counts: Counter[str] = Counter()
    train, evaluate, recalibrate = cell.train, baseline.evaluate, cell.recalibrate

    def trains(net, images, preprocessing, recipe, *rest):
        counts["trained"] += recipe.epochs * min(recipe.images or len(images), len(images))
        if recipe.recalibrate and recipe.epochs:
            counts["inferred"] += min(len(images), RECALIBRATION_IMAGES)
        return train(net, images, preprocessing, recipe, *rest)

    def evaluates(net, images, *rest):
        counts["inferred"] += len(images)
        return evaluate(net, images, *rest)

    def recalibrates(net, images, *rest):
        counts["inferred"] += min(len(images), RECALIBRATION_IMAGES)
        return recalibrate(net, images, *rest)

    for stage in (baseline, cell):
        monkeypatch.setattr(stage, "train", trains)
    monkeypatch.setattr(baseline, "evaluate", evaluates)
    monkeypatch.setattr(cell, "recalibrate", recalibrates)
    return counts


@pytest.mark.parametrize("evaluated", [["pruned", "recalibrated"], ["pruned"], []], ids=str)
@pytest.mark.parametrize(("epochs", "images"), [(0, None), (2, None), (2, 100), (1, 10_000)])
def test_every_pass_is_counted(epochs, images, evaluated, spec, tmp_path, seen):
    changes = {"metrics": ["output_l1"], "ratios": [0.5], "finetune.epochs": epochs}
    changes["evaluate"] = evaluated
    changes["finetune.images"] = images
    changes["controls"] = {"scratch": True, "ratios": [0.5]}
    workspace = Workspace(tmp_path, "small")
    for task in missing_tasks(workspace, plan(spec(changes)).cells):
        seen.clear()
        assert run_task(workspace, task).status == "ok"
        assert images_seen(task.work) == (seen["trained"], seen["inferred"]), task.label
        # Not only because nothing was counted.
        assert seen["inferred"] or not isinstance(task.work, Cell)
