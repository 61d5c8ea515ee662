"""Layerwise rules: widths that depend on the architecture alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from prune_core.budgets.allocation import allocated
from prune_core.budgets.channels import check_scores, top
from prune_core.budgets.floor import Floor, check_range
from prune_core.budgets.registry import layerwise
from prune_core.networks import Architecture
from prune_core.networks.groups import ChannelGroup, Cost


@layerwise(version=2)
def uniform_parameters(
    architecture: Architecture, ratio: float, floor: Floor | None = None
) -> tuple[int, ...]:
    """One keep fraction for all layers, such that the parameters just fit the ratio.

    The fraction rho solves P(rho n) = ratio P(n) for real widths; see
    `prune_core.budgets.allocation.allocated`.
    """
    alike = [1.0] * len(architecture.widths)
    return allocated(architecture, ratio, floor or Floor(), "parameters", alike)


@layerwise(ratio_of="macs")
def uniform_macs(
    architecture: Architecture, ratio: float, floor: Floor | None = None
) -> tuple[int, ...]:
    """One keep fraction for all layers, such that the multiply-accumulates just fit the ratio."""
    alike = [1.0] * len(architecture.widths)
    return allocated(architecture, ratio, floor or Floor(), "macs", alike)


@layerwise(ratio_of="channels")
def uniform_channels(
    architecture: Architecture, ratio: float, floor: Floor | None = None
) -> tuple[int, ...]:
    """The same fraction of each layer's channels, rounded to the nearest allowed width.

    The ratio counts channels here, as in HRank (Lin et al. 2020, arXiv:2002.10179); the ratio of
    parameters is about its square.
    """
    floor = floor or Floor()
    check_range(ratio)
    full, step = architecture.widths, floor.round_to
    if ratio == 1:
        return full
    return tuple(
        min(most, max(low, math.floor(ratio * most / step + 0.5) * step))
        for most, low in zip(full, floor.of(full), strict=True)
    )


@layerwise()
def erk(
    architecture: Architecture,
    ratio: float,
    floor: Floor | None = None,
    *,
    of: Cost = "parameters",
) -> tuple[int, ...]:
    """Layers with few weights keep a larger fraction: the Erdos-Renyi kernel distribution.

    The fraction of the channels that a group keeps is proportional to
    (n_in + n_out + k_h + k_w) / (n_in n_out k_h k_w) of its producer's weight, at most 1, with one
    factor for all groups. In the papers it is the fraction of a layer's weights. Of several
    producers, numerators and denominators are added up.

    Source: Mocanu et al. 2018, doi:10.1038/s41467-018-04316-3; for convolutions Evci et al. 2020,
    arXiv:1911.11134.

    Parameters
    ----------
    of : the cost that the ratio counts.
    """
    density = [_density(group) for group in architecture.groups.groups]
    proportions = [one / min(density) for one in density]
    return allocated(architecture, ratio, floor or Floor(), of, proportions)


def _density(group: ChannelGroup) -> float:
    """The fraction of a group's weights that stays, up to a factor for all groups."""
    shapes = [producer.weight for producer in group.producers]
    return sum(map(sum, shapes)) / sum(map(math.prod, shapes))


def local(
    scores: Sequence[Tensor], architecture: Architecture, ratio: float, floor: Floor | None = None
) -> list[Tensor]:
    """The best channels of every layer, all layers shrunk by one fraction.

    Parameters
    ----------
    scores : for each layer the importance of its channels, [C], higher = keep.
    ratio : parameters to keep, in (0, 1].

    Returns
    -------
    For each layer the kept channels, int64 ascending.
    """
    check_scores(scores, architecture)
    return top(scores, uniform_parameters(architecture, ratio, floor))
