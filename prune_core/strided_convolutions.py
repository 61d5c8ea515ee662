"""A way around an error of oneDNN, with which torch computes convolutions on CPUs.

The gradient of the weights of a 1x1 convolution with a stride, in the channels-last format in fp32
and with few input channels, writes outside its memory: the process crashes or, worse, goes on with
wrong numbers (uxlfoundation/oneDNN issue 6035; seen with torch 2.14). Pruning makes input channels
few, and shortcuts of residual networks are such convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from prune_core.networks.module import device_of, reading


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

    def subsampled(stride: tuple[int, ...], read: Tensor) -> Tensor:
        rows, columns = stride
        return read[:, :, ::rows, ::columns]

    for module in strides:
        module.stride = (1, 1)
    try:
        with reading({module: partial(subsampled, stride) for module, stride in strides.items()}):
            yield
    finally:
        for module, stride in strides.items():
            module.stride = stride
