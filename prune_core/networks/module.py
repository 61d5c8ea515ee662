"""Where a module's tensors lie, and hooks on what its submodules read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ReadingLayer = nn.Conv2d | nn.Linear
"""Layers that read channels."""

Reads = Callable[[Tensor], Tensor | None]
"""Called with the input of a module; may return another tensor for the module to read."""


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters, which all lie on one device."""
    return next(module.parameters()).device


def all_finite(module: nn.Module) -> bool:
    """Whether no weight or buffer is NaN or infinite; the CPU waits for its device once."""
    return bool(torch.stack([one.isfinite().all() for one in module.state_dict().values()]).all())


def reading_layer(net: nn.Module, name: str) -> ReadingLayer:
    """The convolution or linear layer of this name."""
    found = net.get_submodule(name)
    assert isinstance(found, nn.Conv2d | nn.Linear)
    return found


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Sets a network to eval mode, and back to what it was."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


@contextmanager
def reading(hooks: Mapping[nn.Module, Reads]) -> Iterator[None]:
    """Calls a function whenever one of these modules is about to read its input."""

    def hook_of(reads: Reads) -> Callable[[nn.Module, tuple[Tensor, ...]], Tensor | None]:
        return lambda module, inputs: reads(inputs[0])

    handles = [module.register_forward_pre_hook(hook_of(reads)) for module, reads in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
