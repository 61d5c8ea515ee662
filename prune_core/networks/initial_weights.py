"""The weights that a network starts from."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def initialise(net: Net) -> Net:
    """Draws the weights of all convolutions from torch's global generator, and returns `net`.

    They are normal with variance 2 / fan_in, which keeps the scale of the feature maps through
    layers with ReLU (He et al. 2015, arXiv:1502.01852). Biases of convolutions are 0.

    Linear layers and batch normalisation keep torch's initial state. A linear layer's weights and
    biases are uniform between -1 / sqrt(inputs) and 1 / sqrt(inputs), a sixth of He's variance:
    no ReLU follows, and small first logits give a first loss close to ln(classes).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net
