"""Residual networks for small images, and the parts that all residual networks share.

ResNet-20, 56 and 110 are those of He et al. 2016, section 4.2: a 3x3 convolution, three stages of
n basic blocks with 16, 32 and 64 channels, where 6n + 2 is the depth, global average pooling and a
linear layer. The first blocks of the second and third stage halve the image. Their shortcuts are
an option:

- A: every second pixel, with channels of zeros appended; no parameters. The published accuracies
  are those of A.
- B: a 1x1 convolution with batch normalisation.

The paper trains with batches of 128, weight decay 0.0001, momentum 0.9 and a learning rate of 0.1
that is divided by 10 after 32,000 and 48,000 of 64,000 steps; the images are shifted by up to 4
pixels and mirrored.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from prune_core.networks.errors import ArchitectureError
from prune_core.networks.initial_weights import initialise
from prune_core.networks.layers import (
    INPUT_CHANNELS,
    PaddedShortcut,
    Subsampling,
    classifier,
    scaled,
)
from prune_core.networks.registry import network
from prune_core.spelling import allowed

SOURCE = "He et al. 2016, doi:10.1109/CVPR.2016.90, section 4.2"

ShortcutOption = Literal["A", "B"]


@network(SOURCE, accuracies={"cifar10": 91.25})
def resnet20(classes: int, *, width: float = 1.0, shortcut: ShortcutOption = "A") -> nn.Module:
    """ResNet-20 for small images: three stages of three basic blocks.

    The published accuracy is that of the paper's table 6 (error 8.75 %).
    """
    return _resnet(20, classes, width, shortcut)


@network(SOURCE, accuracies={"cifar10": 93.03})
def resnet56(classes: int, *, width: float = 1.0, shortcut: ShortcutOption = "A") -> nn.Module:
    """ResNet-56 for small images: three stages of nine basic blocks.

    The published accuracy is that of the paper's table 6 (error 6.97 %).
    """
    return _resnet(56, classes, width, shortcut)


@network(SOURCE, accuracies={"cifar10": 93.39})
def resnet110(classes: int, *, width: float = 1.0, shortcut: ShortcutOption = "A") -> nn.Module:
    """ResNet-110 for small images: three stages of 18 basic blocks.

    The published accuracy is the mean of five runs in the paper's table 6 (error 6.61 % with
    standard deviation 0.16), not the best of the five (6.43 %), which is higher than a run can be
    expected to reach. The paper trains with a learning rate of 0.01 for about 400 steps, until
    the training error is below 80 %, before the usual schedule.
    """
    return _resnet(110, classes, width, shortcut)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, whose output is added to a shortcut's.

    Parameters
    ----------
    inputs : input channels.
    width : output channels of both convolutions.
    stride : of the first convolution.
    downsample : the shortcut, named as in torchvision.
    """

    expansion = 1
    """Output channels of the block divided by its width."""

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, inputs, H, W] to [N, width, ceil(H / stride), ceil(W / stride)]."""
        made = self.relu1(self.bn1(self.conv1(maps)))
        made = self.bn2(self.conv2(made))
        return self.relu2(made + self.downsample(maps))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, whose output is added to a shortcut's.

    The stride is at the 3x3 convolution, as in torchvision; in the paper it is at the first one.

    Parameters
    ----------
    inputs : input channels.
    width : output channels of the first two convolutions; the third one has four times as many.
    stride : of the 3x3 convolution.
    downsample : the shortcut, named as in torchvision.
    """

    expansion = 4
    """Output channels of the block divided by its width."""

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = downsample
        self.relu3 = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, inputs, H, W] to [N, 4 width, ceil(H / stride), ceil(W / stride)]."""
        made = self.relu1(self.bn1(self.conv1(maps)))
        made = self.relu2(self.bn2(self.conv2(made)))
        made = self.bn3(self.conv3(made))
        return self.relu3(made + self.downsample(maps))


Shortcut = Callable[[int, int, int], nn.Module]
"""Makes a shortcut from its numbers of input and output channels and its stride."""


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """A 1x1 convolution with batch normalisation as a shortcut."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if stride > 1:
        # The same as a stride of the convolution, which is not safe on CPUs: oneDNN writes outside
        # of its memory when it computes the gradient of the weight for fewer channels than a vector
        # register holds (github.com/uxlfoundation/oneDNN/issues/6035), and pruning leaves so few.
        layers["subsampling"] = Subsampling(stride)
    layers["0"] = nn.Conv2d(inputs, outputs, 1, bias=False)
    layers["1"] = nn.BatchNorm2d(outputs)
    return nn.Sequential(layers)


SHORTCUTS: dict[str, Shortcut] = {"A": PaddedShortcut, "B": projection}


def residual_network(
    stem: Mapping[str, nn.Module],
    block: type[BasicBlock | Bottleneck],
    channels: int,
    widths: Sequence[int],
    counts: Sequence[int],
    shortcut: Shortcut,
    classes: int,
) -> nn.Module:
    """A residual network with initial weights, in the channels-last format, named as torchvision's.

    The first block of every stage but the first halves the image. A shortcut is the identity where
    a block keeps the shape.

    Parameters
    ----------
    stem : the modules before the first stage, by name.
    channels : output channels of the stem.
    widths : of the blocks of each stage.
    counts : blocks of each stage.
    shortcut : makes the shortcuts that are not the identity.
    """
    layers = OrderedDict(stem)
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True), start=1):
        outputs = width * block.expansion
        blocks = []
        for index in range(count):
            stride = 2 if stage > 1 and index == 0 else 1
            kept = stride == 1 and channels == outputs
            downsample = nn.Identity() if kept else shortcut(channels, outputs, stride)
            blocks.append(block(channels, width, stride, downsample))
            channels = outputs
        layers[f"layer{stage}"] = nn.Sequential(*blocks)
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = classifier(channels, classes)
    return initialise(nn.Sequential(layers)).to(memory_format=torch.channels_last)


def _resnet(depth: int, classes: int, width: float, shortcut: str) -> nn.Module:
    if shortcut not in SHORTCUTS:
        raise ArchitectureError(f"shortcut '{shortcut}' is unknown; {allowed(shortcut, SHORTCUTS)}")
    widths = [scaled(channels, width) for channels in (16, 32, 64)]
    stem = {
        "conv1": nn.Conv2d(INPUT_CHANNELS, widths[0], 3, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(widths[0]),
        "relu": nn.ReLU(inplace=True),
    }
    counts = [(depth - 2) // 6] * 3
    return residual_network(
        stem, BasicBlock, widths[0], widths, counts, SHORTCUTS[shortcut], classes
    )
