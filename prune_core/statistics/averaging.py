"""Means over images of numbers that are known for each image."""

from __future__ import annotations

from torch import Tensor

from prune_core.statistics.batching import FixedBatches
from prune_core.statistics.requests import StatisticsError


class MeanOfImages:
    """A mean over images of one number per channel, accumulated in float64."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._count = 0
        self._batches = FixedBatches(self._add)

    def add(self, numbers: Tensor) -> None:
        """Adds the numbers of the next images, [N, C]."""
        self._batches.take(numbers)

    def _add(self, numbers: Tensor) -> None:
        total = numbers.double().sum(dim=0)
        self._total = total if self._total is None else self._total + total
        self._count += len(numbers)

    def value(self) -> Tensor:
        """The mean over all images, [C]; call once, after the last image."""
        self._batches.rest()
        if self._total is None:
            raise StatisticsError("there are no images to collect statistics from")
        return self._total / self._count
