"""Means, variances and zeros of feature maps, over positions or over averages of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from prune_core.statistics.averaging import MeanOfImages
from prune_core.statistics.batching import FixedBatches
from prune_core.statistics.maps import Maps, nonzeros
from prune_core.statistics.requests import RESOLUTION, Answer, StatisticsError


@dataclass(frozen=True)
class Moments:
    """`mean` and `variance` [C] over images and positions; the variance divides by the count."""

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _MomentsCollector:
        """See `Request`."""
        return _MomentsCollector(None, _positions)


@dataclass(frozen=True)
class ClassMoments:
    """`count`, `mean` and `variance` [C, classes] over each class's images and positions.

    `count` is the number of values, images times positions. For a class without images all three
    are 0.
    """

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _MomentsCollector:
        """See `Request`."""
        return _MomentsCollector(classes, _positions)


@dataclass(frozen=True)
class AverageMoments:
    """`mean` and `variance` [C] over images of the channel's average over positions.

    The mean is that of `Moments`; the variance is never larger, because the average removes the
    differences between the positions of one image.
    """

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _MomentsCollector:
        """See `Request`."""
        return _MomentsCollector(None, _averages)


@dataclass(frozen=True)
class AverageClassMoments:
    """`count`, `mean` and `variance` [C, classes] over each class's images of `AverageMoments`.

    `count` is the number of images. For a class without images all three are 0, and for a class
    with one image the variance is 0.
    """

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _MomentsCollector:
        """See `Request`."""
        return _MomentsCollector(classes, _averages)


@dataclass(frozen=True)
class ZeroFraction:
    """`fraction` [C] of the values, over images and positions, that are exactly 0."""

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _ZeroFractionCollector:
        """See `Request`."""
        return _ZeroFractionCollector()


@dataclass(frozen=True)
class Magnitude:
    """`mean` [C] of the absolute values over images and positions."""

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _MagnitudeCollector:
        """See `Request`."""
        return _MagnitudeCollector()


Sums = tuple[Tensor, Tensor, Tensor, int]
"""Of each image: the sum of its observations and of their squared distances from a point, both
[N, C], float64; that point, [C]; and how many observations one image gives."""


def _positions(maps: Maps) -> Sums:
    """Every position is an observation."""
    # First the squares, which find the sums on the way.
    squares = maps.squares
    return maps.sums, squares, maps.centre, maps.positions


def _averages(maps: Maps) -> Sums:
    """The average over the positions of an image is one observation."""
    if maps.positions == 1:
        # With the same origin, so that both have the same variance.
        return _positions(maps)
    return maps.averages, maps.average_squares, maps.origin, 1


class _MomentsCollector:
    """Computes sums by class as products of a membership matrix [classes, N] and sums [N, C].

    Parameters
    ----------
    classes : the number of classes; None for moments over all images.
    observed : what the observations of an image are.
    """

    def __init__(self, classes: int | None, observed: Callable[[Maps], Sums]) -> None:
        self.classes, self.observed = classes, observed
        self.origin: Tensor | None = None
        self.batches = FixedBatches(self._add)

    def update(self, maps: Maps) -> None:
        sums, squares, origin, self.observations = self.observed(maps)
        if self.origin is None:
            members = self.classes or 1
            self.origin = origin
            self.sums = sums.new_zeros(members, sums.shape[1])
            self.squares = torch.zeros_like(self.sums)
            self.counts = sums.new_zeros(members, 1)
        self.batches.take(maps.labels, sums, squares)

    def _add(self, labels: Tensor, sums: Tensor, squares: Tensor) -> None:
        if self.classes is None:
            self.sums += sums.sum(dim=0)
            self.squares += squares.sum(dim=0)
            self.counts += len(sums) * self.observations
            return
        member = torch.nn.functional.one_hot(labels, self.classes).T.double()
        self.sums.addmm_(member, sums)
        self.squares.addmm_(member, squares)
        self.counts.add_(member.sum(dim=1, keepdim=True), alpha=self.observations)

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
        self.fired: Tensor | None = None
        self.count = 0

    def update(self, maps: Maps) -> None:
        # To it, the positions of all images are those of one.
        (fired,) = nonzeros(maps.pixels.flatten(0, 1)[None])
        self.fired = fired if self.fired is None else self.fired.add_(fired)
        self.count += len(maps.labels) * maps.positions

    def finish(self) -> Answer:
        if self.fired is None:
            raise StatisticsError("there are no images to collect statistics from")
        return {"fraction": (self.count - self.fired).double() / self.count}


class _MagnitudeCollector:
    def __init__(self) -> None:
        self.mean = MeanOfImages()

    def update(self, maps: Maps) -> None:
        self.mean.add(maps.magnitudes / maps.positions)

    def finish(self) -> Answer:
        return {"mean": self.mean.value()}
