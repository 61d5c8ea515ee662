"""SimpleNet, built from its widths.

The full network and every pruned network are of the same class and differ only in their widths.
So pruning copies slices of the tensors into a smaller `SimpleNet`, and a saved network consists
of a few integers and its tensors.

Source: Hasanpour et al. 2016, "Lets keep it simple", arXiv:1608.06037.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from prune_core.networks.architecture import IMAGE_SIZE, Architecture, architecture_of, attach
from prune_core.networks.errors import ArchitectureError
from prune_core.networks.groups import Groups
from prune_core.networks.layers import INPUT_CHANNELS, scaled
from prune_core.networks.registry import Size, network
from prune_core.networks.tracing import trace

DROPOUT = 0.1
BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.05

# A number is the width of a 3x3 convolution, the suffix `k1` makes it 1x1, and `p` is a 2x2 max
# pooling.
VARIANTS = {
    "simplenet_5m": "64 128 128 128 p 128 128 256 p 256 256 p 512 2048k1 256k1 p 256",
    "simplenet_5m_extra_pool": "64 128 128 128 p 128 128 256 p 256 256 p 512 p 2048k1 256k1 p 256",
    "simplenet_460k": "32 32 32 64 p 64 64 64 p 64 64 p 96 96k1 96k1 p 100",
    "simplenet_310k": "64 32 32 32 p 32 32 64 p 64 64 p 128 256k1 64k1 p 64",
}


@dataclass(frozen=True)
class SimpleNetArchitecture(Architecture):
    """The shape of a SimpleNet: everything needed to build one except its weights.

    Attributes
    ----------
    widths : output channels of each convolution, first to last.
    kernels : kernel size of each convolution, 1 or 3.
    pooled : whether a 2x2 max pooling follows each convolution.
    classes : outputs of the linear layer.
    image_size : height and width of the images in pixels.
    """

    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    pooled: tuple[bool, ...]
    classes: int
    image_size: Size = IMAGE_SIZE

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.kernels) == len(self.pooled) > 0:
            raise ArchitectureError("widths, kernels and pooled must be equally long, at least 1")
        if min(self.widths) < 1:
            raise ArchitectureError(f"widths {self.widths}: every layer needs at least 1 channel")
        if not set(self.kernels) <= {1, 3}:
            raise ArchitectureError(f"kernels {self.kernels}: each kernel size must be 1 or 3")
        if self.classes < 2:
            raise ArchitectureError(f"classes {self.classes}: at least 2 are needed")
        smallest = 2 ** sum(self.pooled)
        if min(self.image_size) < smallest:
            raise ArchitectureError(
                f"images of {self.image_size[0]} x {self.image_size[1]} pixels are too small for "
                f"{sum(self.pooled)} poolings; at least {smallest} x {smallest} are needed"
            )

    @classmethod
    def variant(cls, name: str, classes: int, width: float = 1.0) -> SimpleNetArchitecture:
        """A published variant with its widths multiplied by `width`.

        Parameters
        ----------
        name : a name in `VARIANTS`.
        """
        widths: list[int] = []
        kernels: list[int] = []
        pooled: list[bool] = []
        for word in VARIANTS[name].split():
            if word == "p":
                pooled[-1] = True
                continue
            number, _, kernel = word.partition("k")
            widths.append(scaled(int(number), width))
            kernels.append(int(kernel or 3))
            pooled.append(False)
        return cls(tuple(widths), tuple(kernels), tuple(pooled), classes)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Input channels of each convolution."""
        return (INPUT_CHANNELS, *self.widths[:-1])

    @property
    def groups(self) -> Groups:
        """See `Architecture`: one group for each convolution."""
        return _groups(self)

    @property
    def groups_identity(self) -> None:
        """See `Architecture`."""
        return

    def identity(self) -> dict[str, Any]:
        """See `Architecture`; the usual size of images is left out, as in the keys of old cells."""
        found = asdict(self)
        if self.image_size == IMAGE_SIZE:
            del found["image_size"]
        return found

    def description(self) -> dict[str, Any]:
        """See `Architecture`."""
        return self.identity()

    def build(self) -> SimpleNet:
        """See `Architecture`."""
        return SimpleNet(self)


@lru_cache(maxsize=64)
def _groups(architecture: SimpleNetArchitecture) -> Groups:
    with torch.random.fork_rng(devices=[]):
        net = SimpleNet(architecture)
    return trace(net, architecture.image_size)


class Block(nn.Module):
    """Convolution, batch normalisation, ReLU and optional pooling.

    Metrics score its output in eval mode, which is the input of the next layer.
    """

    def __init__(self, inputs: int, width: int, kernel: int, pooled: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(width, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)
        self.pool = nn.MaxPool2d(2) if pooled else nn.Identity()
        self.dropout = nn.Dropout(DROPOUT) if pooled else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Maps [N, inputs, H, W] to [N, width, H, W]; pooling halves H and W."""
        # ReLU and max pooling commute, with the same values and gradients. ReLU after pooling
        # needs a quarter of the work.
        return self.dropout(torch.relu_(self.pool(self.bn(self.conv(images)))))


class SimpleNet(nn.Module):
    """A stack of blocks, a global max pooling and a linear layer.

    Parameters
    ----------
    architecture : the widths, kernels, poolings and classes.

    Weights are drawn from torch's global generator: Xavier uniform with gain sqrt(2), biases 0.
    All networks (full, pruned or loaded) use the channels-last memory format. Convolutions round
    differently in another format, and the figures of a network must be reproducible.
    """

    def __init__(self, architecture: SimpleNetArchitecture) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(*shape)
            for shape in zip(
                architecture.inputs,
                architecture.widths,
                architecture.kernels,
                architecture.pooled,
                strict=True,
            )
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(architecture.widths[-1], architecture.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight, gain=math.sqrt(2))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        attach(self.to(memory_format=torch.channels_last), architecture)

    @property
    def architecture(self) -> SimpleNetArchitecture:
        """The shape of this network."""
        found = architecture_of(self)
        assert isinstance(found, SimpleNetArchitecture)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of normalised images [N, 3, H, W]."""
        for block in self.blocks:
            images = block(images)
        return self.classifier(self.dropout(images.amax(dim=(2, 3))))


_SOURCE = "Hasanpour et al. 2016, arXiv:1608.06037"


@network(_SOURCE)
def simplenet_5m(classes: int, *, width: float = 1.0) -> SimpleNet:
    """13 convolutions and a global max pooling: the network of the study."""
    return SimpleNet(SimpleNetArchitecture.variant("simplenet_5m", classes, width))


@network(_SOURCE, accuracies={"cifar10": 95.51, "cifar100": 78.37})
def simplenet_5m_extra_pool(classes: int, *, width: float = 1.0) -> SimpleNet:
    """`simplenet_5m` with one more pooling: the network behind the authors' published results."""
    return SimpleNet(SimpleNetArchitecture.variant("simplenet_5m_extra_pool", classes, width))


@network(_SOURCE)
def simplenet_460k(classes: int, *, width: float = 1.0) -> SimpleNet:
    """A SimpleNet of 0.4 million parameters."""
    return SimpleNet(SimpleNetArchitecture.variant("simplenet_460k", classes, width))


@network(_SOURCE)
def simplenet_310k(classes: int, *, width: float = 1.0) -> SimpleNet:
    """A SimpleNet of 0.3 million parameters."""
    return SimpleNet(SimpleNetArchitecture.variant("simplenet_310k", classes, width))
