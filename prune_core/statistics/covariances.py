"""Covariances of the channels of a feature map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from prune_core.statistics.batching import FixedBatches
from prune_core.statistics.maps import Maps
from prune_core.statistics.requests import RESOLUTION, Answer, StatisticsError

# Positions that are multiplied together, at least those of one image: few enough that waiting
# maps need little memory, enough for fast products.
POSITIONS_OF_A_SUM = 4096
MOST_IMAGES_OF_A_SUM = 128


@dataclass(frozen=True)
class Covariance:
    """`covariance` [C, C] and `mean` [C] of the channels, over images and all positions.

    The covariance divides by the count, and is exactly 0 for a channel that never changes. It
    takes 8 C^2 bytes, and C^2 multiply-accumulates in float64 for each position.
    """

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _CovarianceCollector:
        """See `Request`."""
        return _CovarianceCollector()


class _CovarianceCollector:
    def __init__(self) -> None:
        self.batches: FixedBatches | None = None
        self.count = 0

    def update(self, maps: Maps) -> None:
        if self.batches is None:
            images = max(1, POSITIONS_OF_A_SUM // maps.positions)
            self.batches = FixedBatches(self._add, min(images, MOST_IMAGES_OF_A_SUM))
            self.origin = maps.origin
            self.sums = torch.zeros_like(self.origin)
            self.products = self.origin.new_zeros(len(self.origin), len(self.origin))
        self.batches.take(maps.pixels)

    def _add(self, pixels: Tensor) -> None:
        rows = pixels.flatten(0, 1).double().sub_(self.origin)
        self.sums += rows.sum(dim=0)
        self.products.addmm_(rows.T, rows)
        self.count += len(rows)

    def finish(self) -> Answer:
        if self.batches is None:
            raise StatisticsError("there are no images to collect statistics from")
        self.batches.rest()
        shift = self.sums / self.count
        found = torch.addr(self.products / self.count, shift, shift, alpha=-1)
        mean = self.origin + shift
        constant = found.diagonal() <= RESOLUTION**2 * (found.diagonal() + mean.square())
        found[constant] = 0
        found[:, constant] = 0
        return {"covariance": found, "mean": mean}
