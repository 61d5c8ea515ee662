"""Physical removal of channels: copies slices of a network's tensors into a smaller network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prune_core.network import INPUT_CHANNELS, SimpleNet

SURGERY_VERSION = 1


class SurgeryError(ValueError):
    """The list of kept channels is invalid; the message names the layer."""


def prune(net: SimpleNet, kept: Sequence[Tensor]) -> SimpleNet:
    """A new, smaller network with only the kept channels of `net`.

    With a channel, its filter, bias and batch normalisation are removed, and also the consumer
    weights that read it. In eval mode the outputs equal those of `net` with the removed channels
    set to zero. `net` is not changed.

    Parameters
    ----------
    kept : for each convolution, the indices of the channels to keep, int64, ascending.

    Raises
    ------
    SurgeryError
        If a layer keeps no channel, or if indices are out of range, repeated, not ascending or
        not int64.
    """
    check(net, kept)
    architecture = net.architecture.with_widths(tuple(len(channels) for channels in kept))
    parameter = net.classifier.weight
    # The initial weights are overwritten, so drawing them must not change the global generator.
    with torch.random.fork_rng(devices=[]):
        pruned = SimpleNet(architecture).to(device=parameter.device, dtype=parameter.dtype)
    before = torch.arange(INPUT_CHANNELS)
    with torch.no_grad():
        for source, target, channels in zip(net.blocks, pruned.blocks, kept, strict=True):
            channels = channels.to(parameter.device)
            before = before.to(parameter.device)
            for name, tensor in target.state_dict().items():
                full = source.state_dict()[name]
                if name == "conv.weight":
                    full = full[:, before]
                # Every tensor has one entry per channel, except the batch counter.
                tensor.copy_(full[channels] if full.ndim else full)
            before = channels
        pruned.classifier.weight.copy_(net.classifier.weight[:, before])
        pruned.classifier.bias.copy_(net.classifier.bias)
    return pruned.train(net.training)


def check(net: SimpleNet, kept: Sequence[Tensor]) -> None:
    """Refuses channel lists that do not fit the network."""
    if len(kept) != len(net.blocks):
        raise SurgeryError(f"{len(kept)} lists of channels for {len(net.blocks)} layers")
    for layer, (channels, width) in enumerate(zip(kept, net.architecture.widths, strict=True)):
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
