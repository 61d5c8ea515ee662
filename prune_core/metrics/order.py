"""Scores of channels that leave one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

# Channels that leave one after the other never have equal scores: a budget would break the tie
# by their numbers. The step is far above the rounding of float64 and far below any difference.
STEP = 1e-9
SMALLEST = 1e-6


def scores_of(order: Sequence[int], worth: Iterable[float]) -> Tensor:
    """The score of each channel, [C], float64: its worth, and more than that of those before it.

    So masks nest over ratios.

    Parameters
    ----------
    order : the channels, the first that leaves first.
    worth : of each at its removal, >= 0.
    """
    scores = torch.empty(len(order), dtype=torch.float64)
    last = -STEP * SMALLEST  # so the first score is at least 0
    for channel, own in zip(order, worth, strict=True):
        last = max(own, last + STEP * max(last, SMALLEST))
        scores[channel] = last
    return scores
