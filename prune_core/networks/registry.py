"""The registry of networks: what a spec can name under `network: {variant: ...}`.

To add a network, write a function from the number of classes to a module, and put `@network(...)`
above it. Its keyword-only parameters are its options. Nothing else is edited: the channel groups
are found by tracing the module, see `prune_core.networks.tracing`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from prune_core.networks.errors import ArchitectureError
from prune_core.registering import Provider, check_new, provider

WIDTH = "width"
"""The option that multiplies all widths; a spec gives it beside the other options."""

Size = tuple[int, int]
"""Height and width of an image in pixels."""


@dataclass(frozen=True)
class Family:
    """A registered network.

    Attributes
    ----------
    name : what a spec calls it.
    build : makes the module for a number of classes, with options as keyword arguments.
    source : the paper.
    version : raised when its figures change; part of the keys.
    image_size : the size of the images that it was made for.
    accuracies : published top-1 accuracies in percent on the test images, by data set.
    provider : the plug-in or package that it comes from; None for this package.
    """

    name: str
    build: Callable[..., nn.Module]
    source: str
    version: int
    image_size: Size
    accuracies: Mapping[str, float] = field(default_factory=dict)
    provider: Provider | None = field(default_factory=provider, kw_only=True)

    @property
    def summary(self) -> str:
        """The first paragraph of its docstring."""
        return (inspect.getdoc(self.build) or "").split("\n\n")[0].replace("\n", " ")


NETWORKS: dict[str, Family] = {}
"""Every network by its name."""


def network(
    source: str,
    *,
    version: int = 1,
    image_size: Size = (32, 32),
    accuracies: Mapping[str, float] | None = None,
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Registers a function (classes, *, options) -> module under the function's name; see `Family`.

    Raises
    ------
    ArchitectureError
        If there is a network of that name.
    """

    def register(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        name = build.__name__
        check_new(name, NETWORKS, "network", ArchitectureError)
        known = dict(accuracies or {})
        NETWORKS[name] = Family(name, build, source, version, image_size, known)
        return build

    return register
