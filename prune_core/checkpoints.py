"""Checkpoints of a training: after an interruption it goes on, with the same numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from prune_core.training import Epoch

CHECKPOINT_VERSION = 1
_MOMENTUM = "momentum_buffer"


@dataclass(frozen=True)
class Checkpoint:
    """What the rest of a training depends on, after one of its epochs.

    Attributes
    ----------
    beginning : identifies the weights that the training began with, its recipe and its seed.
    tensors : parameters, buffers, momenta and the states of the random generators, on the CPU.
    history : the epochs that are done.
    """

    beginning: str
    tensors: Mapping[str, Tensor]
    history: tuple[Epoch, ...]


class Checkpoints(Protocol):
    """Keeps the last checkpoint of one training."""

    def last(self, beginning: str) -> Checkpoint | None:
        """The last checkpoint of a training that began so, or None."""

    def due(self) -> bool:
        """Whether a checkpoint should be kept after this epoch."""

    def keep(self, checkpoint: Checkpoint) -> None:
        """Replaces the last checkpoint."""


class TrainingState:
    """The tensors that change during a training.

    Parameters
    ----------
    generator : of the images of each epoch. The state also has torch's own generators, which
        dropout uses.
    """

    def __init__(
        self, net: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        self.optimiser = optimiser
        self.generator = generator
        self.parameters = [one for group in optimiser.param_groups for one in group["params"]]
        self.device = self.parameters[0].device
        # Unlike the state dict, these include buffers that a network does not save.
        named = [*net.named_parameters(), *net.named_buffers()]
        self.of_net = {f"net.{name}": tensor for name, tensor in named}

    def beginning(self, *determined_by: object) -> str:
        """A checksum of the network's tensors and of what else determines the training."""
        digest = hashlib.sha256(repr((CHECKPOINT_VERSION, *determined_by)).encode())
        for name, tensor in self.of_net.items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(_copied(tensor).reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def tensors(self) -> dict[str, Tensor]:
        """Copies of all tensors on the CPU."""
        found = {name: _copied(tensor) for name, tensor in self.of_net.items()}
        for at, parameter in enumerate(self.parameters):
            momentum = self.optimiser.state[parameter].get(_MOMENTUM)
            if momentum is not None:
                found[f"momentum.{at}"] = _copied(momentum)
        found["generator.images"] = self.generator.get_state()
        found["generator.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            found["generator.cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Sets all tensors to what `tensors` returned in a training that began alike."""
        with torch.no_grad():
            for name, tensor in self.of_net.items():
                tensor.copy_(tensors[name])
        for at, parameter in enumerate(self.parameters):
            if (momentum := tensors.get(f"momentum.{at}")) is not None:
                # The fused step reads memory in order: it must lie like that of the parameter.
                like = torch.empty_like(parameter, requires_grad=False)
                self.optimiser.state[parameter][_MOMENTUM] = like.copy_(momentum)
        self.generator.set_state(tensors["generator.images"])
        torch.set_rng_state(tensors["generator.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["generator.cuda"], self.device)


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()
