"""Expensive statistics: gradients of the loss, and singular values of feature maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from prune_core.statistics.averaging import MeanOfImages
from prune_core.statistics.maps import Maps, by_position, doubles, pieces_of
from prune_core.statistics.requests import Answer
from prune_core.statistics.singular_values import nuclear_norms, ranks


@dataclass(frozen=True)
class GradientProduct:
    """`square` [C]: mean over images of (sum over positions of value x gradient)^2.

    The gradient is that of the image's own cross-entropy, so that the answer does not depend on the
    batch size.
    """

    gradients: ClassVar[bool] = True

    def collector(self, classes: int) -> _MeanCollector:
        """See `Request`."""
        return _MeanCollector("square", lambda maps: _products(maps).square())


@dataclass(frozen=True)
class SignedGradientProduct:
    """`mean` [C]: mean over images of the sum over positions of value x gradient.

    The gradient is that of `GradientProduct`. Here images whose signs differ cancel.
    """

    gradients: ClassVar[bool] = True

    def collector(self, classes: int) -> _MeanCollector:
        """See `Request`."""
        return _MeanCollector("mean", _products)


@dataclass(frozen=True)
class Rank:
    """`rank` [C]: mean over images of the rank of the map as an [H, W] matrix in fp32."""

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _MeanCollector:
        """See `Request`."""
        return _MeanCollector("rank", lambda maps: ranks(maps.values))


@dataclass(frozen=True)
class NuclearNorm:
    """`norm` [C]: mean over images of the sum of the map's singular values.

    The map is an [H, W] matrix. Its singular values are the roots of the eigenvalues of its Gram
    matrix in float64, so each has an error of at most about 1e-8 of the largest.
    """

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _MeanCollector:
        """See `Request`."""
        return _MeanCollector("norm", lambda maps: nuclear_norms(maps.values))


class _MeanCollector:
    """Answers with the mean over images of `number`, which gives [N, C] for a batch of maps."""

    def __init__(self, field: str, number: Callable[[Maps], Tensor]) -> None:
        self.field, self.number = field, number
        self.mean = MeanOfImages()

    def update(self, maps: Maps) -> None:
        self.mean.add(self.number(maps))

    def finish(self) -> Answer:
        return {self.field: self.mean.value()}


def _products(maps: Maps) -> Tensor:
    """Sum over positions of value x gradient, [N, C], float64."""
    assert maps.gradients is not None
    start, products = 0, []
    gradients = pieces_of(by_position(maps.gradients))
    for part in doubles(maps.pieces):
        products.append(part.mul_(gradients[start : start + len(part)]).sum(dim=1))
        start += len(part)
    return maps.summed(products)
