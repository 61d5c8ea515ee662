"""Architectures: everything needed to build a network except its weights."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, Self, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from prune_core.networks.cutting import cut, stays
from prune_core.networks.errors import ArchitectureError
from prune_core.networks.groups import GROUPS_VERSION, Grouping, Groups
from prune_core.networks.layers import check_width
from prune_core.networks.registry import NETWORKS, WIDTH, Size
from prune_core.networks.tracing import inner, trace
from prune_core.options import checked_options
from prune_core.registering import explaining
from prune_core.spelling import allowed

IMAGE_SIZE = (32, 32)
"""Height and width in pixels of the images of a network that nobody asked for another size of."""

_ATTRIBUTE = "_prune_sweep_architecture"
_Module = TypeVar("_Module", bound=nn.Module)


class Architecture(ABC):
    """The shape of a network.

    An architecture is a value: equal ones build equal modules, and it can be hashed and pickled.
    Every kind of architecture is a frozen dataclass.

    Attributes
    ----------
    widths : channels of each group, in the order of `groups`.
    classes : number of logits.
    image_size : height and width of the images in pixels.
    grouping : which channels can be removed.
    """

    widths: tuple[int, ...]
    classes: int
    image_size: Size
    grouping: Grouping = "all"

    @staticmethod
    def named(
        variant: str,
        classes: int,
        width: float = 1.0,
        *,
        options: Mapping[str, object] | None = None,
        image_size: Size | None = None,
        groups: Grouping = "all",
    ) -> Architecture:
        """The architecture of a registered network.

        Parameters
        ----------
        variant : a name in `NETWORKS`.
        width : multiplies all widths.
        options : the network's own options, such as {"shortcut": "B"}.
        image_size : height and width in pixels; by default those that the network was made for.
        groups : which channels can be removed; see `prune_core.networks.groups.Grouping`.

        Raises
        ------
        ArchitectureError
            For an unknown network or option, a width that is not positive, or images that are too
            small.
        """
        if variant not in NETWORKS:
            raise ArchitectureError(f"variant '{variant}' is unknown; {allowed(variant, NETWORKS)}")
        family = NETWORKS[variant]
        builder = Registered.of(variant, width, options or {})
        return of(builder, classes, image_size or family.image_size, groups)

    @property
    @abstractmethod
    def groups(self) -> Groups:
        """The channel groups of the unpruned network."""

    @property
    def groups_identity(self) -> dict[str, Any] | None:
        """What says which channels form a group; None for a chain, where it goes without saying."""
        return {"which": self.grouping, "version": GROUPS_VERSION}

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything that changes the unpruned network, as JSON values; part of keys."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Everything that is needed to build it, with its widths, as JSON values; for files."""

    @abstractmethod
    def build(self) -> nn.Module:
        """A new module; its weights are drawn from torch's global generator."""

    def with_widths(self, widths: Sequence[int]) -> Self:
        """The same architecture with other widths."""
        return self._changed(widths=tuple(int(width) for width in widths))

    def for_images(self, image_size: Size) -> Self:
        """The same architecture for images of another size."""
        return self._changed(image_size=image_size)

    def _changed(self, **fields: object) -> Self:
        return replace(self, **fields)  # type: ignore[type-var]


class Builder(Protocol):
    """Builds an unpruned module; a hashable value that can be pickled."""

    def __hash__(self) -> int: ...

    def build(self, classes: int) -> nn.Module:
        """A new module."""

    def identity(self) -> dict[str, Any]:
        """What changes the module, as JSON values."""

    def description(self) -> dict[str, Any]:
        """What names the builder in a file, as JSON values."""


@dataclass(frozen=True)
class Registered:
    """A network of the registry with its options.

    Attributes
    ----------
    plugin : the fingerprint of the plug-in that it comes from; empty for other networks.
    """

    name: str
    width: float
    options: tuple[tuple[str, object], ...]
    plugin: str = ""

    @classmethod
    def of(cls, name: str, width: float, options: Mapping[str, object]) -> Registered:
        """Checks width and options, and fills in the defaults."""
        check_width(width)
        build = NETWORKS[name].build
        where = f"network '{name}'"
        filled = checked_options(build, {**options, WIDTH: float(width)}, where, ArchitectureError)
        del filled[WIDTH]
        by = NETWORKS[name].provider
        return cls(name, float(width), tuple(sorted(filled.items())), by.fingerprint if by else "")

    def build(self, classes: int) -> nn.Module:
        """See `Builder`."""
        family, what = NETWORKS[self.name], f"network '{self.name}'"
        with explaining(what, family.provider, ArchitectureError):
            module: object = family.build(classes, width=self.width, **dict(self.options))
        if not isinstance(module, nn.Module):
            raise ArchitectureError(
                f"{what} returned {type(module).__name__}; it must return a torch.nn.Module"
            )
        return module

    def identity(self) -> dict[str, Any]:
        """See `Builder`."""
        return {"version": NETWORKS[self.name].version, **self.description()}

    def description(self) -> dict[str, Any]:
        """See `Builder`."""
        plugin = {"plugin": self.plugin} if self.plugin else {}
        return {"name": self.name, "width": self.width, "options": dict(self.options), **plugin}


@dataclass(frozen=True)
class ModuleArchitecture(Architecture):
    """A network that is built at its full widths and then cut to its own.

    Attributes
    ----------
    builder : builds the unpruned module.
    grouping : which of its channel groups can be pruned.
    """

    widths: tuple[int, ...]
    classes: int
    image_size: Size
    builder: Builder
    grouping: Grouping = "all"

    @property
    def groups(self) -> Groups:
        """See `Architecture`."""
        return _traced(self.builder, self.classes, self.image_size, self.grouping)

    def identity(self) -> dict[str, Any]:
        """See `Architecture`."""
        return {
            "network": self.builder.identity(),
            "classes": self.classes,
            "image_size": list(self.image_size),
        }

    def description(self) -> dict[str, Any]:
        """See `Architecture`."""
        return {
            "network": self.builder.description(),
            "classes": self.classes,
            "image_size": list(self.image_size),
            "groups": self.grouping,
            "widths": list(self.widths),
        }

    def build(self) -> nn.Module:
        """A new module; its weights are drawn from torch's global generator.

        A narrow network gets the first channels of a new wide one. Each weight is multiplied by
        the square root of the ratio of the fan-ins, which gives the same distribution as initial
        weights that are drawn for the narrow network by the rule of He et al. 2015.
        """
        module = _narrowed(self.builder.build(self.classes), self.groups, self.widths)
        return attach(module.to(memory_format=torch.channels_last), self)


def of(
    builder: Builder, classes: int, image_size: Size = IMAGE_SIZE, groups: Grouping = "all"
) -> Architecture:
    """The architecture of what a builder builds.

    SimpleNet brings its own architecture and builds itself from its widths.

    Raises
    ------
    ArchitectureError
        If the network cannot be built or traced for these images.
    """
    if classes < 2:
        raise ArchitectureError(f"classes {classes}: at least 2 are needed")
    found = _found(builder, classes, image_size)
    if isinstance(found, Architecture):
        return found
    if not any(group.joined for group in found.groups):
        groups = "all"  # without additions both ways are the same
    widths = _traced(builder, classes, image_size, groups).widths
    return ModuleArchitecture(widths, classes, image_size, builder, groups)


@dataclass(frozen=True, eq=False)
class AdoptedArchitecture(Architecture):
    """The architecture of a module that a program has at hand; see `adopt`.

    Attributes
    ----------
    template : a copy of the module.
    found : its channel groups.
    """

    widths: tuple[int, ...]
    classes: int
    image_size: Size
    template: nn.Module
    found: Groups
    grouping: Grouping = "all"

    @property
    def groups(self) -> Groups:
        """See `Architecture`."""
        return self.found

    def identity(self) -> dict[str, Any]:
        """A module in memory has no identity.

        Raises
        ------
        ArchitectureError
            Always.
        """
        raise ArchitectureError(
            "an adopted module has no source that a file or a key could name; save its state dict, "
            "or name it in a spec as network: {source: my_net.py:build}"
        )

    description = identity

    def build(self) -> nn.Module:
        """A copy of the module, at its full widths or cut to the first channels."""
        module = _narrowed(copy.deepcopy(self.template), self.found, self.widths)
        return attach(module.to(memory_format=torch.channels_last), self)


def attach(module: _Module, architecture: Architecture) -> _Module:
    """Notes the architecture of a module in the module."""
    object.__setattr__(module, _ATTRIBUTE, architecture)
    return module


def architecture_of(net: nn.Module) -> Architecture:
    """The architecture of a network that `Architecture.build` made or `prune` cut.

    Raises
    ------
    ArchitectureError
        For any other module.
    """
    found = getattr(net, _ATTRIBUTE, None)
    if not isinstance(found, Architecture):
        raise ArchitectureError(
            f"{type(net).__name__} has no architecture; build it with Architecture.build, such as "
            'Architecture.named("resnet56", 10).build(), or use adopt(net, classes) for your own'
        )
    return found


def channel_groups(net: nn.Module) -> Groups:
    """The channel groups of a network, pruned or not."""
    architecture = architecture_of(net)
    full = architecture.groups
    if architecture.widths == full.widths:
        return full
    # Two networks of one architecture may differ: which channels a shortcut pads, for example.
    known, found = _GROUPS.get(net, (None, full))
    if known is not architecture:
        found = trace(net, architecture.image_size, architecture.classes, architecture.grouping)
        _GROUPS[net] = architecture, found
    return found


_GROUPS: WeakKeyDictionary[nn.Module, tuple[Architecture, Groups]] = WeakKeyDictionary()
"""The channel groups of pruned networks, which take up to a second to find."""


def _narrowed(module: nn.Module, groups: Groups, widths: Sequence[int]) -> nn.Module:
    if tuple(widths) != groups.widths:
        kept = [torch.arange(width) for width in widths]
        _rescale(module, groups, kept)
        cut(module, groups, kept)
    return module


def _rescale(module: nn.Module, groups: Groups, kept: Sequence[Tensor]) -> None:
    for name, sides in stays(module, groups, kept).items():
        layer = module.get_submodule(name)
        if "inputs" in sides and isinstance(layer, nn.Conv2d | nn.Linear):
            full = layer.weight.shape[1]
            if len(sides["inputs"]) < full and full > 1:
                with torch.no_grad():
                    layer.weight.mul_(math.sqrt(full / len(sides["inputs"])))


@lru_cache(maxsize=64)
def _found(builder: Builder, classes: int, image_size: Size) -> Architecture | Groups:
    """The architecture that a new module brings, or else all its channel groups."""
    with torch.random.fork_rng(devices=[]):
        module = builder.build(classes)
    own = getattr(module, _ATTRIBUTE, None)
    # A person's function may have changed a module of this package: that is another network.
    if isinstance(own, Architecture) and _is_of_package(builder):
        return own.for_images(image_size)
    return trace(module, image_size, classes)


def _is_of_package(builder: Builder) -> bool:
    """Whether a function of this package builds the module."""
    if not isinstance(builder, Registered):
        return False
    return NETWORKS[builder.name].build.__module__.split(".")[0] == __name__.split(".")[0]


@lru_cache(maxsize=64)
def _traced(builder: Builder, classes: int, image_size: Size, grouping: Grouping) -> Groups:
    found = _found(builder, classes, image_size)
    assert isinstance(found, Groups)
    return inner(found) if grouping == "inner" else found
