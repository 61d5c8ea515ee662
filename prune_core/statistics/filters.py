"""Products of filters with the gradients of the loss with respect to their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from prune_core.statistics.averaging import MeanOfImages
from prune_core.statistics.inputs import padded
from prune_core.statistics.maps import by_position, doubles
from prune_core.statistics.requests import Answer

# Patches and gradients of filters that exist at a time, at least those of one image: 64 MiB in
# fp32. The number of images depends on the layer alone, so that the answer does too.
VALUES_AT_A_TIME = 1 << 24


@dataclass(frozen=True)
class FilterGradientProduct:
    """`square` [C]: mean over images of (sum over the channel's weights of w dL/dw)^2.

    L is the image's own cross-entropy. A convolution is linear in its weights, so the sum over the
    weights equals the sum over positions of its output, without the bias, times the gradient
    there; no gradient of a weight is computed.
    """

    gradients: ClassVar[bool] = True

    def of_filters(self, layer: nn.Conv2d, positions: Tensor) -> _ProductCollector:
        """See `FilterRequest`."""
        return _ProductCollector(layer, positions)


@dataclass(frozen=True)
class FilterGradientSquares:
    """`sum` [C]: mean over images of the sum over the channel's weights of (w dL/dw)^2.

    L is the image's own cross-entropy. The gradients of each image's weights are products of its
    patches and the gradients of the outputs. They cost as many multiply-accumulates as the forward
    pass, and 64 MiB, or the memory of one image's patches if these take more.
    """

    gradients: ClassVar[bool] = True

    def of_filters(self, layer: nn.Conv2d, positions: Tensor) -> _SquaresCollector:
        """See `FilterRequest`."""
        return _SquaresCollector(layer, positions)


class _ProductCollector:
    def __init__(self, layer: nn.Conv2d, positions: Tensor) -> None:
        self.layer, self.positions = layer, positions
        self.mean = MeanOfImages()

    def update(self, inputs: Tensor, outputs: Tensor, gradients: Tensor) -> None:
        start, products = 0, []
        slopes = by_position(gradients)
        for part in doubles(by_position(outputs)):
            if self.layer.bias is not None:
                part.sub_(self.layer.bias.detach())
            products.append(part.mul_(slopes[start : start + len(part)]).sum(dim=1))
            start += len(part)
        self.mean.add(_of_channels(torch.cat(products), self.positions).square())

    def finish(self) -> Answer:
        return {"square": self.mean.value()}


class _SquaresCollector:
    def __init__(self, layer: nn.Conv2d, positions: Tensor) -> None:
        self.layer, self.positions = layer, positions
        self.mean = MeanOfImages()

    def update(self, inputs: Tensor, outputs: Tensor, gradients: Tensor) -> None:
        layer, weight = self.layer, self.layer.weight.detach()
        outer = gradients[0, 0].numel()
        patches = inputs.shape[1] * weight[0, 0].numel() * outer
        images = max(1, VALUES_AT_A_TIME // (patches + weight.numel()))
        maps = padded(layer, inputs)
        products = []
        for part, slopes in zip(maps.split(images), gradients.split(images), strict=True):
            columns = nn.functional.unfold(
                part, layer.kernel_size, dilation=layer.dilation, stride=layer.stride
            )
            # [N, groups, weights of a filter, P] and [N, groups, filters of a group, P]
            columns = columns.unflatten(1, (layer.groups, -1))
            slopes = slopes.flatten(2).unflatten(1, (layer.groups, -1))
            of_weights = (slopes @ columns.transpose(2, 3)).flatten(1, 2)
            of_weights.mul_(weight.flatten(1))
            products.append(of_weights.double().square_().sum(dim=2))
        self.mean.add(_of_channels(torch.cat(products), self.positions))

    def finish(self) -> Answer:
        return {"sum": self.mean.value()}


def _of_channels(of_filters: Tensor, positions: Tensor) -> Tensor:
    """The sums [N, C] over the filters of each channel, from numbers [N, O] of each filter."""
    return of_filters[:, positions.to(of_filters.device)].sum(dim=2)
