"""The residual networks of torchvision, for images of 224 x 224 pixels.

With `width` 1, the names and shapes of all tensors are those of torchvision's networks, so its
published weights can be loaded. torchvision's own option `width_per_group` widens the inner
convolutions of bottlenecks only; here `width` multiplies all widths. In a bottleneck it multiplies
the inner width, and the outer one stays four times the inner one.

Initial weights differ from torchvision's: He's variance is computed from fan_in, as in all
networks here, instead of fan_out.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from prune_core.networks.layers import scaled
from prune_core.networks.registry import network
from prune_core.networks.resnet import (
    INPUT_CHANNELS,
    BasicBlock,
    Bottleneck,
    projection,
    residual_network,
)

SOURCE = "He et al. 2016, doi:10.1109/CVPR.2016.90, as in torchvision"
IMAGE_SIZE = (224, 224)


@network(SOURCE, image_size=IMAGE_SIZE, accuracies={"imagenet": 69.758})
def resnet18(classes: int, *, width: float = 1.0) -> nn.Module:
    """ResNet-18 of torchvision: four stages of two basic blocks.

    The published accuracy is that of torchvision's weights IMAGENET1K_V1, for one central crop of
    224 x 224 pixels.
    """
    return _resnet(BasicBlock, (2, 2, 2, 2), classes, width)


@network(SOURCE, image_size=IMAGE_SIZE, accuracies={"imagenet": 76.130})
def resnet50(classes: int, *, width: float = 1.0) -> nn.Module:
    """ResNet-50 of torchvision: four stages of three to six bottlenecks.

    The published accuracy is that of torchvision's weights IMAGENET1K_V1, for one central crop of
    224 x 224 pixels. Its weights IMAGENET1K_V2 reach 80.858 with a newer recipe.
    """
    return _resnet(Bottleneck, (3, 4, 6, 3), classes, width)


def _resnet(
    block: type[BasicBlock | Bottleneck], counts: Sequence[int], classes: int, width: float
) -> nn.Module:
    widths = [scaled(channels, width) for channels in (64, 128, 256, 512)]
    stem = {
        "conv1": nn.Conv2d(INPUT_CHANNELS, widths[0], 7, stride=2, padding=3, bias=False),
        "bn1": nn.BatchNorm2d(widths[0]),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
    }
    return residual_network(stem, block, widths[0], widths, counts, projection, classes)
