"""Cuts the positions of removed channels out of the modules of a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prune_core.networks.groups import Groups, Side
from prune_core.networks.layers import PaddedShortcut

_DEPTHWISE = "_prune_sweep_depthwise"


def is_depthwise(module: nn.Module) -> bool:
    """Whether it is a convolution with filters of their own for each channel, even of only one."""
    if not isinstance(module, nn.Conv2d):
        return False
    return getattr(module, _DEPTHWISE, False) or module.groups == module.in_channels > 1


def cut(net: nn.Module, groups: Groups, kept: Sequence[Tensor]) -> None:
    """Removes all channels but the kept ones from the modules of a network, in place.

    Parameters
    ----------
    groups : of this network.
    kept : for each group the kept channels, int64.
    """
    for name, sides in stays(net, groups, kept).items():
        module = net.get_submodule(name)
        outputs, inputs = sides.get("outputs"), sides.get("inputs")
        if isinstance(module, PaddedShortcut):
            whole = [torch.arange(module.inputs), torch.arange(module.outputs)]
            module.select(
                whole[0] if inputs is None else inputs, whole[1] if outputs is None else outputs
            )
            continue
        for key, tensor in [*module.named_parameters(recurse=False)]:
            parameter = nn.Parameter(_slice(module, key, tensor, outputs, inputs))
            parameter.requires_grad_(tensor.requires_grad)
            setattr(module, key, parameter)
        for key, buffer in [*module.named_buffers(recurse=False)]:
            setattr(module, key, _slice(module, key, buffer, outputs, inputs))
        _resize(module, outputs, inputs)


def stays(net: nn.Module, groups: Groups, kept: Sequence[Tensor]) -> dict[str, dict[Side, Tensor]]:
    """For each module and axis that gets shorter, the positions that stay, int64 ascending."""
    masks: dict[str, dict[Side, Tensor]] = {}
    for group, channels in zip(groups.groups, kept, strict=True):
        gone = torch.ones(group.channels, dtype=torch.bool)
        gone[channels.cpu()] = False
        for member in group.members:
            sides = masks.setdefault(member.module, {})
            if member.side not in sides:
                length = _length(net.get_submodule(member.module), member.side)
                sides[member.side] = torch.ones(length, dtype=torch.bool)
            sides[member.side][member.positions[gone].flatten()] = False
    return {
        name: {side: mask.nonzero().flatten() for side, mask in sides.items()}
        for name, sides in masks.items()
    }


def _length(module: nn.Module, side: Side) -> int:
    if isinstance(module, PaddedShortcut):
        return module.outputs if side == "outputs" else module.inputs
    if isinstance(module, nn.Conv2d):
        return module.out_channels if side == "outputs" else module.in_channels
    if isinstance(module, nn.Linear):
        return module.out_features if side == "outputs" else module.in_features
    if isinstance(module, nn.PReLU):
        return module.num_parameters
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    return module.num_features


def _slice(
    module: nn.Module, key: str, tensor: Tensor, outputs: Tensor | None, inputs: Tensor | None
) -> Tensor:
    """The part of a tensor that stays, in the default memory layout."""
    found = tensor.detach()
    if found.ndim == 0:
        return found  # the batch counter
    if outputs is not None:
        found = found[outputs.to(found.device)]
    if inputs is not None and key == "weight" and not is_depthwise(module):
        found = found[:, inputs.to(found.device)]
    return found.contiguous()


def _resize(module: nn.Module, outputs: Tensor | None, inputs: Tensor | None) -> None:
    """Writes the new lengths into the attributes of a module."""
    if isinstance(module, nn.Conv2d):
        depthwise = is_depthwise(module)
        if outputs is not None:
            module.out_channels = len(outputs)
        if inputs is not None:
            module.in_channels = len(inputs)
            if depthwise:
                module.groups = len(inputs)
                setattr(module, _DEPTHWISE, True)
    elif isinstance(module, nn.Linear):
        if outputs is not None:
            module.out_features = len(outputs)
        if inputs is not None:
            module.in_features = len(inputs)
    elif isinstance(module, nn.PReLU):
        assert outputs is not None
        module.num_parameters = len(outputs)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        assert outputs is not None
        module.num_features = len(outputs)
