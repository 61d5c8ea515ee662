"""Compensation by brute force: patches in float64, and lstsq with rows for the ridge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prune_core.networks import channel_groups
from prune_core.networks.cutting import stays
from prune_core.networks.module import reading, reading_layer
from prune_core.statistics import Patches


@dataclass(frozen=True)
class Layer:
    """A layer that reads removed channels, before and after.

    P patches are the same places of the same images in both networks.

    Attributes
    ----------
    read : its inputs in the full network that stay, or all that it reads in the pruned one, [P, K].
    wanted : the outputs of the full network's filters that stay, without their bias, [P, J].
    prior : its weights after removal alone, [J, K].
    found, shift : its weights, and what its outputs gained by a bias or a running mean, [J].
    centred : whether its outputs have a bias, or a batch normalisation of their own behind them.
    """

    name: str
    read: Tensor
    wanted: Tensor
    prior: Tensor
    found: Tensor
    shift: Tensor
    centred: bool

    def errors(self) -> tuple[float, float]:
        """Mean squared errors of the outputs: by removal alone, and as compensated."""
        plain = self.read @ self.prior.T - self.wanted
        solved = self.read @ self.found.T + self.shift - self.wanted
        return float(plain.square().mean()), float(solved.square().mean())

    def solution(self, ridge: float) -> tuple[Tensor, Tensor]:
        """Weights [J, K] and shift [J] of the penalised least squares."""
        read, wanted = self.read, self.wanted
        if self.centred:
            read, wanted = read - read.mean(dim=0), wanted - wanted.mean(dim=0)
        scale = read.square().mean(dim=0).sqrt()
        # What does not vary but for the rounding of fp32 keeps its weights.
        varies = scale > 1e-6 * self.read.square().mean(dim=0).sqrt()
        fixed = read[:, ~varies] @ self.prior[:, ~varies].T
        # In units of the deviations, in which the problem is well conditioned.
        scale = scale[varies]
        penalty = (ridge * len(read)) ** 0.5 * torch.eye(len(scale), dtype=torch.float64)
        rows = torch.cat([read[:, varies] / scale, penalty])
        wanted = torch.cat([wanted - fixed, penalty @ (self.prior[:, varies] * scale).T])
        found = self.prior.clone()
        found[:, varies] = torch.linalg.lstsq(rows, wanted).solution.T / scale
        shift = self.wanted.mean(dim=0) - found @ self.read.mean(dim=0)
        return found, shift if self.centred else torch.zeros_like(shift)


def solved_layers(
    net: nn.Module,
    pruned: nn.Module,
    plain: nn.Module,
    kept: list[Tensor],
    images: Tensor,
    positions: int,
    sequential: bool,
) -> list[Layer]:
    """The layers that lost inputs when `net` became `pruned`.

    Parameters
    ----------
    plain : as `pruned`, without compensation.
    images : scaled, all in one batch.
    """
    groups = channel_groups(net)
    consumers = {one.module: one for producer in groups.producers for one in producer.consumers}
    cuts = stays(net, groups, kept)
    losers = [
        name
        for name in consumers
        if len(cuts[name]["inputs"]) < reading_layer(net, name).weight.shape[1]
    ]
    full = _patches(net, losers, images, positions)
    own = _patches(pruned, losers, images, positions) if sequential else {}
    found = []
    for name in losers:
        layer, after = reading_layer(net, name), reading_layer(pruned, name)
        before = reading_layer(plain, name)
        rows = cuts[name].get("outputs", torch.arange(len(layer.weight)))
        weight = layer.weight.detach().double()[rows]
        numbers = torch.arange(weight[0].numel()).view(weight[0].shape)
        columns = numbers[cuts[name]["inputs"]].flatten()
        norm = consumers[name].norm
        found.append(
            Layer(
                name,
                own[name] if sequential else full[name][:, columns],
                full[name] @ weight.flatten(1).T,
                before.weight.detach().double().flatten(1),
                after.weight.detach().double().flatten(1),
                _shift(before, after, plain, pruned, norm),
                layer.bias is not None or norm is not None,
            )
        )
    return found


def _shift(
    before: nn.Module, after: nn.Module, plain: nn.Module, pruned: nn.Module, norm: str | None
) -> Tensor:
    """What the outputs of a layer gained in a bias, or behind it in a running mean."""
    shift = torch.zeros(len(after.weight), dtype=torch.float64)
    if after.bias is not None:
        shift += after.bias.detach().double() - before.bias.detach().double()
    if norm is not None:
        old, new = plain.get_submodule(norm), pruned.get_submodule(norm)
        shift += old.running_mean.double() - new.running_mean.double()
    return shift


def _patches(net: nn.Module, names: list[str], images: Tensor, positions: int) -> dict[str, Tensor]:
    """What layers read, [P, D], float64."""
    found: dict[str, Tensor] = {}

    def note(name: str, inputs: Tensor) -> None:
        patches = Patches(reading_layer(net, name), positions, seed=0)
        found[name] = patches.take(inputs).flatten(0, 1).double()

    hooks = {
        net.get_submodule(name): lambda inputs, name=name: note(name, inputs) for name in names
    }
    with reading(hooks), torch.no_grad():
        net(images)
    return found
