"""The view of a layer that a metric reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from prune_core.network import Block, SimpleNet
from prune_core.seeds import derive
from prune_core.statistics import Answer, Moments, Request, StatisticsError


@dataclass(frozen=True)
class LayerView:
    """The output channels of one convolution: their filters, consumer weights and statistics.

    The consumer is the next layer, which reads the channels as its input.

    Attributes
    ----------
    index : the layer's position, 0 for the first convolution.
    weight : the filters that produce the channels, [C, C_in, k, k], float64.
    gamma, beta : scale and shift of the following batch normalisation, [C], float64.
    consumer_weight : the weights of the consumer, [J, C, k, k], float64. For the last convolution
        the consumer is the linear layer, with J = classes and k = 1.
    answers : the channel statistics that were collected.
    seed : for metrics that draw random numbers.
    """

    index: int
    weight: Tensor
    gamma: Tensor
    beta: Tensor
    consumer_weight: Tensor
    answers: Mapping[Request, Answer] = field(default_factory=dict)
    seed: int = 0

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        return self.weight.shape[0]

    @property
    def inputs(self) -> int:
        """Number of weights in the filter of one channel: C_in k^2."""
        return self.weight[0].numel()

    @property
    def consumers(self) -> int:
        """J, the number of consumer filters (or classes) that read each channel."""
        return self.consumer_weight.shape[0]

    @property
    def weights_per_channel(self) -> int:
        """m, the number of consumer weights that read one channel: J k^2."""
        return self.consumers * self.consumer_weight[0, 0].numel()

    @cached_property
    def kernels(self) -> Tensor:
        """The consumer's kernels by channel, [C, J, k^2]."""
        return self.consumer_weight.transpose(0, 1).flatten(2).contiguous()

    @property
    def consumed(self) -> Tensor:
        """The consumer's weights by channel, [C, J k^2]."""
        return self.kernels.flatten(1)

    @property
    def mean(self) -> Tensor:
        """Mean of the feature map over images and positions, [C]."""
        return self.answer(Moments())["mean"]

    @property
    def variance(self) -> Tensor:
        """Variance of the feature map over images and positions, [C]."""
        return self.answer(Moments())["variance"]

    def answer(self, request: Request) -> Answer:
        """The statistics that were collected for a request.

        Raises
        ------
        StatisticsError
            If the request was not among those collected.
        """
        if request not in self.answers:
            raise StatisticsError(
                f"layer {self.index} has no statistics for {request}; pass to `views` the "
                "answers of `collect` for the metric's needs()"
            )
        return self.answers[request]

    def generator(self, purpose: str) -> torch.Generator:
        """A random generator for this layer; equal seed and purpose give equal numbers."""
        return torch.Generator().manual_seed(derive(self.seed, purpose, self.index))


def views(
    net: SimpleNet, answers: Sequence[Mapping[Request, Answer]] | None = None, seed: int = 0
) -> list[LayerView]:
    """A view of every convolution of a network, first to last, on the CPU in float64."""
    blocks = [cast(Block, block) for block in net.blocks]
    consumers = [block.conv.weight for block in blocks[1:]]
    consumers.append(net.classifier.weight[:, :, None, None])
    return [
        LayerView(
            index=index,
            weight=_plain(block.conv.weight),
            gamma=_plain(block.bn.weight),
            beta=_plain(block.bn.bias),
            consumer_weight=_plain(consumer),
            answers=answers[index] if answers is not None else {},
            seed=seed,
        )
        for index, (block, consumer) in enumerate(zip(blocks, consumers, strict=True))
    ]


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().double().cpu().contiguous()
