"""Channel groups: the channels of a network that live and die together.

A group is a set of channels. In a chain, each convolution has its own. Where a shortcut adds two
convolutions, their channels with the same number are one: removing it from one of them alone would
leave the sum without a summand of the right shape. Scores, budgets, surgery and statistics know
groups only, not which layer follows which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal

from torch import Tensor

GROUPS_VERSION = 2
"""Raised when other groups are found in the same network, or other feature maps, weights or flows
are scored in networks that are not chains."""

Grouping = Literal["all", "inner"]
"""`all`: every group; `inner`: only those whose channels no addition joins with others, so in a
residual network the channels inside a block."""

Side = Literal["outputs", "inputs"]


@dataclass(frozen=True, eq=False)
class Member:
    """The positions of a group's channels on one axis of a module.

    Attributes
    ----------
    module : its name in the network.
    side : `outputs` is the first axis of its tensors, `inputs` the second one of its weight. A
        batch normalisation has only outputs. A depthwise convolution has both, where `inputs`
        counts its groups.
    positions : [C, r], int64: channel c takes r positions, more than one if a linear layer reads
        several pixels of it.
    """

    module: str
    side: Side
    positions: Tensor


@dataclass(frozen=True, eq=False)
class Consumer:
    """A convolution or linear layer that reads a group's channels.

    Attributes
    ----------
    positions : of the channels among its inputs, [C, r], int64.
    norm : the batch normalisation that reads its outputs, if nothing else does; None otherwise.
    """

    module: str
    positions: Tensor
    norm: str | None = None

    @cached_property
    def in_order(self) -> bool:
        """Whether the positions are 0, 1, 2 and so on."""
        flat = self.positions.flatten()
        return flat.tolist() == list(range(len(flat)))


@dataclass(frozen=True, eq=False)
class Producer:
    """A convolution that makes a group's channels, and what reads them.

    Attributes
    ----------
    name : of the convolution.
    positions : of the channels among its outputs, [C, r], int64; r is 1 unless it is depthwise
        with several filters for a channel.
    norm : the first batch normalisation behind it, or None.
    norm_positions : of the channels in it, [C, r].
    consumers : all that read the channels before another producer is added to them. The feature
        map that is scored is the input of the first one.
    shape : height and width of that feature map.
    weight : the shape of its weight, [outputs, inputs, k_h, k_w]; a depthwise filter has one input.
    """

    name: str
    positions: Tensor
    norm: str | None
    norm_positions: Tensor | None
    consumers: tuple[Consumer, ...]
    shape: tuple[int, int]
    weight: tuple[int, int, int, int]

    def window(self, positions: int) -> tuple[int, int]:
        """Height and width of the positions that each channel has in a linear layer's input."""
        height, width = self.shape
        return self.shape if height * width == positions else (positions, 1)


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that are removed together.

    Attributes
    ----------
    name : of its first producer.
    channels : C, their number.
    producers : in the order of execution.
    members : every axis of every module that gets shorter with the group.
    joined : whether an addition joins channels of different producers.
    """

    name: str
    channels: int
    producers: tuple[Producer, ...]
    members: tuple[Member, ...]
    joined: bool


@dataclass(frozen=True)
class Length:
    """The length of an axis as a function of the groups' widths: fixed + sum of r_g k_g."""

    fixed: int
    repeats: tuple[tuple[int, int], ...] = ()
    """Pairs of a group's index g and r_g, the positions of one of its channels."""

    def of(self, widths: Sequence[float]) -> float:
        """The length; a whole number if the widths are."""
        length: float = self.fixed
        for group, repeat in self.repeats:
            length += repeat * widths[group]
        return length


Cost = Literal["parameters", "macs"]
"""What a network costs: trainable parameters, or multiply-accumulates (MACs) for an image."""

Term = tuple[int, tuple[Length, ...]]
"""A factor and the lengths of the axes that change: their product is a part of a cost."""


@dataclass(frozen=True)
class Sizes:
    """The costs of a network as functions of its widths, for the search of a budget.

    Every tensor has as many entries as the product of the lengths of its axes. A convolution or
    linear layer takes as many multiply-accumulates as its weight has entries, times the positions
    of its output. Reported figures are counted on the network itself; see `prune_core.cost`.

    Attributes
    ----------
    parameter_terms : for each kind of tensor a factor and the lengths of the axes that change.
    mac_terms : the same for each kind of convolution or linear layer, and one number for all
        operations that no group changes.
    """

    parameter_terms: tuple[Term, ...]
    mac_terms: tuple[Term, ...]

    def cost(self, of: Cost, widths: Sequence[float]) -> float:
        """The cost at these widths; a whole number if the widths are."""
        return _total(self._terms(of), widths)

    def parameters(self, widths: Sequence[float]) -> float:
        """The number of trainable parameters; see `cost`."""
        return self.cost("parameters", widths)

    def macs(self, widths: Sequence[float]) -> float:
        """The number of multiply-accumulates for an image, without biases; see `cost`."""
        return self.cost("macs", widths)

    def difference(
        self, widths: Sequence[int], group: int, width: int, of: Cost = "parameters"
    ) -> int:
        """The cost that is saved if a group gets another width, and all others stay."""
        terms = self._of_group[of].get(group, [])
        changed = [*widths]
        changed[group] = width
        return int(_total(terms, widths) - _total(terms, changed))

    def _terms(self, of: Cost) -> tuple[Term, ...]:
        return self.parameter_terms if of == "parameters" else self.mac_terms

    @cached_property
    def _of_group(self) -> dict[Cost, dict[int, list[Term]]]:
        """For each cost, the terms that change with a group."""
        found: dict[Cost, dict[int, list[Term]]] = {"parameters": {}, "macs": {}}
        for of, changing in found.items():
            for factor, lengths in self._terms(of):
                for group in {group for length in lengths for group, _ in length.repeats}:
                    changing.setdefault(group, []).append((factor, lengths))
        return found


def _total(terms: Iterable[Term], widths: Sequence[float]) -> float:
    count: float = 0
    for factor, lengths in terms:
        count += factor * prod(length.of(widths) for length in lengths)
    return count


@dataclass(frozen=True, eq=False)
class Groups:
    """The channel groups of a network.

    Attributes
    ----------
    groups : those that can be pruned, in the order of their first producers.
    sizes : parameters and multiply-accumulates as functions of their widths.
    fixed : what cannot be pruned: the name of a convolution, and why.
    """

    groups: tuple[ChannelGroup, ...]
    sizes: Sizes
    fixed: tuple[tuple[str, str], ...] = field(default=())

    @property
    def widths(self) -> tuple[int, ...]:
        """The channels of each group."""
        return tuple(group.channels for group in self.groups)

    @property
    def producers(self) -> tuple[Producer, ...]:
        """The producers of all groups, one group after the other."""
        return tuple(one for group in self.groups for one in group.producers)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each group."""
        return tuple(group.name for group in self.groups)
