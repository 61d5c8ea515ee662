"""From scores to kept channels, under a budget of parameters.

The ratio is always parameters of the pruned network over parameters of the full one, counted
as `cost.parameters` counts them. Channels are ordered stably by (score, layer, channel), so
ties are decided the same way everywhere: of equal scores, the first goes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prune_core.cost import SCALARS_PER_CHANNEL, parameters
from prune_core.network import INPUT_CHANNELS, Architecture

BUDGET_VERSION = 1


class BudgetError(ValueError):
    """A ratio or floor that cannot be met, or scores that cannot be ordered."""


@dataclass(frozen=True)
class Floor:
    """Which widths a layer may have, between its own and the fewest channels that it must keep.

    `Floor()` lets a layer shrink to one channel; `Floor(4, 0.1)` guards against collapse.

    Attributes
    ----------
    channels, fraction : the fewest channels are the larger of a number and a fraction of the
        layer's width, rounded up to an allowed width.
    round_to : a pruned layer's width is a multiple of this, for hardware that computes in
        blocks; a layer that loses nothing keeps its width, and one that is not wider than
        this loses nothing.
    """

    channels: int = 1
    fraction: float = 0.0
    round_to: int = 1

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise BudgetError(f"min_channels {self.channels}: a layer needs at least 1 channel")
        if not 0 <= self.fraction <= 1:
            raise BudgetError(f"min_channels fraction {self.fraction} must lie in [0, 1]")
        if self.round_to < 1:
            raise BudgetError(f"round_to {self.round_to} must be at least 1")

    def __str__(self) -> str:
        number = f"{self.channels} channel{'' if self.channels == 1 else 's'} a layer"
        number += f" or {self.fraction:.4g} of it" if self.fraction else ""
        return number + (f", in multiples of {self.round_to}" if self.round_to > 1 else "")

    def of(self, widths: Sequence[int]) -> tuple[int, ...]:
        """The fewest channels of each layer, never above its width."""
        # Less a little, so that 0.07 of 100 channels is 7 and not ceil(7.000000000000001).
        least = [max(self.channels, math.ceil(self.fraction * width - 1e-9)) for width in widths]
        step = self.round_to
        return tuple(
            min(width, -(-low // step) * step) for width, low in zip(widths, least, strict=True)
        )

    def below(self, width: int) -> int:
        """The next smaller multiple of `round_to`."""
        return (width - 1) // self.round_to * self.round_to


def lowest_ratio(architecture: Architecture, floor: Floor) -> float:
    """The smallest parameter ratio that the floor allows."""
    return parameters(architecture, floor.of(architecture.widths)) / parameters(architecture)


def check_ratio(architecture: Architecture, ratio: float, floor: Floor) -> None:
    """Refuses a ratio outside (0, 1] or below what the floor allows.

    Raises
    ------
    BudgetError
        Its message names the lowest reachable ratio.
    """
    if not 0 < ratio <= 1:
        raise BudgetError(f"ratio {ratio} must lie in (0, 1]")
    lowest = lowest_ratio(architecture, floor)
    if ratio < lowest:
        raise BudgetError(
            f"ratio {ratio} cannot be reached: with the floor of {floor} the lowest reachable "
            # Rounded up, so that the printed figure itself can be used.
            f"ratio is {math.ceil(lowest * 1e6) / 1e6:.6f}; raise the ratio or lower min_channels"
        )


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
    _check_scores(scores, architecture)
    return top(scores, uniform_widths(architecture, ratio, floor))


def global_(
    scores: Sequence[Tensor], architecture: Architecture, ratio: float, floor: Floor | None = None
) -> list[Tensor]:
    """The best channels of the whole network, in one ranking.

    Channels are removed from the bottom, each with all parameters that go with it, until the
    budget is passed; of the last two states the one nearer to the budget is kept. A layer at
    its floor loses no more. Where widths go in steps, a layer's channels leave together, as
    soon as a whole step of them has been reached. The kept channels of a smaller ratio are a
    subset of a larger one's.
    """
    floor = floor or Floor()
    _check_scores(scores, architecture)
    check_ratio(architecture, ratio, floor)
    order = [
        (layer, channel)
        for _, layer, channel in sorted(
            (score, layer, channel)
            for layer, layer_scores in enumerate(scores)
            for channel, score in enumerate(layer_scores.tolist())
        )
    ]
    floors, widths = floor.of(architecture.widths), list(architecture.widths)
    target = ratio * parameters(architecture)
    count = parameters(architecture)
    reached: list[list[int]] = [[] for _ in widths]
    for layer, channel in order:
        if count <= target:
            break
        if widths[layer] == floors[layer]:
            continue
        reached[layer].append(channel)
        smaller = max(floors[layer], floor.below(widths[layer]))
        if architecture.widths[layer] - len(reached[layer]) > smaller:
            continue
        before = count
        leaving = widths[layer] - smaller
        count -= leaving * _parameters_of_channel(architecture, widths, layer)
        if count < target and target - count > before - target:
            break
        widths[layer] = smaller
    removed = [
        set(channels[: full - width])
        for channels, full, width in zip(reached, architecture.widths, widths, strict=True)
    ]
    return [
        torch.tensor([c for c in range(width) if c not in gone], dtype=torch.int64)
        for width, gone in zip(architecture.widths, removed, strict=True)
    ]


def uniform_widths(
    architecture: Architecture, ratio: float, floor: Floor | None = None
) -> tuple[int, ...]:
    """Widths with one keep fraction for all layers that just fit into the budget.

    The fraction rho solves P(rho n) = ratio P(n) for real widths. Each layer gets the whole
    part; then layers get one channel (or step) more, the largest rest first, while the budget
    allows.
    """
    floor = floor or Floor()
    check_ratio(architecture, ratio, floor)
    full, floors = architecture.widths, floor.of(architecture.widths)
    budget = ratio * parameters(architecture)
    low, high = 0.0, 1.0
    if ratio == 1:
        return full
    for _ in range(60):
        rho = (low + high) / 2
        if _parameters_of_reals(architecture, _shrunk(full, floors, rho)) <= budget:
            low = rho
        else:
            high = rho
    ideal = _shrunk(full, floors, low)
    step = floor.round_to
    widths = [
        max(low, math.floor(width / step) * step) if width < most else most
        for width, low, most in zip(ideal, floors, full, strict=True)
    ]
    rests = sorted(range(len(full)), key=lambda layer: widths[layer] - ideal[layer])
    for layer in rests:
        smaller = widths[layer]
        widths[layer] = min(full[layer], smaller + step)
        if parameters(architecture, widths) > budget:
            widths[layer] = smaller
    return tuple(widths)


def uniform_channels(
    architecture: Architecture, ratio: float, floor: Floor | None = None
) -> tuple[int, ...]:
    """Widths of `ratio` times the full ones, rounded to the nearest allowed width.

    The ratio is one of channels here, as in HRank (Lin et al. 2020, arXiv:2002.10179): about
    its square is the ratio of parameters.
    """
    floor = floor or Floor()
    if not 0 < ratio <= 1:
        raise BudgetError(f"ratio {ratio} must lie in (0, 1]")
    full, step = architecture.widths, floor.round_to
    if ratio == 1:
        return full
    return tuple(
        min(most, max(low, math.floor(ratio * most / step + 0.5) * step))
        for most, low in zip(full, floor.of(full), strict=True)
    )


def top(scores: Sequence[Tensor], widths: Sequence[int]) -> list[Tensor]:
    """For each layer the `widths` channels with the highest scores, int64 ascending."""
    return [
        torch.argsort(layer.cpu(), stable=True)[len(layer) - width :].sort().values
        for layer, width in zip(scores, widths, strict=True)
    ]


def collapsed(architecture: Architecture, widths: Sequence[int], floor: Floor) -> bool:
    """Whether some layer was cut down to its floor: the sign of a ranking gone wrong."""
    return any(
        width <= low < full
        for width, low, full in zip(
            widths, floor.of(architecture.widths), architecture.widths, strict=True
        )
    )


def _shrunk(full: Sequence[int], floors: Sequence[int], rho: float) -> list[float]:
    return [max(low, rho * width) for width, low in zip(full, floors, strict=True)]


def _parameters_of_reals(architecture: Architecture, widths: Sequence[float]) -> float:
    before, total = float(INPUT_CHANNELS), float(architecture.classes)
    for width, kernel in zip(widths, architecture.kernels, strict=True):
        total += width * (before * kernel**2 + SCALARS_PER_CHANNEL)
        before = width
    return total + before * architecture.classes


def _parameters_of_channel(architecture: Architecture, widths: Sequence[int], layer: int) -> int:
    """Parameters that leave with one channel: its filter, its scalars, its consumer's inputs."""
    inputs = INPUT_CHANNELS if layer == 0 else widths[layer - 1]
    if layer + 1 < len(widths):
        read = widths[layer + 1] * architecture.kernels[layer + 1] ** 2
    else:
        read = architecture.classes
    return inputs * architecture.kernels[layer] ** 2 + SCALARS_PER_CHANNEL + read


def _check_scores(scores: Sequence[Tensor], architecture: Architecture) -> None:
    if [len(layer) for layer in scores] != list(architecture.widths):
        raise BudgetError(
            f"scores for widths {[len(layer) for layer in scores]}, "
            f"but the network has {list(architecture.widths)}"
        )
    for index, layer in enumerate(scores):
        if not bool(torch.isfinite(layer).all()):
            raise BudgetError(f"layer {index} has scores that are not finite; they give no order")
