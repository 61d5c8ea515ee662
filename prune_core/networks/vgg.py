"""VGG networks with batch normalisation for small images.

The 3x3 convolutions, with biases, and the five 2x2 max poolings are those of Simonyan and
Zisserman 2014. Batch normalisation follows every convolution. One linear layer replaces the three
of the paper, as usual for CIFAR. It reads the average of each channel, so that all images of at
least 32 x 32 pixels fit; at 32 x 32 the average is over one pixel.

The modules are named as in torchvision's `vgg16_bn().features`.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from prune_core.networks.initial_weights import initialise
from prune_core.networks.layers import INPUT_CHANNELS, classifier, scaled
from prune_core.networks.registry import network

SOURCE = "Simonyan and Zisserman 2014, arXiv:1409.1556; Ioffe and Szegedy 2015, arXiv:1502.03167"


@network(SOURCE)
def vgg11_bn(classes: int, *, width: float = 1.0) -> nn.Module:
    """VGG-11 with batch normalisation and one linear layer."""
    return _vgg("64 p 128 p 256 256 p 512 512 p 512 512 p", classes, width)


@network(SOURCE, accuracies={"cifar10": 93.25})
def vgg16_bn(classes: int, *, width: float = 1.0) -> nn.Module:
    """VGG-16 with batch normalisation and one linear layer.

    The published accuracy on CIFAR-10 is that of Li et al. 2016, arXiv:1608.08710 (error 6.75 %).
    Their network has one more linear layer, 512 to 512, with batch normalisation.
    """
    return _vgg("64 64 p 128 128 p 256 256 256 p 512 512 512 p 512 512 512 p", classes, width)


@network(SOURCE, accuracies={"cifar10": 93.66, "cifar100": 73.26})
def vgg19_bn(classes: int, *, width: float = 1.0) -> nn.Module:
    """VGG-19 with batch normalisation and one linear layer.

    The published accuracies are those of the baselines of Liu et al. 2017, arXiv:1708.06519
    (errors 6.34 % and 26.74 %). Their networks have as many parameters (20.04 million for 10
    classes), and their weights of batch normalisation start at 0.5 instead of 1.
    """
    return _vgg(
        "64 64 p 128 128 p 256 256 256 256 p 512 512 512 512 p 512 512 512 512 p", classes, width
    )


def _vgg(layers: str, classes: int, width: float) -> nn.Module:
    """A number is the width of a convolution, `p` is a 2x2 max pooling."""
    features: list[nn.Module] = []
    inputs = INPUT_CHANNELS
    for word in layers.split():
        if word == "p":
            features.append(nn.MaxPool2d(2))
            continue
        outputs = scaled(int(word), width)
        features += [
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
        inputs = outputs
    net = nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*features),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=classifier(inputs, classes),
        )
    )
    return initialise(net).to(memory_format=torch.channels_last)
