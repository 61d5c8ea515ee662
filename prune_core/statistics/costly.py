"""Expensive statistics: gradients of the loss, and ranks of feature maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from prune_core.statistics.batching import FixedBatches
from prune_core.statistics.maps import Maps, by_position, doubles
from prune_core.statistics.requests import Answer, StatisticsError


@dataclass(frozen=True)
class GradientProduct:
    """`square` [C]: mean over images of (sum over positions of value x gradient)^2.

    The gradient is that of the image's own cross-entropy, so that the answer does not depend on the
    batch size.
    """

    gradients: ClassVar[bool] = True

    def collector(self, classes: int) -> _GradientProductCollector:
        """See `Request`."""
        return _GradientProductCollector()


@dataclass(frozen=True)
class Rank:
    """`rank` [C]: mean over images of the rank of the map as an [H, W] matrix in fp32."""

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _RankCollector:
        """See `Request`."""
        return _RankCollector()


class _Mean:
    """A mean over images of one number per channel, accumulated in float64."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count = 0
        self.batches = FixedBatches(self._add)

    def add(self, numbers: Tensor) -> None:
        self.batches.take(numbers)

    def _add(self, numbers: Tensor) -> None:
        total = numbers.double().sum(dim=0)
        self.total = total if self.total is None else self.total + total
        self.count += len(numbers)

    def value(self) -> Tensor:
        self.batches.rest()
        if self.total is None:
            raise StatisticsError("there are no images to collect statistics from")
        return self.total / self.count


class _GradientProductCollector:
    def __init__(self) -> None:
        self.mean = _Mean()

    def update(self, maps: Maps) -> None:
        assert maps.gradients is not None
        start, products = 0, []
        gradients = by_position(maps.gradients)
        for part in doubles(maps.pixels):
            products.append(part.mul_(gradients[start : start + len(part)]).sum(dim=1))
            start += len(part)
        self.mean.add(torch.cat(products).square())

    def finish(self) -> Answer:
        return {"square": self.mean.value()}


class _RankCollector:
    def __init__(self) -> None:
        self.mean = _Mean()

    def update(self, maps: Maps) -> None:
        self.mean.add(torch.linalg.matrix_rank(maps.values))

    def finish(self) -> Answer:
        return {"rank": self.mean.value()}
