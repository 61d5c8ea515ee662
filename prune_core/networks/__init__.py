"""Networks as modules with channel groups: families, a person's own, and the tracing of both.

>>> from prune_core.networks import Architecture
>>> Architecture.named("resnet20", classes=10).groups.names[:2]  # doctest: +SKIP
('conv1', 'layer1.0.conv1')
"""

from prune_core.networks import resnet, simplenet, torchvision_resnets, vgg
from prune_core.networks.architecture import (
    IMAGE_SIZE,
    Architecture,
    Builder,
    ModuleArchitecture,
    Registered,
    architecture_of,
    attach,
    channel_groups,
    of,
)
from prune_core.networks.errors import ArchitectureError
from prune_core.networks.groups import ChannelGroup, Grouping, Groups
from prune_core.networks.layers import INPUT_CHANNELS
from prune_core.networks.module import device_of
from prune_core.networks.registry import NETWORKS, Family, Size, network
from prune_core.networks.simplenet import SimpleNet, SimpleNetArchitecture
from prune_core.networks.tracing import trace

__all__ = [
    "IMAGE_SIZE",
    "INPUT_CHANNELS",
    "NETWORKS",
    "Architecture",
    "ArchitectureError",
    "Builder",
    "ChannelGroup",
    "Family",
    "Grouping",
    "Groups",
    "ModuleArchitecture",
    "Registered",
    "SimpleNet",
    "SimpleNetArchitecture",
    "Size",
    "architecture_of",
    "attach",
    "channel_groups",
    "device_of",
    "network",
    "of",
    "resnet",
    "simplenet",
    "torchvision_resnets",
    "trace",
    "vgg",
]
