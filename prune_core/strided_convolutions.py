"""A way around an error of oneDNN, with which torch computes convolutions on CPUs.

The gradient of the weights of a 1x1 convolution with a stride, in the channels-last format in fp32
and with few input channels, writes outside its memory: the process crashes or, worse, goes on with
wrong numbers (uxlfoundation/oneDNN issue 6035; seen with torch 2.14). Pruning makes input channels
few, and shortcuts of residual networks are such convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from prune_core.networks import device_of


@contextmanager
def subsampled_first(net: nn.Module) -> Iterator[None]:
    """Computes strided 1x1 convolutions on a CPU as subsampling and a convolution without stride.

    The function of the network is the same, up to the order of rounding. On other devices nothing
    is changed.
    """
    if device_of(net).type != "cpu":
        yield
        return
    strides = {
        module: module.stride
        for module in net.modules()
        if isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.padding in ((0, 0), "valid")
    }

    def subsample(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert isinstance(module, nn.Conv2d)
        rows, columns = strides[module]
        return (inputs[0][:, :, ::rows, ::columns],)

    hooks = []
    for module in strides:
        hooks.append(module.register_forward_pre_hook(subsample))
        module.stride = (1, 1)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, stride in strides.items():
            module.stride = stride
