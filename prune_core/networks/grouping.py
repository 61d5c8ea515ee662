"""Makes channel groups of labels: channels that lie on the same axes form a group."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx, nn

from prune_core.networks.cutting import is_depthwise
from prune_core.networks.errors import ArchitectureError
from prune_core.networks.groups import (
    ChannelGroup,
    Consumer,
    Groups,
    Length,
    Member,
    Producer,
    Sizes,
    Term,
)
from prune_core.networks.layers import layer_kind
from prune_core.networks.operations import Axis, Site, Walk
from prune_core.networks.recording import ALLOWED, IMAGES, Recording


class Grouping:
    """The groups of a network, of whose operations `walk` knows what they do."""

    def __init__(self, walk: Walk, recording: Recording) -> None:
        self.walk = walk
        self.recording = recording
        roots = walk.labels.roots
        self.axes = {axis: roots(labels).tolist() for axis, labels in walk.axes.items()}
        # The classes in each tensor that layers read.
        self.read = {
            node: frozenset(roots(site.value.labels).tolist())
            for node, site in walk.sites.items()
            if site.value.labels is not None
        }
        self.order = {node: at for at, node in enumerate(walk.values)}
        self.makers = set(walk.producers.values())
        self.layers = {str(node.target): node for node in walk.values if node.op == "call_module"}
        # For each class the axes that it lies on, and its positions there.
        self.places: dict[int, dict[Axis, list[int]]] = {}
        for axis, labels in self.axes.items():
            for position, label in enumerate(labels):
                self.places.setdefault(label, {}).setdefault(axis, []).append(position)

    def groups(self) -> Groups:
        """All groups that can be pruned.

        Raises
        ------
        ArchitectureError
            If there is none.
        """
        walk = self.walk
        pinned: dict[int, str] = {}
        for label, why in walk.pinned.items():
            pinned.setdefault(walk.labels.root(label), why)
        joined = {walk.labels.root(label) for label in walk.joined}
        # Classes whose channels lie on the same axes, as often, form a group.
        found: dict[frozenset[tuple[Axis, int]], list[int]] = {}
        fixed: dict[str, str] = {}
        for name in walk.producers:
            for label in dict.fromkeys(self.axes[name, "outputs"]):
                if label in pinned:
                    fixed.setdefault(name, pinned[label])
                    continue
                places = self.places[label].items()
                members = found.setdefault(frozenset((axis, len(at)) for axis, at in places), [])
                if label not in members:
                    members.append(label)
        groups = []
        for classes in found.values():
            group = self._group(classes, not joined.isdisjoint(classes))
            if group is None:
                fixed.setdefault(self._makers(classes)[0], "no layer reads them")
            else:
                groups.append(group)
        if not groups:
            whys = "; ".join(f"{name}: {why}" for name, why in fixed.items())
            raise ArchitectureError(
                f"no channel of the network can be removed ({whys}); allowed are {ALLOWED}"
            )
        return Groups(tuple(groups), self._sizes(groups), tuple(fixed.items()))

    def _makers(self, classes: list[int]) -> list[str]:
        """The convolutions that make these channels, in the order of execution."""
        axes = self.places[classes[0]]
        return [name for name in self.walk.producers if (name, "outputs") in axes]

    def _group(self, classes: list[int], joined: bool) -> ChannelGroup | None:
        """The group of some classes, or None if no layer reads them.

        Parameters
        ----------
        classes : in the order of the first producer's channels.
        """
        axes = self.places[classes[0]]

        def positions(axis: Axis) -> Tensor:
            return torch.tensor([self.places[label][axis] for label in classes], dtype=torch.int64)

        producers = []
        for name in self._makers(classes):
            sites, norm = self._readers(name, classes)
            if not sites:
                continue
            # A gate reads averages beside the layer that reads the map itself.
            main = max(sites, key=lambda site: site.positions)
            ordered = [main, *(site for site in sites if site is not main)]
            consumers = [one for site in ordered for one in site.consumers]
            if norm is not None and (norm, "outputs") not in axes:
                norm = None
            producers.append(
                Producer(
                    name,
                    positions((name, "outputs")),
                    norm,
                    positions((norm, "outputs")) if norm else None,
                    tuple(
                        Consumer(one, positions((one, "inputs")), self._norm_of(one))
                        for one in consumers
                    ),
                    main.value.area,
                    self._weight(name),
                )
            )
        if not producers:
            return None
        members = tuple(Member(module, side, positions((module, side))) for module, side in axes)
        first = self._makers(classes)[0]
        return ChannelGroup(first, len(classes), tuple(producers), members, joined)

    def _weight(self, convolution: str) -> tuple[int, int, int, int]:
        layer = self.walk.net.get_submodule(convolution)
        assert isinstance(layer, nn.Conv2d)
        outputs, inputs, height, width = layer.weight.shape
        return outputs, inputs, height, width

    def _norm_of(self, layer: str) -> str | None:
        """The batch normalisation that alone reads the outputs of a layer."""
        users = list(self.layers[layer].users)
        if len(users) != 1 or users[0].op != "call_module":
            return None
        name = str(users[0].target)
        if self.walk.called[name] > 1:
            return None
        kind = layer_kind(self.walk.net.get_submodule(name))
        return name if kind in (nn.BatchNorm1d, nn.BatchNorm2d) else None

    def _readers(self, producer: str, classes: list[int]) -> tuple[list[Site], str | None]:
        """The tensors in which layers read a producer's channels, and its batch normalisation.

        The channels are followed until layers read them, and through an addition only if no layer
        reads them before it, or if those that do read averages of the map that is added.
        """
        start = self.walk.producers[producer]
        found: list[Site] = []
        norm: str | None = None
        level, seen = [start], {start}
        while level:
            later: list[fx.Node] = []
            here: list[Site] = []
            apart = False  # behind a depthwise convolution, which has its own normalisation
            while level:
                level.sort(key=self.order.__getitem__)
                node = level.pop(0)
                apart = apart or (node in self.makers and node is not start)
                if norm is None and not apart:
                    norm = self.walk.norms.get(node)
                if not self.read.get(node, frozenset()).isdisjoint(classes):
                    here.append(self.walk.sites[node])
                for follower, addition in self.walk.onward.get(node, []):
                    if follower not in seen:
                        seen.add(follower)
                        (later if addition else level).append(follower)
            most = max((site.positions for site in found), default=0)
            if found and max((site.positions for site in here), default=0) <= most:
                break
            found += here
            level = later
        return found, norm

    def _sizes(self, groups: list[ChannelGroup]) -> Sizes:
        repeats: dict[Axis, dict[int, int]] = {}
        for index, group in enumerate(groups):
            for member in group.members:
                of = repeats.setdefault((member.module, member.side), {})
                of[index] = member.positions.shape[1]

        def length(axis: Axis, full: int) -> Length:
            of = repeats.get(axis, {})
            removable = sum(groups[group].channels * repeat for group, repeat in of.items())
            return Length(full - removable, tuple(sorted(of.items())))

        terms, macs = [], []
        for name, module in self.walk.net.named_modules():
            # The second axis of a grouped convolution's weight is not that of its inputs.
            grouped = is_depthwise(module) or (isinstance(module, nn.Conv2d) and module.groups > 1)
            for key, tensor in module.named_parameters(recurse=False):
                full = tensor.shape
                outputs = (length((name, "outputs"), full[0]),) if full else ()
                inputs: tuple[Length, ...] = ()
                rest = math.prod(full[1:])
                if key == "weight" and len(full) > 1 and not grouped:
                    inputs = (length((name, "inputs"), full[1]),)
                    rest = math.prod(full[2:])
                if tensor.requires_grad:
                    terms.append((rest, outputs + inputs))
                if key == "weight" and isinstance(module, nn.Conv2d | nn.Linear):
                    macs.append((rest * self._positions(name, full[0]), outputs + inputs))
        return Sizes(_merged(terms), self._with_all_macs(_merged(macs), groups))

    def _positions(self, layer: str, outputs: int) -> int:
        """The positions of a layer's output for an image; 0 if no operation calls it alone."""
        node = self.layers.get(layer)
        found = None if node is None else self.recording.results[node]
        return found.numel() // (IMAGES * outputs) if isinstance(found, Tensor) else 0

    def _with_all_macs(
        self, terms: tuple[Term, ...], groups: list[ChannelGroup]
    ) -> tuple[Term, ...]:
        """The terms that groups change, and one number for all other operations.

        So functions, layers that are called several times and layers inside a module that computes
        in its own way count too: channels that reach them cannot be removed.
        """
        changing = tuple(term for term in terms if term[1])
        full = [group.channels for group in groups]
        counted = sum(factor * math.prod(one.of(full) for one in axes) for factor, axes in changing)
        return ((self.recording.macs - int(counted), ()), *changing)


def _merged(terms: list[Term]) -> tuple[Term, ...]:
    """Terms with equal lengths added up; whatever no group changes is one number."""
    constant = 0
    found: dict[tuple[Length, ...], int] = {}
    for factor, lengths in terms:
        changing = tuple(one for one in lengths if one.repeats)
        whole = factor * math.prod(one.fixed for one in lengths if not one.repeats)
        if changing:
            found[changing] = found.get(changing, 0) + whole
        else:
            constant += whole
    return ((constant, ()), *((factor, lengths) for lengths, factor in found.items()))
