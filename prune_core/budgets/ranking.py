"""One ranking of all channels, under a budget of parameters or multiply-accumulates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prune_core.budgets.channels import check_scores
from prune_core.budgets.floor import Floor, check_ratio
from prune_core.budgets.registry import Borrowed, ranking, register
from prune_core.cost import cost
from prune_core.networks import Architecture
from prune_core.networks.groups import Cost


@ranking("global")
def global_(
    scores: Sequence[Tensor],
    architecture: Architecture,
    ratio: float,
    floor: Floor | None = None,
    *,
    of: Cost = "parameters",
) -> list[Tensor]:
    """One ranking of all channels, cut where the cost meets the ratio.

    Channels are removed from the bottom, each with all parameters (or multiply-accumulates) that go
    with it, until the budget is passed; of the last two states the one nearer to the budget is
    kept. A layer at its floor loses no more. Where widths go in steps, a layer's channels leave
    together, as soon as a whole step of them has been reached. The kept channels of a smaller ratio
    are a subset of a larger one's.

    Parameters
    ----------
    of : the cost that the ratio counts.
    """
    floor = floor or Floor()
    check_scores(scores, architecture)
    check_ratio(architecture, ratio, floor, of)
    order = [
        (layer, channel)
        for _, layer, channel in sorted(
            (score, layer, channel)
            for layer, layer_scores in enumerate(scores)
            for channel, score in enumerate(layer_scores.tolist())
        )
    ]
    floors, widths = floor.of(architecture.widths), list(architecture.widths)
    target = ratio * cost(architecture, of)
    count, sizes = cost(architecture, of), architecture.groups.sizes
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
        count -= sizes.difference(widths, layer, smaller, of)
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


register(
    Borrowed(
        "widths_of",
        "widths_of",
        "The best channels of each layer, at the widths that another metric's ranking leaves.",
        lender="global",
    )
)
