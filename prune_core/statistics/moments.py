"""Means, variances and zeros of feature maps over images and positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from prune_core.statistics.batching import FixedBatches
from prune_core.statistics.maps import Maps
from prune_core.statistics.requests import RESOLUTION, Answer, StatisticsError


@dataclass(frozen=True)
class Moments:
    """`mean` and `variance` [C] over images and positions; the variance divides by the count."""

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _MomentsCollector:
        """See `Request`."""
        return _MomentsCollector(None)


@dataclass(frozen=True)
class ClassMoments:
    """`count`, `mean` and `variance` [C, classes] over each class's images and positions.

    `count` is the number of values, images times positions. For a class without images all three
    are 0.
    """

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _MomentsCollector:
        """See `Request`."""
        return _MomentsCollector(classes)


@dataclass(frozen=True)
class ZeroFraction:
    """`fraction` [C] of the values, over images and positions, that are exactly 0."""

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _ZeroFractionCollector:
        """See `Request`."""
        return _ZeroFractionCollector()


class _MomentsCollector:
    """Computes sums by class as products of a membership matrix [classes, N] and sums [N, C]."""

    def __init__(self, classes: int | None) -> None:
        self.classes = classes
        self.origin: Tensor | None = None
        self.batches = FixedBatches(self._add)

    def update(self, maps: Maps) -> None:
        squares, sums = maps.squares, maps.sums
        if self.origin is None:
            members = self.classes or 1
            self.origin, self.positions = maps.origin, maps.positions
            self.sums = sums.new_zeros(members, sums.shape[1])
            self.squares = torch.zeros_like(self.sums)
            self.counts = sums.new_zeros(members, 1)
        self.batches.take(maps.labels, sums, squares)

    def _add(self, labels: Tensor, sums: Tensor, squares: Tensor) -> None:
        if self.classes is None:
            member = sums.new_ones(1, len(sums))
        else:
            member = torch.nn.functional.one_hot(labels, self.classes).T.double()
        self.sums += member @ sums
        self.squares += member @ squares
        self.counts += member.sum(dim=1, keepdim=True) * self.positions

    def finish(self) -> Answer:
        if self.origin is None:
            raise StatisticsError("there are no images to collect statistics from")
        self.batches.rest()
        count = self.counts.clamp(min=1)
        mean = self.sums / count
        variance = (self.squares / count - (mean - self.origin).square()).clamp(min=0)
        rounding = variance <= RESOLUTION**2 * (variance + mean.square())
        variance = torch.where((self.counts == 0) | rounding, 0.0, variance)
        if self.classes is None:
            return {"mean": mean[0], "variance": variance[0]}
        counts = self.counts.T.to(torch.int64).expand(mean.shape[1], -1)
        return {"count": counts, "mean": mean.T, "variance": variance.T}


class _ZeroFractionCollector:
    def __init__(self) -> None:
        self.zeros: Tensor | None = None
        self.count = 0

    def update(self, maps: Maps) -> None:
        zeros = maps.zeros.sum(dim=0)
        self.zeros = zeros if self.zeros is None else self.zeros + zeros
        self.count += len(maps.labels) * maps.positions

    def finish(self) -> Answer:
        if self.zeros is None:
            raise StatisticsError("there are no images to collect statistics from")
        return {"fraction": self.zeros / self.count}
