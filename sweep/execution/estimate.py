"""Time estimate of a sweep: measured seconds per image times the images still to process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache

import torch

from prune_core.images import LabelledImages
from prune_core.latency import seconds_to_measure
from prune_core.memory import keep_freed_memory
from prune_core.networks import INPUT_CHANNELS, Architecture
from prune_core.precision import best_device
from prune_core.preprocessing import Preprocessing
from prune_core.training import Recipe, train
from results.storage.schema import LATENCY_BATCHES
from sweep.execution.resources import StageResources
from sweep.execution.tasks import KINDS, Task
from sweep.planning.baselines import Baseline
from sweep.planning.cells import Cell
from sweep.planning.images_seen import images_seen
from sweep.planning.scores import Statistics
from sweep.stages.costs import LONGEST_RUN

STEPS = 3
INFERENCE_IMAGES = 256


@dataclass(frozen=True)
class Seconds:
    """Estimated seconds of a sweep by what they are spent on.

    Attributes
    ----------
    baselines : training and evaluating the unpruned networks.
    statistics : collecting channel statistics.
    training : fine-tuning, and training the controls.
    evaluation : recalibration, evaluation and latency of the pruned networks.
    """

    baselines: float = 0.0
    statistics: float = 0.0
    training: float = 0.0
    evaluation: float = 0.0

    @property
    def total(self) -> float:
        """All of them together."""
        return sum(vars(self).values())

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def divided(self, by: int) -> Seconds:
        """Each of them divided by a number of tasks that run at once."""
        return Seconds(*(one / by for one in astuple(self)))


class Estimate:
    """Estimates the seconds of tasks on this machine from a few measured steps of each network.

    Parameters
    ----------
    resources : the resources of a trial of each stage.
    """

    def __init__(self, resources: StageResources) -> None:
        self.resources = resources
        self._training = cache(self._measure_training)
        self._inference = cache(self._measure_inference)

    def seconds(self, tasks: Sequence[Task], slots: Mapping[str, int]) -> Seconds:
        """Seconds until all tasks are done, if each kind starts after the previous kind ends.

        Parameters
        ----------
        slots : for each kind, the number of tasks that can run at once.
        """
        keep_freed_memory()  # as trials do
        threads = torch.get_num_threads()
        total = Seconds()
        try:
            for kind in KINDS:
                self._use(self.resources[kind].threads)
                spent = [self._of(task.work) for task in tasks if task.kind == kind]
                of_kind = sum(spent, start=Seconds())
                total += of_kind.divided(max(1, min(slots[kind], len(spent))))
        finally:
            torch.set_num_threads(threads)
        return total

    def _use(self, threads: int) -> None:
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
            self._training.cache_clear()
            self._inference.cache_clear()

    def _of(self, work: Baseline | Statistics | Cell) -> Seconds:
        if isinstance(work, Statistics):
            return Seconds(statistics=work.images * self._inference(work.baseline.architecture))
        if isinstance(work, Baseline):
            architecture, recipe = work.architecture, work.recipe
        else:
            full, budget, recipe = work.baseline.architecture, work.budget, work.finetune
            widths = budget.choice.likely_widths(full, work.ratio, budget.floor)
            architecture = full.with_widths(widths)
        image = self._inference(architecture)
        trained, inferred = images_seen(work)
        training = 0.0
        if trained:
            training = trained * self._training(architecture, recipe.batch_size, recipe.precision)
        if isinstance(work, Baseline):
            return Seconds(baselines=training + inferred * image)
        runs = [batch * image for batch in LATENCY_BATCHES]
        measured = sum(seconds_to_measure(run) for run in runs if run <= LONGEST_RUN)
        return Seconds(training=training, evaluation=inferred * image + measured)

    def _measure_training(self, architecture: Architecture, batch: int, precision: str) -> float:
        """Seconds per image of training."""
        images = _noise(batch * STEPS, architecture)
        net = architecture.build().to(best_device())
        scaling = Preprocessing.of(images)

        def steps(count: int) -> None:
            recipe = Recipe(1, batch, 1e-6, recalibrate=False, precision=precision)  # type: ignore[arg-type]
            train(net, images.first(batch * count), scaling, recipe, 0, True)

        steps(1)
        return _timed(lambda: steps(STEPS)) / (batch * STEPS)

    def _measure_inference(self, architecture: Architecture) -> float:
        """Seconds per image of evaluation."""
        from prune_core.evaluation import evaluate

        images = _noise(INFERENCE_IMAGES, architecture)
        net = architecture.build().to(best_device())
        scaling = Preprocessing.of(images)
        evaluate(net, images, scaling)
        return _timed(lambda: evaluate(net, images, scaling)) / INFERENCE_IMAGES


def _noise(count: int, architecture: Architecture) -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    shape = (count, INPUT_CHANNELS, *architecture.image_size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, architecture.classes, (count,), generator=generator)
    return LabelledImages(images, labels)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
