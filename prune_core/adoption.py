"""Modules that a program has at hand: their channel groups, for a notebook."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from prune_core.networks import IMAGE_SIZE, Grouping, Size, attach
from prune_core.networks.architecture import AdoptedArchitecture
from prune_core.networks.tracing import trace
from prune_core.surgery import check_removal

Module = TypeVar("Module", bound=nn.Module)


def adopt(
    net: Module, classes: int, image_size: Size = IMAGE_SIZE, groups: Grouping = "all"
) -> Module:
    """Finds the channel groups of a module, so that it can be scored and pruned in a program.

    The module is returned, and nothing in it is changed. A sweep names a network by its source
    instead, because other machines must build it.

    Parameters
    ----------
    classes : number of its logits.
    image_size : height and width of its images in pixels.
    groups : which channels can be removed.

    Raises
    ------
    ArchitectureError
        If it cannot be traced, see `prune_core.networks.tracing.trace`, or pruned, see
        `prune_core.surgery.check_removal`.
    """
    found = trace(net, image_size, classes, groups)
    template = copy.deepcopy(net)
    adopted = AdoptedArchitecture(found.widths, classes, image_size, template, found, groups)
    check_removal(adopted)
    return attach(net, adopted)
