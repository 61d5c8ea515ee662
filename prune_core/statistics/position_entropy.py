"""The entropy of the softmax over the positions of a feature map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from prune_core.statistics.averaging import MeanOfImages
from prune_core.statistics.maps import Maps, doubles
from prune_core.statistics.requests import Answer

SoftmaxOf = Literal["squared_deviation", "value"]


@dataclass(frozen=True)
class PositionEntropy:
    """`entropy` [C]: mean over images of the entropy of the softmax over positions, in nats.

    Parameters
    ----------
    of : what the softmax takes: the values of an image's map, or the squares of their deviations
        from the mean of the map.
    """

    of: SoftmaxOf = "squared_deviation"
    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _EntropyCollector:
        """See `Request`."""
        return _EntropyCollector(self.of)


class _EntropyCollector:
    def __init__(self, of: SoftmaxOf) -> None:
        self.of = of
        self.mean = MeanOfImages()

    def update(self, maps: Maps) -> None:
        self.mean.add(torch.cat([self._entropies(part) for part in doubles(maps.pixels)]))

    def _entropies(self, pixels: Tensor) -> Tensor:
        """Of each image and channel, [N, C], from [N, P, C], which is overwritten."""
        if self.of == "squared_deviation":
            pixels.sub_(pixels.mean(dim=1, keepdim=True)).square_()
        # With s the sum of exp(x), the entropy is ln s minus the mean of x under the softmax.
        pixels.sub_(pixels.amax(dim=1, keepdim=True))
        shares = pixels.exp()
        total = shares.sum(dim=1)
        return total.log() - shares.mul_(pixels).sum(dim=1) / total

    def finish(self) -> Answer:
        return {"entropy": self.mean.value()}
