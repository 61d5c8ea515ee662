"""How many images a task processes. The time estimates are based on these numbers."""

from __future__ import annotations

from prune_core.compensation import NO_COMPENSATION
from prune_core.training import RECALIBRATION_IMAGES, Recipe
from sweep.planning.baselines import Baseline, Dataset
from sweep.planning.cells import Cell
from sweep.planning.scores import Statistics


def images_seen(work: Baseline | Statistics | Cell) -> tuple[int, int]:
    """Number of images in training and in inference; an image counts each time it is processed."""
    if isinstance(work, Statistics):
        return 0, work.images
    if isinstance(work, Baseline):
        return _of(work.dataset, work.recipe, 1, 0)
    if work.importance is None:
        # Controls are evaluated once: nothing was pruned.
        return _of(work.baseline.dataset, work.finetune, 1, 0)
    steps = work.schedule.steps
    trained, inferred = _of(work.baseline.dataset, work.finetune, _evaluations(work), 1)
    if work.compensation.sequential:
        inferred += work.compensation_images * work.layers_solved
    # The first step reads the statistics of the baseline, which cells share.
    anew = sum(found.images for found in work.statistics)
    budget, full = work.budget, work.baseline.architecture
    evaluations = budget.choice.evaluations(full, work.ratio, budget.floor)
    inferred += evaluations * budget.choice.loss_images
    return trained * steps, inferred * steps + anew * (steps - 1)


def _evaluations(cell: Cell) -> int:
    """Evaluations in a step."""
    stages = set(cell.evaluated)
    if cell.compensation == NO_COMPENSATION:
        stages.discard("compensated")
    # A network that is not fine-tuned is evaluated once after its recalibration.
    again = cell.finetune.epochs == 0 and "recalibrated" in stages
    return len(stages) + 1 - again


def _of(dataset: Dataset, recipe: Recipe, evaluations: int, recalibrations: int) -> tuple[int, int]:
    recalibrations += recipe.recalibrate and recipe.epochs > 0
    inferred = evaluations * (dataset.validation_images + dataset.test_images)
    inferred += recalibrations * min(dataset.train_images, RECALIBRATION_IMAGES)
    return recipe.images_of(dataset.train_images) * recipe.epochs, inferred
