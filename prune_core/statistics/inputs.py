"""What layers read: samples of their inputs, and the mean and covariance of these.

A convolution with a kernel of k x k pixels computes, at each position of its output, a linear
function of a patch: the k x k pixels around it of every input channel. A linear layer computes one
of all its inputs. So whatever a layer could compute in place of its outputs is known from the mean
and the covariance of its patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from prune_core.networks.module import ReadingLayer, reading_layer
from prune_core.statistics.batching import FixedBatches
from prune_core.statistics.requests import RESOLUTION, Answer, Request, StatisticsError

IMAGES_OF_A_SUM = 32
"""Images whose patches are multiplied together: those of a block on a processor, since patches
that wait for others take memory in every layer."""


@dataclass(frozen=True)
class SecondMoments:
    """`mean` [D], `covariance` [D, D] and `count` of the patches that each layer reads.

    D is the number of weights of one of the layer's filters, in the order of `weight.flatten(1)`.
    All are float64, and the covariance divides by the count.

    Parameters
    ----------
    positions : patches of each image, at most as many as the layer's output has positions.
    seed : of the order in which positions are taken.
    """

    positions: int = 24
    seed: int = 0
    gradients: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.positions < 1:
            raise StatisticsError(f"positions {self.positions}: at least 1 is needed")

    def of_inputs(self, layer: ReadingLayer) -> _MomentsOfInputs:
        """See `InputRequest`."""
        return _MomentsOfInputs(Patches(layer, self.positions, self.seed))


class Patches:
    """Samples of what a layer reads.

    All positions of the output are put in a random order. Each image takes the next ones of it,
    and starts again at its end, so that every position is taken as often as any other, whatever
    the batch size.

    Parameters
    ----------
    positions : patches of each image, at most all.
    """

    def __init__(self, layer: ReadingLayer, positions: int, seed: int) -> None:
        self.layer, self.positions, self.seed = layer, positions, seed
        self._images = 0
        self._order: Tensor | None = None

    def take(self, inputs: Tensor) -> Tensor:
        """The patches of the next images, [N, P, D], in the type of the inputs.

        Parameters
        ----------
        inputs : [N, C, H, W], or [N, ..., D] of a linear layer.
        """
        if isinstance(self.layer, nn.Linear):
            return self._chosen(inputs.flatten(1, -2) if inputs.ndim > 2 else inputs[:, None])
        kernel, stride, dilation = self.layer.kernel_size, self.layer.stride, self.layer.dilation
        maps = padded(self.layer, inputs)
        height, width = (
            (maps.shape[2 + axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
            for axis in range(2)
        )
        at = self._next(len(inputs), height * width).to(maps.device)
        rows, columns = at // width * stride[0], at % width * stride[1]
        down = torch.arange(kernel[0], device=maps.device) * dilation[0]
        right = torch.arange(kernel[1], device=maps.device) * dilation[1]
        images = torch.arange(len(maps), device=maps.device)[:, None, None, None]
        found = maps.permute(0, 2, 3, 1)[
            images,
            rows[:, :, None, None] + down[:, None],
            columns[:, :, None, None] + right,
        ]
        # [N, P, k, k, C]; the weights of a filter have the channels first.
        return found.permute(0, 1, 4, 2, 3).flatten(2)

    def _chosen(self, inputs: Tensor) -> Tensor:
        at = self._next(len(inputs), inputs.shape[1]).to(inputs.device)
        return inputs.take_along_dim(at[:, :, None], dim=1)

    def _next(self, images: int, available: int) -> Tensor:
        """The positions of the next images, [N, P], int64."""
        if self._order is None:
            generator = torch.Generator().manual_seed(self.seed)
            self._order = torch.randperm(available, generator=generator)
        taken = min(self.positions, available)
        first = self._images * taken
        self._images += images
        steps = torch.arange(first, first + images * taken) % available
        return self._order[steps].view(images, taken)


def padded(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    """The maps with the padding that the convolution puts around them."""
    # Of torch: left, right, top, bottom; it holds the words "same" and "valid" as numbers.
    around = layer._reversed_padding_repeated_twice
    if not any(around):
        return inputs
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return nn.functional.pad(inputs, around, mode=mode)


class _MomentsOfInputs:
    def __init__(self, patches: Patches) -> None:
        self.patches = patches
        self.sums: Tensor | None = None
        self.products: Tensor | None = None
        self.count = 0
        self.batches = FixedBatches(self._add, IMAGES_OF_A_SUM)

    def update(self, inputs: Tensor) -> None:
        self.batches.take(self.patches.take(inputs))

    def _add(self, patches: Tensor) -> None:
        rows = patches.flatten(0, 1).double()
        if self.sums is None or self.products is None:
            size = rows.shape[1]
            self.sums, self.products = rows.new_zeros(size), rows.new_zeros(size, size)
        self.sums += rows.sum(dim=0)
        self.products.addmm_(rows.T, rows)
        self.count += len(rows)

    def finish(self) -> Answer:
        self.batches.rest()
        if self.sums is None or self.products is None:
            raise StatisticsError("there are no images to collect statistics from")
        mean = self.sums / self.count
        found = covariance(self.products / self.count, mean)
        return {"mean": mean, "covariance": found, "count": torch.tensor([self.count])}


def covariance(moments: Tensor, mean: Tensor) -> Tensor:
    """The covariance [D, D] from second moments about zero; exactly 0 for constant inputs."""
    found = torch.addr(moments, mean, mean, alpha=-1)
    # What varies by less than the rounding of its values does not vary.
    constant = found.diagonal() <= RESOLUTION**2 * moments.diagonal()
    found[constant] = 0
    found[:, constant] = 0
    return found


@dataclass(frozen=True)
class InputMoments:
    """Mean and covariance of the patches that one layer reads.

    Attributes
    ----------
    mean : [D], float64.
    covariance : [D, D], float64.
    count : the number of patches.
    """

    mean: Tensor
    covariance: Tensor
    count: int

    def about(self, centred: bool) -> Tensor:
        """The covariance, or the second moments about zero, [D, D]."""
        if centred:
            return self.covariance
        return torch.addr(self.covariance, self.mean, self.mean)


def moments_of(
    answers: Sequence[Mapping[Request, Answer]], request: SecondMoments
) -> dict[str, InputMoments]:
    """The moments of each layer by its name, from what `collect` returned."""
    return {
        name: InputMoments(fields["mean"], fields["covariance"], int(fields["count"]))
        for name, fields in by_layer(one[request] for one in answers).items()
    }


def by_layer(answers: Iterable[Answer]) -> dict[str, Answer]:
    """The fields of each layer in the answers to an `InputRequest`."""
    found: dict[str, Answer] = {}
    for answer in answers:
        for whole, tensor in answer.items():
            layer, _, field = whole.rpartition(".")
            found.setdefault(layer, {})[field] = tensor
    return found


def moments_bytes(net: nn.Module, layers: Iterable[str]) -> int:
    """Memory of the second moments of some layers of a network, in bytes."""
    sizes = (reading_layer(net, name).weight[0].numel() for name in layers)
    return sum(8 * size * (size + 1) for size in sizes)
