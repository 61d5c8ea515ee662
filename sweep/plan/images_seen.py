"""How many images a task sees: what its time is made of, known before it runs."""

from __future__ import annotations

from prune_core.training import RECALIBRATION_IMAGES, Recipe
from sweep.plan.cells import Baseline, Cell, Dataset, Statistics

EVALUATIONS = 3
"""Of a cell that is pruned, recalibrated and fine-tuned; a network from scratch has one."""


def images_seen(work: Baseline | Statistics | Cell) -> tuple[int, int]:
    """Images that a task trains on, and images that it infers, counted each time they are seen."""
    if isinstance(work, Statistics):
        return 0, work.images
    if isinstance(work, Baseline):
        return _of(work.dataset, work.recipe, 1, 0)
    if work.importance is None:
        return _of(work.baseline.dataset, work.finetune, 1, 0)
    return _of(work.baseline.dataset, work.finetune, EVALUATIONS, 1)


def _of(dataset: Dataset, recipe: Recipe, evaluations: int, recalibrations: int) -> tuple[int, int]:
    recalibrations += recipe.recalibrate and recipe.epochs > 0
    inferred = evaluations * (dataset.validation_images + dataset.test_images)
    inferred += recalibrations * min(dataset.train_images, RECALIBRATION_IMAGES)
    return dataset.train_images * recipe.epochs, inferred
