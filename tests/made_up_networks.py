"""Networks of every kind, small: families, both ways through shortcuts, and a person's own."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from prune_core.networks import Architecture, of
from prune_core.surgery import masked


class Separable(nn.Module):
    """Depthwise-separable blocks, as in MobileNet, and a linear layer that reads pixels."""

    def __init__(self, classes: int) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.ReLU6(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.Hardswish(),
            )

        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.PReLU(8))
        self.blocks = nn.Sequential(block(8, 12, 1), block(12, 16, 2), block(16, 10, 2))
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Linear(40, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.pool(self.blocks(self.stem(images))).flatten(1))


class Concatenating(nn.Module):
    """Branches that a concatenation joins, one of them read a second time, as in Inception."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.one = nn.Conv2d(6, 5, 1)
        self.three = nn.Conv2d(6, 7, 3, padding=1)
        self.pooled = nn.Conv2d(6, 4, 1)
        # One normalisation for all branches: its channels belong to three groups.
        self.joint = nn.BatchNorm2d(16)
        self.last = nn.Conv2d(22, 9, 3, padding=1, bias=False)
        self.last_norm = nn.BatchNorm2d(9)
        self.classifier = nn.Linear(9, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.norm(self.stem(images)))
        pooled = nn.functional.avg_pool2d(maps, 3, stride=1, padding=1)
        joined = torch.cat([self.one(maps), self.three(maps), self.pooled(pooled)], dim=1)
        joined = nn.functional.relu(self.joint(joined))
        maps = self.last(torch.cat((joined, maps), 1))
        return self.classifier(self.last_norm(maps).relu().amax(dim=(2, 3)))


class TwoHeads(nn.Module):
    """Two heads whose logits are averaged; the channels of one cannot be pruned.

    The second head ends in a convolution that makes the logits, behind a group normalisation,
    which mixes channels.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 10, 3, stride=2, padding=1)
        self.body_norm = nn.BatchNorm2d(10)
        self.linear = nn.Linear(10, classes)
        self.mixed = nn.Conv2d(8, 6, 3, padding=1)
        self.group_norm = nn.GroupNorm(2, 6)
        self.logits = nn.Conv2d(6, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.norm(self.stem(images)).relu()
        first = self.linear(self.body_norm(self.body(maps)).relu().mean((2, 3)))
        second = self.logits(torch.relu(self.group_norm(self.mixed(maps)))).mean((2, 3))
        return (first + second) / 2


@dataclass(frozen=True)
class Class:
    """Builds a network from a class of this file."""

    kind: type[nn.Module]

    def build(self, classes: int) -> nn.Module:
        return self.kind(classes)

    def identity(self) -> dict[str, object]:
        return {"kind": self.kind.__name__}

    description = identity


OWN = {
    "separable": Separable,
    "concatenating": Concatenating,
    "two_heads": TwoHeads,
}
FAMILIES = {
    "simplenet": ("simplenet_310k", 0.125, {}, "all"),
    "vgg": ("vgg11_bn", 0.06, {}, "all"),
    "resnet_a_all": ("resnet20", 0.4, {"shortcut": "A"}, "all"),
    "resnet_a_inner": ("resnet20", 0.4, {"shortcut": "A"}, "inner"),
    "resnet_b_all": ("resnet20", 0.4, {"shortcut": "B"}, "all"),
    "resnet_b_inner": ("resnet20", 0.4, {"shortcut": "B"}, "inner"),
    "resnet18_all": ("resnet18", 0.1, {}, "all"),
    "resnet50_all": ("resnet50", 0.06, {}, "all"),
    "resnet50_inner": ("resnet50", 0.06, {}, "inner"),
}
NAMES = (*FAMILIES, *OWN)
CLASSES = 4


def architecture(name: str, image_size: tuple[int, int] = (32, 32)) -> Architecture:
    """The architecture of a network of this file."""
    if name in OWN:
        return of(Class(OWN[name]), CLASSES, image_size)
    variant, width, options, groups = FAMILIES[name]
    return Architecture.named(
        variant, CLASSES, width, options=options, image_size=image_size, groups=groups
    )


def lived_in(
    shape: Architecture, seed: int = 0, kept: list[torch.Tensor] | None = None
) -> nn.Module:
    """A network in eval mode as if trained: no two channels alike, signals of a usual size.

    With `kept`, the signals of the network with only these channels have a usual size; otherwise
    they would vanish in a deep network of which most is removed.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        net = shape.build()
        norms = [one for one in net.modules() if isinstance(one, nn.BatchNorm2d)]
        for norm in norms:
            # A negative gamma is rare in a trained network, but nothing forbids it.
            uniform(norm.weight, -0.3, 1.7)
            uniform(norm.bias, -0.3, 0.7)
            norm.momentum = None
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                uniform(module.bias, -0.3, 0.3)
        images = torch.randn(16, 3, *shape.image_size, generator=generator)
        with nullcontext() if kept is None else masked(net, kept):
            net.train()(images)
        for norm in norms:
            norm.running_mean += 0.1 * norm.running_var.sqrt()
    return net.eval()


def random_kept(widths: tuple[int, ...], seed: int, share: float = 0.6) -> list[torch.Tensor]:
    """Random channels of each group, at least one."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randperm(width, generator=generator)[: max(1, round(share * width))].sort().values
        for width in widths
    ]
