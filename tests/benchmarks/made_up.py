"""Images and networks for timing; their contents do not affect the time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prune_core.budgets import Floor, global_, uniform_parameters
from prune_core.cost import multiply_accumulates
from prune_core.images import LabelledImages
from prune_core.networks import Architecture, architecture_of
from prune_core.preprocessing import Preprocessing

CLASSES = 10
BATCH = 128
SCALING = Preprocessing((125.0, 125.0, 125.0), (63.0, 63.0, 63.0))
TRAINING_PASSES = 3
"""A training step computes about as much as three inference passes: forward, and backward for
the maps and for the weights."""


def noise(count: int) -> LabelledImages:
    """Random pixels, and the labels 0 to 9 in turn."""
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(count) % CLASSES)


def network(variant: str, ratio: float = 1.0, scope: str = "local", round_to: int = 1) -> nn.Module:
    """A registered network, or with the widths after pruning to a ratio.

    Parameters
    ----------
    scope : `local` shrinks all layers by the same fraction; `global` shrinks them unevenly, as
        one ranking of all channels does, here with made-up scores.
    """
    full, floor = Architecture.named(variant, CLASSES), Floor(4, 0.1, round_to)
    widths = full.widths
    if ratio < 1 and scope == "local":
        widths = uniform_parameters(full, ratio, floor)
    elif ratio < 1:
        widths = tuple(len(kept) for kept in global_(_uneven(full), full, ratio, floor))
    return full.with_widths(widths).build()


def _uneven(architecture: Architecture) -> list[Tensor]:
    """Scores that are higher in some layers than in others, the same on every call."""
    chance = torch.Generator().manual_seed(0)
    return [
        torch.rand(width, generator=chance) + 0.5 * torch.rand((), generator=chance)
        for width in architecture.widths
    ]


def training_flop(net: nn.Module) -> float:
    """Floating-point operations of a training step for one image: 3 x 2 x multiply-accumulates."""
    return TRAINING_PASSES * inference_flop(net)


def inference_flop(net: nn.Module) -> float:
    """Floating-point operations of inference for one image: 2 x multiply-accumulates."""
    return 2.0 * multiply_accumulates(architecture_of(net))
