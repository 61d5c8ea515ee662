"""The best channels of each layer, at given widths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prune_core.budgets.floor import BudgetError
from prune_core.networks import Architecture


def top(scores: Sequence[Tensor], widths: Sequence[int]) -> list[Tensor]:
    """For each layer the `widths` channels with the highest scores, int64 ascending."""
    return [
        torch.argsort(layer.cpu(), stable=True)[len(layer) - width :].sort().values
        for layer, width in zip(scores, widths, strict=True)
    ]


def check_scores(scores: Sequence[Tensor], architecture: Architecture) -> None:
    """Refuses scores that do not fit the network or give no order."""
    if [len(layer) for layer in scores] != list(architecture.widths):
        raise BudgetError(
            f"scores for widths {[len(layer) for layer in scores]}, "
            f"but the network has {list(architecture.widths)}"
        )
    for index, layer in enumerate(scores):
        if not bool(torch.isfinite(layer).all()):
            raise BudgetError(f"layer {index} has scores that are not finite; they give no order")
