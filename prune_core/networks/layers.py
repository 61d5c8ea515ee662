"""Building blocks that several networks share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from prune_core.networks.errors import ArchitectureError

INPUT_CHANNELS = 3
"""Colours of an image."""

CUT = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.PReLU)
"""Layers of torch whose tensors can be cut."""


def layer_kind(module: nn.Module) -> type[nn.Module] | None:
    """Of `CUT` the class whose forward method a module runs, also by inheritance; else None."""
    kind = next((kind for kind in CUT if isinstance(module, kind)), None)
    return kind if kind is not None and type(module).forward is kind.forward else None


def scaled(channels: int, width: float) -> int:
    """A layer's channels multiplied by the option `width`, rounded, at least 1.

    Raises
    ------
    ArchitectureError
        If `width` is not a positive number.
    """
    check_width(width)
    return max(1, round(channels * width))


def check_width(width: float) -> None:
    """Refuses a multiplier of widths that is not a positive number."""
    if not (math.isfinite(width) and width > 0):
        raise ArchitectureError(f"width {width} must be a positive number")


def classifier(inputs: int, classes: int) -> nn.Linear:
    """The linear layer that ends a network.

    Raises
    ------
    ArchitectureError
        If there are fewer than two classes.
    """
    if classes < 2:
        raise ArchitectureError(f"classes {classes}: at least 2 are needed")
    return nn.Linear(inputs, classes)


class Subsampling(nn.Module):
    """Takes every `stride`-th pixel in both directions."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] to [N, C, ceil(H / stride), ceil(W / stride)], without a copy."""
        return maps[:, :, :: self.stride, :: self.stride]

    def extra_repr(self) -> str:
        """Shown by `print(net)`."""
        return f"stride={self.stride}"


class PaddedShortcut(nn.Module):
    """A shortcut without parameters between feature maps of different sizes.

    It takes every `stride`-th pixel and copies channels; channels without a source are 0. At first
    output channel c copies input channel c, and the zeros are at the end (He et al. 2016, option
    A). Pruning removes any of these channels, so the copy is a table, not a padding.

    Parameters
    ----------
    inputs, outputs : numbers of channels.
    stride : between the pixels that are taken, in both directions.

    Attributes
    ----------
    source : for each output channel the input channel that it copies, or -1 for a channel of
        zeros, int64 [outputs]. A buffer: it is part of the state dict.
    inputs : number of input channels.
    """

    source: Tensor

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        channels = torch.arange(outputs)
        self.register_buffer("source", channels.where(channels < inputs, -1))
        self.inputs = inputs
        self.stride = stride

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return len(self.source)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, inputs, H, W] to [N, outputs, ceil(H / stride), ceil(W / stride)]."""
        taken = maps[:, :, :: self.stride, :: self.stride]
        # A channel of zeros in front has index 0, so that source + 1 needs no case for -1.
        padded = nn.functional.pad(taken, (0, 0, 0, 0, 1, 0))
        # In the channels-last format the channels are the last axis in memory. Selecting on that
        # axis keeps the format; index_select on axis 1 would return contiguous [N, C, H, W].
        return padded.permute(0, 2, 3, 1).index_select(3, self.source + 1).permute(0, 3, 1, 2)

    def select(self, kept_inputs: Tensor, kept_outputs: Tensor) -> None:
        """Keeps only these channels. An output whose input is not kept becomes zeros.

        Parameters
        ----------
        kept_inputs, kept_outputs : indices of channels, int64, without repeats. The kept channels
            are numbered in this order.
        """
        kept_inputs = kept_inputs.to(self.source.device)
        kept_outputs = kept_outputs.to(self.source.device)
        # The last entry stays -1 and is what the index -1 reads.
        numbers = self.source.new_full((self.inputs + 1,), -1)
        numbers[kept_inputs] = torch.arange(len(kept_inputs), device=numbers.device)
        self.source = numbers[self.source[kept_outputs]]
        self.inputs = len(kept_inputs)

    def extra_repr(self) -> str:
        """Shown by `print(net)`."""
        return f"{self.inputs}, {self.outputs}, stride={self.stride}"
