"""The views of a network's channels that metrics read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from prune_core.networks import Architecture, architecture_of, channel_groups
from prune_core.networks.groups import Consumer, Producer
from prune_core.networks.module import ReadingLayer, reading_layer
from prune_core.seeds import derive
from prune_core.statistics import Answer, InputRequest, Moments, Request, StatisticsError

Combine = Literal["mean", "sum", "max"]
"""How the scores of a group's producers become one score."""


@dataclass(frozen=True)
class Reader:
    """A layer that reads the channels of a group, perhaps beside others.

    D is the number of weights of one of its filters.

    Attributes
    ----------
    name : of the layer.
    layer : the layer itself; see `weight`.
    columns : for each channel its places among the weights of a filter, [C, r], int64.
    centred : whether a change in the mean of its outputs can be undone, by its bias or by the
        batch normalisation behind it.
    """

    name: str
    layer: ReadingLayer
    columns: Tensor
    centred: bool

    @property
    def weight(self) -> Tensor:
        """Its filters, [J, D], float64."""
        return _plain(self.layer.weight).flatten(1)


@dataclass(frozen=True)
class LayerView:
    """The channels of one producer: their filters, consumer weights and statistics.

    In a chain, a producer is a convolution, its channels are a group, and its consumer is the next
    layer. In general, a group may have several producers, each with a view of its own, and a
    feature map several consumers.

    Attributes
    ----------
    index : position of the view, 0 for the first one.
    weight : the filters that produce the channels, [C, C_in, k, k], float64; C_in is 1 for a
        depthwise convolution.
    gamma, beta : scale and shift of the following batch normalisation, [C], float64. Ones and
        zeros if it has none of its own; None if there is no batch normalisation. Where a channel
        has several, the means of their magnitudes and of the shifts.
    consumer_weights : for each consumer its weights, [J, C, k, k], float64. For a linear layer J
        is the number of its outputs and k = 1; if it reads H x W pixels of each channel, its
        weights are [J, C, H, W].
    answers : the channel statistics that were collected.
    seed : for metrics that draw random numbers.
    group : position of the channel group; views of one group follow one another.
    name : of the convolution.
    readers : for each consumer the whole layer, with what else it reads.
    architecture : of the network.
    network : all views of the network, see `made_beside` and `read_beside`.
    """

    index: int
    weight: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    consumer_weights: tuple[Tensor, ...]
    answers: Mapping[Request, Answer] = field(default_factory=dict)
    seed: int = 0
    group: int = 0
    name: str = ""
    readers: tuple[Reader, ...] = ()
    architecture: Architecture | None = None
    network: Sequence[LayerView] = field(default=(), repr=False, compare=False)

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
        return sum(len(weight) for weight in self.consumer_weights)

    @property
    def weights_per_channel(self) -> int:
        """m, the number of consumer weights that read one channel: the sum of J k^2."""
        return sum(weight[:, 0].numel() for weight in self.consumer_weights)

    def made_beside(self) -> list[LayerView]:
        """The views of all channels that the convolution makes, this one among them.

        Where a shortcut copies channels, or a layer reads a concatenation, the channels of one
        convolution are in several groups. Channels that cannot be removed have no view.
        """
        return [one for one in self._everyone() if one.name == self.name]

    def read_beside(self, consumer: int) -> list[tuple[LayerView, int]]:
        """A view of each channel group that a consumer reads, for its own group this one.

        Producers whose outputs are added before the consumer reads them have the same channels
        there, and one of them stands for all.

        Parameters
        ----------
        consumer : its number among those of this view.

        Returns
        -------
        For each view the number of the consumer among its own.
        """
        name = self.readers[consumer].name if self.readers else ""
        found = {self.group: (self, consumer)}
        for one in self._everyone():
            for number, reader in enumerate(one.readers):
                if reader.name == name:
                    found.setdefault(one.group, (one, number))
        return [found[group] for group in sorted(found)]

    def _everyone(self) -> list[LayerView]:
        """All views of the network, with this one in its place."""
        return [self if one.index == self.index else one for one in self.network] or [self]

    @cached_property
    def kernels(self) -> tuple[Tensor, ...]:
        """Each consumer's kernels by channel, [C, J, k^2]."""
        return tuple(
            weight.transpose(0, 1).flatten(2).contiguous() for weight in self.consumer_weights
        )

    @cached_property
    def consumed(self) -> Tensor:
        """All consumer weights by channel, [C, m]."""
        return torch.cat([kernels.flatten(1) for kernels in self.kernels], dim=1)

    @cached_property
    def magnitudes(self) -> Tensor:
        """Magnitudes of all consumer weights by channel, [C, m]."""
        return self.consumed.abs()

    @cached_property
    def median_magnitude(self) -> float:
        """Median of `magnitudes`; if that is 0, of those that are not 0; 1 if all are 0."""
        median = self.magnitudes.median()
        if median == 0 and bool(self.magnitudes.any()):
            median = self.magnitudes[self.magnitudes > 0].median()
        return float(median) or 1.0

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
        """A random generator for this group; equal seed and purpose give equal numbers."""
        return torch.Generator().manual_seed(derive(self.seed, purpose, self.group))


def views(
    net: nn.Module, answers: Sequence[Mapping[Request, Answer]] | None = None, seed: int = 0
) -> list[LayerView]:
    """A view of every producer of every channel group, on the CPU in float64.

    Parameters
    ----------
    answers : for each view, as `collect` returns them.
    """
    found = [
        (group, producer)
        for group, of in enumerate(channel_groups(net).groups)
        for producer in of.producers
    ]
    shared = _of_inputs(answers or [])
    network: list[LayerView] = []
    for index, (group, producer) in enumerate(found):
        own = {**answers[index], **shared} if answers is not None else {}
        network.append(_view(net, producer, index, group, own, seed, network))
    return network


def _of_inputs(answers: Sequence[Mapping[Request, Answer]]) -> dict[Request, Answer]:
    """The answers that belong to layers that read, whatever producer they came with."""
    found: dict[Request, Answer] = {}
    for of_producer in answers:
        for request, answer in of_producer.items():
            if isinstance(request, InputRequest):
                found.setdefault(request, {}).update(answer)
    return found


def combined(scores: Sequence[Tensor], layers: Sequence[LayerView], how: Combine) -> list[Tensor]:
    """One score for each channel of each group, from the scores of its producers.

    Parameters
    ----------
    scores : for each view, [C].
    how : the mean, the sum or the maximum over the producers of a group.
    """
    of_group: dict[int, list[Tensor]] = {}
    for values, layer in zip(scores, layers, strict=True):
        of_group.setdefault(layer.group, []).append(values)
    return [
        values[0] if len(values) == 1 else _COMBINE[how](values) for values in of_group.values()
    ]


_COMBINE = {
    "mean": lambda values: torch.stack(values).mean(dim=0),
    "sum": lambda values: torch.stack(values).sum(dim=0),
    "max": lambda values: torch.stack(values).amax(dim=0),
}


def _view(
    net: nn.Module,
    producer: Producer,
    index: int,
    group: int,
    answers: Mapping[Request, Answer],
    seed: int,
    network: Sequence[LayerView],
) -> LayerView:
    weight = _weight(net, producer.name)
    gamma, beta = _norm(net, producer)
    return LayerView(
        index=index,
        # Several filters of one channel count as one filter with several inputs.
        weight=_plain(weight[producer.positions].flatten(1, 2)),
        gamma=gamma,
        beta=beta,
        consumer_weights=tuple(_read(net, one, producer) for one in producer.consumers),
        answers=answers,
        seed=seed,
        group=group,
        name=producer.name,
        readers=tuple(reader_of(net, one) for one in producer.consumers),
        architecture=architecture_of(net),
        network=network,
    )


def reader_of(net: nn.Module, consumer: Consumer) -> Reader:
    """The layer that a consumer names."""
    layer = reading_layer(net, consumer.module)
    area = layer.weight[0, 0].numel()
    places = consumer.positions[:, :, None] * area + torch.arange(area)
    centred = layer.bias is not None or consumer.norm is not None
    return Reader(consumer.module, layer, places.flatten(1), centred)


def _norm(net: nn.Module, producer: Producer) -> tuple[Tensor | None, Tensor | None]:
    if producer.norm is None or producer.norm_positions is None:
        return None, None
    norm = net.get_submodule(producer.norm)
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    positions = producer.norm_positions
    if not norm.affine:
        ones = torch.ones(len(positions), dtype=torch.float64)
        return ones, torch.zeros_like(ones)
    gamma, beta = _plain(norm.weight[positions]), _plain(norm.bias[positions])
    if positions.shape[1] == 1:
        return gamma[:, 0], beta[:, 0]
    return gamma.abs().mean(dim=1), beta.mean(dim=1)


def _read(net: nn.Module, consumer: Consumer, producer: Producer) -> Tensor:
    """The weights of a consumer that read the channels, [J, C, k, k]."""
    weight = _weight(net, consumer.module)
    positions = consumer.positions
    repeats = positions.shape[1]
    chosen = weight[:, positions.flatten()]
    chosen = chosen.unflatten(1, (-1, repeats))
    if weight.ndim == 2:
        # A linear layer that reads all pixels of the map, or several numbers of each channel.
        return _plain(chosen.unflatten(2, producer.window(repeats)))
    return _plain(chosen.flatten(2, 3))


def _weight(net: nn.Module, name: str) -> Tensor:
    return reading_layer(net, name).weight.detach()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().double().cpu().contiguous()
