"""Physical removal of channels: cuts slices out of a copy of a network."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from prune_core.networks import (
    INPUT_CHANNELS,
    Architecture,
    ArchitectureError,
    architecture_of,
    attach,
    channel_groups,
)
from prune_core.networks.cutting import cut, stays
from prune_core.networks.groups import Groups
from prune_core.networks.module import reading
from prune_core.precision import full_precision

SURGERY_VERSION = 1


class SurgeryError(ValueError):
    """The list of kept channels is invalid; the message names the layer."""


def prune(net: nn.Module, kept: Sequence[Tensor]) -> nn.Module:
    """A new, smaller network with only the kept channels of `net`.

    With a channel, its filters, biases and batch normalisation are removed, and also the consumer
    weights that read it. In eval mode the outputs equal those of `net` with the removed channels
    set to zero where a convolution or linear layer reads them. `net` is not changed.

    Parameters
    ----------
    kept : for each channel group, the indices of the channels to keep, int64, ascending.

    Raises
    ------
    SurgeryError
        If a group keeps no channel, or if indices are out of range, repeated, not ascending or
        not int64.
    """
    groups = channel_groups(net)
    check(groups, kept)
    pruned = copy.deepcopy(net)
    cut(pruned, groups, kept)
    pruned.zero_grad(set_to_none=True)
    architecture = architecture_of(net).with_widths(tuple(len(channels) for channels in kept))
    # Slices lie in another order in memory, which changes the rounding of convolutions.
    return attach(pruned.to(memory_format=torch.channels_last), architecture)


@contextmanager
def masked(net: nn.Module, kept: Sequence[Tensor]) -> Iterator[nn.Module]:
    """The network, in which every convolution and linear layer reads zeros for removed channels.

    It computes what the pruned network computes, at the cost of the full one: for tests, and to
    check that the groups of a network are right.

    Parameters
    ----------
    kept : as for `prune`.
    """
    groups = channel_groups(net)
    readers = {one.module for producer in groups.producers for one in producer.consumers}

    def zeroed(positions: Tensor, read: Tensor) -> Tensor:
        mask = torch.zeros(read.shape[1], dtype=read.dtype, device=read.device)
        mask[positions.to(read.device)] = 1
        return read * mask.view(1, -1, *[1] * (read.ndim - 2))

    hooks = {
        net.get_submodule(name): partial(zeroed, sides["inputs"])
        for name, sides in stays(net, groups, kept).items()
        if name in readers
    }
    with reading(hooks):
        yield net


CHECKED, CHECKED_FLOAT = 1e-8, 1e-3
"""Allowed difference of the logits in `check_removal`, relative to the largest one, in float64 and,
for networks that compute in it whatever they are given, in float32."""


def check_removal(architecture: Architecture) -> None:
    """Removes random channels of a new network and compares it with the masked network.

    A network may do with its channels what its operations do not show, such as counting them.

    Raises
    ------
    ArchitectureError
        If the pruned network cannot run, or gives other logits.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad(), full_precision():
        torch.manual_seed(0)
        net = architecture.build().eval()
        _disturb(net)
        kept = []
        for width in architecture.groups.widths:
            chosen = torch.randperm(width)[: max(1, (2 * width) // 3)]
            kept.append(chosen.sort().values)
        images = torch.randn((2, INPUT_CHANNELS, *architecture.image_size))
        difference, allowed = _difference(net, kept, images)
        if not difference <= allowed:
            raise ArchitectureError(
                "the network with fewer channels gives other logits than with these channels set "
                f"to zero (relative difference {difference:.2g}); its forward method must treat "
                "each channel alike"
            )
        for what, one in (("the network", net), ("the pruned network", prune(net, kept))):
            # Some networks do more in training, such as a second head.
            found = _run(one.train(), images, f"{what} cannot run in training mode")
            if not isinstance(found, Tensor) or found.shape != (2, architecture.classes):
                raise ArchitectureError(
                    f"{what} returns something else in training mode than the logits "
                    f"[N, {architecture.classes}]"
                )


def _disturb(net: nn.Module) -> None:
    """Makes a new network as if trained: no two channels alike, and nothing that is still 0."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    for parameter in net.parameters():
        if parameter.numel() == 1 or bool((parameter == parameter.flatten()[0]).all()):
            parameter.uniform_(0.5, 1.5)


def _difference(net: nn.Module, kept: Sequence[Tensor], images: Tensor) -> tuple[float, float]:
    """The relative difference of pruned and masked logits, and the one that is allowed."""
    try:
        found, expected = _both(copy.deepcopy(net).double(), kept, images.double())
        allowed = CHECKED
    except Exception:
        # A forward method may convert to float32.
        found, expected = _both(net, kept, images)
        allowed = CHECKED_FLOAT
    scale = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    return (difference / scale if scale > 0 else difference), allowed


def _both(net: nn.Module, kept: Sequence[Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    words = "the network cannot run with fewer channels"
    found = _run(prune(net, kept), images, words)
    with masked(net, kept):
        return found, _run(net, images, "the network cannot run")


def _run(net: nn.Module, images: Tensor, words: str) -> Tensor:
    try:
        return net(images)
    except Exception as error:
        raise ArchitectureError(
            f"{words}: {error}; its forward method must not contain numbers of channels"
        ) from error


def check(groups: Groups, kept: Sequence[Tensor]) -> None:
    """Refuses channel lists that do not fit the groups of a network."""
    if len(kept) != len(groups.groups):
        raise SurgeryError(f"{len(kept)} lists of channels for {len(groups.groups)} layers")
    for layer, (channels, width) in enumerate(zip(kept, groups.widths, strict=True)):
        if channels.dtype != torch.int64 or channels.ndim != 1:
            raise SurgeryError(
                f"layer {layer}: channels must be a list of int64 indices, got a tensor of "
                f"{channels.dtype} with shape {tuple(channels.shape)}"
            )
        if len(channels) == 0:
            raise SurgeryError(f"layer {layer} would keep no channel; at least 1 is needed")
        if channels.min() < 0 or channels.max() >= width:
            raise SurgeryError(
                f"layer {layer} has channels 0 to {width - 1}, got {channels.tolist()}"
            )
        if not bool((channels.diff() > 0).all()):
            raise SurgeryError(f"layer {layer}: channels must be ascending, without repeats")
