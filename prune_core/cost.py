"""The cost of a network, counted on the network itself: parameters and multiply-accumulates."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from prune_core.networks import INPUT_CHANNELS, Architecture, Size
from prune_core.networks.groups import Cost


def count_parameters(net: nn.Module) -> int:
    """Number of trainable parameters, including biases and batch normalisation."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def count_multiply_accumulates(net: nn.Module, image_size: Size) -> int:
    """Multiply-accumulates (MACs) of convolutions and matrix products for an image, without biases.

    The network runs on the meta device, which computes shapes only.

    Parameters
    ----------
    image_size : height and width of the image in pixels.
    """
    shape = (1, INPUT_CHANNELS, *image_size)
    try:
        return _counted(copy.deepcopy(net).to("meta"), torch.empty(shape, device="meta"))
    except Exception:
        # A forward method may make tensors of its own, which are not on the meta device.
        example = next(net.parameters())
        images = torch.zeros(shape, dtype=example.dtype, device=example.device)
        return _counted(copy.deepcopy(net), images)


def _counted(net: nn.Module, images: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(images)
    # It counts a multiply-accumulate as two operations.
    return counter.get_total_flops() // 2


def cost(architecture: Architecture, of: Cost, widths: Sequence[int] | None = None) -> int:
    """The cost of a network at these widths, by default those of the architecture.

    It is computed from the widths and no network is built; see `prune_core.networks.groups.Sizes`.
    """
    found = architecture.groups.sizes.cost(of, architecture.widths if widths is None else widths)
    assert isinstance(found, int)
    return found


def parameters(architecture: Architecture, widths: Sequence[int] | None = None) -> int:
    """Number of trainable parameters at these widths; see `cost`."""
    return cost(architecture, "parameters", widths)


def macs(architecture: Architecture, widths: Sequence[int] | None = None) -> int:
    """Multiply-accumulates for an image at these widths, without biases; see `cost`."""
    return cost(architecture, "macs", widths)


@lru_cache(maxsize=256)
def multiply_accumulates(architecture: Architecture) -> int:
    """Multiply-accumulates (MACs) of a network of this architecture for an image, counted on it."""
    with torch.random.fork_rng(devices=[]):
        net = architecture.build()
    return count_multiply_accumulates(net, architecture.image_size)
