"""Widths in given proportions, under a budget of parameters or multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prune_core.budgets.floor import Floor, check_ratio
from prune_core.cost import cost
from prune_core.networks import Architecture
from prune_core.networks.groups import Cost


def allocated(
    architecture: Architecture,
    ratio: float,
    floor: Floor,
    of: Cost,
    proportions: Sequence[float],
) -> tuple[int, ...]:
    """Widths whose keep fractions have given proportions, such that their cost just fits a ratio.

    The fraction of layer l is s p_l, but at most 1 and never below its floor, with one factor s for
    all layers: the one at which real widths meet the ratio. Each layer gets the whole part of its
    width; then `_filled` gives layers more channels (or steps) until no layer can get another
    within the budget.

    Parameters
    ----------
    of : the cost that the ratio counts.
    proportions : p_l, of which the smallest is 1.

    Raises
    ------
    BudgetError
        See `prune_core.budgets.floor.check_ratio`.
    """
    check_ratio(architecture, ratio, floor, of)
    full, floors = architecture.widths, floor.of(architecture.widths)
    if ratio == 1:
        return full
    sizes, budget = architecture.groups.sizes, ratio * cost(architecture, of)

    def shares(factor: float) -> list[float]:
        return [
            max(least, min(most, factor * proportion * most))
            for most, least, proportion in zip(full, floors, proportions, strict=True)
        ]

    low, high = 0.0, 1.0
    for _ in range(60):
        factor = (low + high) / 2
        if sizes.cost(of, shares(factor)) <= budget:
            low = factor
        else:
            high = factor
    ideal, step = shares(low), floor.round_to
    whole = [
        max(least, math.floor(width / step) * step) if width < most else most
        for width, least, most in zip(ideal, floors, full, strict=True)
    ]
    return _filled(architecture, whole, ideal, step, of, budget)


def _filled(
    architecture: Architecture,
    widths: Sequence[int],
    ideal: Sequence[float],
    step: int,
    of: Cost,
    budget: float,
) -> tuple[int, ...]:
    """Widths with steps added, one at a time, until no layer can take another one.

    Each step goes to the layer with the largest deficit, its ideal width minus its width, among
    those that can take it: narrower than the full layer, and within the budget afterwards. Of
    equal deficits the first layer's counts. A step makes the deficit negative, so no layer gets a
    second step while another can take its first.
    """
    found = list(widths)
    # A layer that does not fit never will: as other layers grow, its step costs more.
    able = {layer for layer, most in enumerate(architecture.widths) if found[layer] < most}
    while able:
        # Rounded, so that the rounding error of the factor decides no tie.
        layer = max(able, key=lambda one: (round(ideal[one] - found[one], 9), -one))
        smaller = found[layer]
        found[layer] = min(architecture.widths[layer], smaller + step)
        if cost(architecture, of, found) > budget:
            found[layer] = smaller
            able.remove(layer)
        elif found[layer] == architecture.widths[layer]:
            able.remove(layer)
    return tuple(found)
