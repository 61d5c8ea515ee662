"""Layerwise rules: widths that depend on the architecture alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from prune_core.budgets.channels import check_scores, top
from prune_core.budgets.floor import Floor, check_range, check_ratio
from prune_core.budgets.registry import layerwise
from prune_core.cost import parameters
from prune_core.networks import Architecture


@layerwise(version=2)
def uniform_parameters(
    architecture: Architecture, ratio: float, floor: Floor | None = None
) -> tuple[int, ...]:
    """One keep fraction for all layers, such that the parameters just fit the ratio.

    The fraction rho solves P(rho n) = ratio P(n) for real widths. Each layer gets the whole
    part; then `_filled` gives layers more channels (or steps) until no layer can get another
    within the budget.
    """
    floor = floor or Floor()
    check_ratio(architecture, ratio, floor)
    full, floors = architecture.widths, floor.of(architecture.widths)
    sizes = architecture.groups.sizes
    budget = ratio * parameters(architecture)
    low, high = 0.0, 1.0
    if ratio == 1:
        return full
    for _ in range(60):
        rho = (low + high) / 2
        if sizes.parameters(_shrunk(full, floors, rho)) <= budget:
            low = rho
        else:
            high = rho
    ideal = _shrunk(full, floors, low)
    step = floor.round_to
    whole = [
        max(low, math.floor(width / step) * step) if width < most else most
        for width, low, most in zip(ideal, floors, full, strict=True)
    ]
    return _filled(architecture, whole, ideal, step, budget)


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


def _filled(
    architecture: Architecture,
    widths: Sequence[int],
    ideal: Sequence[float],
    step: int,
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
        # Rounded, so that the rounding error of rho decides no tie.
        layer = max(able, key=lambda one: (round(ideal[one] - found[one], 9), -one))
        smaller = found[layer]
        found[layer] = min(architecture.widths[layer], smaller + step)
        if parameters(architecture, found) > budget:
            found[layer] = smaller
            able.remove(layer)
        elif found[layer] == architecture.widths[layer]:
            able.remove(layer)
    return tuple(found)


def _shrunk(full: Sequence[int], floors: Sequence[int], rho: float) -> list[float]:
    return [max(low, rho * width) for width, low in zip(full, floors, strict=True)]
