"""The synaptic flow of a network: what of its outputs passes through each channel."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from prune_core.networks import channel_groups, device_of
from prune_core.networks.layers import INPUT_CHANNELS
from prune_core.networks.module import evaluating, reading
from prune_core.statistics.reads import check_unchanged, maps_of
from prune_core.statistics.requests import Answer

# For positive values ReLU is the identity. These bend or clip them, and would hide a channel. The
# sigmoids are not among them, because gates multiply by them.
_BENDING = (
    *(nn.Hardtanh, nn.Tanh, nn.Softsign, nn.Softplus),  # ReLU6 is a Hardtanh
    *(nn.Hardswish, nn.SiLU, nn.GELU, nn.Mish),
)


@dataclass(frozen=True)
class SynapticFlow:
    """`flow` [C]: sum over positions of x dR/dx at the channel's feature map, in float64.

    All weights are replaced by their magnitudes, biases and running means by 0, the input by one
    image of ones; R is the sum of the logits. Batch normalisation is then a multiplication by
    |gamma| / sqrt(running variance + eps). Activations that bend or clip positive values are
    replaced by the identity, if they are modules; sigmoids are not.
    """

    gradients: ClassVar[bool] = False

    def of_network(self, net: nn.Module, image_size: tuple[int, int]) -> list[Answer]:
        """See `NetworkRequest`."""
        producers = channel_groups(net).producers
        names = list(dict.fromkeys(producer.consumers[0].module for producer in producers))
        positive = _positive(net)
        read: dict[str, tuple[Tensor, int]] = {}

        def note(name: str, inputs: Tensor) -> None:
            read[name] = inputs, inputs._version

        hooks = {
            positive.get_submodule(name): lambda inputs, name=name: note(name, inputs)
            for name in names
        }
        ones = torch.ones(
            1, INPUT_CHANNELS, *image_size, dtype=torch.float64, device=device_of(net)
        )
        with torch.inference_mode(False), torch.enable_grad(), evaluating(positive):
            with reading(hooks):
                total = positive(ones.requires_grad_()).sum()
            check_unchanged(read)
            gradients = torch.autograd.grad(total, [read[name][0] for name in names])
        flows = {
            name: read[name][0].detach() * gradient
            for name, gradient in zip(names, gradients, strict=True)
        }
        return [
            {"flow": maps_of(producer, flows[producer.consumers[0].module]).sum(dim=(0, 2, 3))}
            for producer in producers
        ]


def _positive(net: nn.Module) -> nn.Module:
    """A copy of a network in float64, positive and without biases."""
    positive = copy.deepcopy(net).double().requires_grad_(False)
    for module in positive.modules():
        for name, tensor in module.named_parameters(recurse=False):
            # Parameters of activations, such as a slope, are magnitudes too.
            tensor.copy_(torch.zeros_like(tensor) if name == "bias" else tensor.abs())
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.zero_()
        # A module may have several names, of which `named_children` gives one.
        for name, child in module._modules.items():
            if isinstance(child, _BENDING):
                setattr(module, name, nn.Identity())
    return positive
