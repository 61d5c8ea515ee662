"""The images that a task sees, counted while it runs."""

from __future__ import annotations

from collections import Counter

import pytest

from prune_core.training import RECALIBRATION_IMAGES
from sweep import stages
from sweep.cells import Cell
from sweep.passes import passes
from sweep.plan import plan
from sweep.stages import Place
from sweep.tasks import missing_tasks, run


@pytest.fixture
def seen(monkeypatch):
    """Images that networks were trained on, and those that they inferred."""
    counts: Counter[str] = Counter()
    train, evaluate, recalibrate = stages.train, stages.evaluate, stages.recalibrate

    def trains(net, images, preprocessing, recipe, *rest):
        counts["trained"] += recipe.epochs * len(images)
        if recipe.recalibrate and recipe.epochs:
            counts["inferred"] += min(len(images), RECALIBRATION_IMAGES)
        return train(net, images, preprocessing, recipe, *rest)

    def evaluates(net, images, *rest):
        counts["inferred"] += len(images)
        return evaluate(net, images, *rest)

    def recalibrates(net, images, *rest):
        counts["inferred"] += min(len(images), RECALIBRATION_IMAGES)
        return recalibrate(net, images, *rest)

    monkeypatch.setattr(stages, "train", trains)
    monkeypatch.setattr(stages, "evaluate", evaluates)
    monkeypatch.setattr(stages, "recalibrate", recalibrates)
    return counts


@pytest.mark.parametrize("epochs", [0, 2])
def test_every_pass_is_counted(epochs, spec, tmp_path, seen):
    changes = {"metrics": ["output_l1"], "ratios": [0.5], "finetune.epochs": epochs}
    changes["controls"] = {"scratch": True, "ratios": [0.5]}
    place = Place(tmp_path, "small")
    for task in missing_tasks(place, plan(spec(changes)).cells):
        seen.clear()
        assert run(place, task).status == "ok"
        assert passes(task.work) == (seen["trained"], seen["inferred"]), task.label
        # Not only because nothing was counted.
        assert seen["inferred"] or not isinstance(task.work, Cell)
