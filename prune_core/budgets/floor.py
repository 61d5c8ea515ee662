"""How far a layer may shrink, and which ratios that leaves within reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prune_core.cost import cost
from prune_core.networks import Architecture
from prune_core.networks.groups import Cost

NOUNS: dict[Cost, str] = {"parameters": "parameters", "macs": "multiply-accumulates"}
"""What a person calls each cost."""


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
        blocks. A layer that loses no channel keeps its width, and a layer that is not wider than
        this loses none.
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
        # The margin makes 0.07 of 100 channels 7, where ceil(7.000000000000001) would be 8.
        least = [max(self.channels, math.ceil(self.fraction * width - 1e-9)) for width in widths]
        step = self.round_to
        return tuple(
            min(width, -(-low // step) * step) for width, low in zip(widths, least, strict=True)
        )

    def below(self, width: int) -> int:
        """The next smaller multiple of `round_to`."""
        return (width - 1) // self.round_to * self.round_to


def lowest_ratio(architecture: Architecture, floor: Floor, of: Cost = "parameters") -> float:
    """The smallest ratio of a cost that the floor allows."""
    return cost(architecture, of, floor.of(architecture.widths)) / cost(architecture, of)


def check_ratio(
    architecture: Architecture, ratio: float, floor: Floor, of: Cost = "parameters"
) -> None:
    """Refuses a ratio outside (0, 1] or below what the floor allows.

    Parameters
    ----------
    of : the cost that the ratio counts.

    Raises
    ------
    BudgetError
        Its message names the lowest reachable ratio.
    """
    check_range(ratio)
    lowest = lowest_ratio(architecture, floor, of)
    if ratio < lowest:
        raise BudgetError(
            f"ratio {ratio} cannot be reached: with the floor of {floor} the lowest reachable "
            # Rounded up, so that the printed figure itself can be used.
            f"ratio is {math.ceil(lowest * 1e6) / 1e6:.6f} of the {NOUNS[of]}; raise the ratio"
            + "".join(f" or lower {limits}" for limits in _lowering(architecture, ratio, floor, of))
        )


def _lowering(architecture: Architecture, ratio: float, floor: Floor, of: Cost) -> list[str]:
    """The limits of a floor that can be lowered to reach a ratio: each alone, else both."""
    without = {
        "min_channels": Floor(round_to=floor.round_to),
        "round_to": replace(floor, round_to=1),
        "min_channels and round_to": Floor(),
    }
    enough = [name for name, one in without.items() if lowest_ratio(architecture, one, of) <= ratio]
    return enough[:-1] or enough


def check_range(ratio: float) -> None:
    """Refuses a ratio outside (0, 1], whatever it counts."""
    if not 0 < ratio <= 1:
        raise BudgetError(f"ratio {ratio} must lie in (0, 1]")


def collapsed(architecture: Architecture, widths: Sequence[int], floor: Floor) -> bool:
    """Whether pruning left some layer at its floor.

    With the default floor of one channel this marks a ranking that removed nearly a whole layer.
    With a higher floor, or a low ratio, it may be what was asked for.
    """
    return any(
        width <= low < full
        for width, low, full in zip(
            widths, floor.of(architecture.widths), architecture.widths, strict=True
        )
    )
