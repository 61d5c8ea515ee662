"""Finds the channel groups of a network by tracing it.

torch.fx records the operations of a forward pass. Every channel of every convolution gets a label,
and the labels follow the channels through the network: an activation or pooling keeps them, an
addition makes two labels one, a concatenation appends them, a flattening repeats them. Channels
with one label are one channel, and labels that occur on the same axes form a group.

An operation that is not known here may do anything with its channels, so the channels that reach it
are fixed: they are never removed, and the operation always sees all of them. The same holds for
the outputs of the network. So a wrong group cannot come from an unknown operation.
"""

from __future__ import annotations

import copy
import inspect
import math
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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
    Side,
    Sizes,
    Term,
)
from prune_core.networks.layers import PaddedShortcut

INPUT_CHANNELS = 3

ALLOWED = (
    "convolutions (ungrouped or depthwise), batch normalisation, activations, pooling, dropout, "
    "additions, products, concatenations, flattening and linear layers"
)

# Modules that keep each channel apart and in its place.
_POINTWISE_MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.Softsign,
    nn.LogSigmoid, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.Threshold, nn.RReLU,
    nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout,
    nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
    nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d,
    nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ConstantPad2d,
)  # fmt: skip

_F = nn.functional
_POINTWISE_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    [
        torch.relu, torch.relu_, _F.relu, _F.relu_, _F.relu6, _F.leaky_relu, _F.elu, _F.celu,
        _F.selu, _F.gelu, _F.silu, _F.mish, torch.sigmoid, _F.sigmoid, torch.tanh, _F.tanh,
        _F.hardswish, _F.hardsigmoid, _F.hardtanh, _F.softplus, torch.abs, torch.exp, torch.sqrt,
        torch.square, torch.clamp, _F.dropout, _F.dropout2d, _F.alpha_dropout,
        _F.max_pool2d, torch.max_pool2d, _F.avg_pool2d, _F.lp_pool2d, _F.adaptive_avg_pool2d,
        _F.adaptive_max_pool2d, _F.interpolate, operator.neg, operator.pow, torch.pow, torch.log,
        torch.clamp_min, torch.clamp_max,
    ]
)  # fmt: skip
_POINTWISE_METHODS = frozenset(
    ["relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "clamp", "clamp_", "abs", "exp",
     "sqrt", "square", "contiguous", "clone", "detach", "to", "float", "double", "half",
     "bfloat16", "type_as", "neg", "pow", "log", "clamp_min", "clamp_max"]
)  # fmt: skip
_LIKE_METHODS = frozenset(["type_as", "expand_as"])

_SUMS = frozenset([operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub])
_SUM_METHODS = frozenset(["add", "add_", "sub", "sub_"])
_PRODUCTS = frozenset(
    [operator.mul, operator.imul, operator.truediv, torch.mul, torch.div, torch.maximum,
     torch.minimum]
)  # fmt: skip
_PRODUCT_METHODS = frozenset(["mul", "mul_", "div", "div_"])
_CONCATENATIONS = frozenset([torch.cat, torch.concat, torch.concatenate])
# They reduce or drop axes; whether the channels stay apart is seen from the dimensions.
_REDUCTIONS = frozenset([torch.mean, torch.sum, torch.amax, torch.amin])
_REDUCTION_METHODS = frozenset(["mean", "sum", "amax", "amin"])
_RESHAPES = frozenset([torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze])
_RESHAPE_METHODS = frozenset(
    ["flatten", "view", "reshape", "squeeze", "unsqueeze", "expand", "expand_as"]
)

Labels = NDArray[np.int64]
Axis = tuple[str, Side]


@dataclass
class _Value:
    """What is known of a tensor.

    Attributes
    ----------
    shape : of the tensor in the trace.
    labels : of the entries on axis 1, or None if no channel in it can be removed.
    pixels : height and width of the map before it was flattened; None if it was not.
    """

    shape: tuple[int, ...]
    labels: Labels | None = None
    pixels: tuple[int, int] | None = None

    @property
    def area(self) -> tuple[int, int]:
        """Height and width of the map."""
        if self.pixels is not None:
            return self.pixels
        height, width = (*self.shape[2:], 1, 1)[:2]
        return height, width


@dataclass
class _Site:
    """A tensor that convolutions or linear layers read."""

    value: _Value
    consumers: list[str] = field(default_factory=list)

    @property
    def positions(self) -> int:
        """Number of positions of the map."""
        return math.prod(self.value.area)


def trace(net: nn.Module, image_size: tuple[int, int], classes: int | None = None) -> Groups:
    """The channel groups of a network for images [N, 3, H, W] of a size.

    No weight is read, and the network is not changed. Channels that an addition joins are one
    group; see `inner` for the other way.

    Parameters
    ----------
    classes : the number of logits that the network must return; None for any number.

    Raises
    ------
    ArchitectureError
        If the network cannot be traced (the message names the module), if its output is not a
        tensor [N, classes], or if no channel can be removed.
    """
    walk = _Walk(net, image_size, classes)
    walk.run()
    return walk.groups()


def inner(groups: Groups) -> Groups:
    """Only the groups that no addition joins; the others keep all their channels.

    Raises
    ------
    ArchitectureError
        If there is none.
    """
    chosen = [index for index, group in enumerate(groups.groups) if not group.joined]
    if not chosen:
        raise ArchitectureError(
            "additions join all channels of this network, so no inner group is left; use groups: "
            "all"
        )
    place = {old: new for new, old in enumerate(chosen)}

    def fixed(length: Length) -> Length:
        stay = sum(r * groups.widths[g] for g, r in length.repeats if g not in place)
        return Length(
            length.fixed + stay, tuple((place[g], r) for g, r in length.repeats if g in place)
        )

    terms = tuple((factor, tuple(map(fixed, lengths))) for factor, lengths in groups.sizes.terms)
    joined = [(group.name, "an addition joins them") for group in groups.groups if group.joined]
    return Groups(
        tuple(groups.groups[index] for index in chosen),
        Sizes(terms),
        (*groups.fixed, *joined),
    )


class _Tracer(fx.Tracer):
    """Traces into all modules but those of torch and those with rules of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            isinstance(m, PaddedShortcut)
            or any(isinstance(m, kind) and type(m).forward is kind.forward for kind in _CUT)
            or super().is_leaf_module(m, module_qualified_name)
        )

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            # The innermost module is where it failed.
            self.failed = self.failed or self.path_of_module(m)
            raise


class _Walk:
    """One walk through the operations of a network, in the order of their execution."""

    def __init__(
        self, net: nn.Module, image_size: tuple[int, int], classes: int | None = None
    ) -> None:
        self.net = net
        self.image_size = image_size
        self.classes = classes
        self.parents: list[int] = []
        self.pinned: dict[int, str] = {}
        self.joined: list[int] = []
        self.axes: dict[Axis, Labels] = {}
        self.norms: dict[fx.Node, str] = {}
        self.sites: dict[fx.Node, _Site] = {}
        self.values: dict[fx.Node, _Value] = {}
        self.order: dict[str, fx.Node] = {}
        # Where the channels of a tensor go on: through an addition, or otherwise.
        self.onward: dict[fx.Node, list[tuple[fx.Node, bool]]] = {}
        self.called: Counter[str] = Counter()

    # Labels form classes (union-find): two labels of one class are one channel.

    def fresh(self, count: int) -> Labels:
        start = len(self.parents)
        self.parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, label: int) -> int:
        while self.parents[label] != label:
            self.parents[label] = self.parents[self.parents[label]]
            label = self.parents[label]
        return label

    def roots(self, labels: Labels) -> Labels:
        return np.array([self.root(int(label)) for label in labels], dtype=np.int64)

    def unite(self, one: Labels, two: Labels) -> None:
        for a, b in zip(one.tolist(), two.tolist(), strict=True):
            low, high = sorted((self.root(a), self.root(b)))
            self.parents[high] = low

    def pin(self, value: _Value, why: str) -> None:
        """Fixes the channels in a tensor: they are never removed."""
        if value.labels is not None:
            for label in value.labels.tolist():
                self.pinned.setdefault(label, why)

    def run(self) -> None:
        """Records the operations and follows the labels through them."""
        graph, there = self._recorded()
        shapes = self._shapes(graph, there)
        self.called.update(node.target for node in graph.nodes if node.op == "call_module")
        for node in graph.nodes:
            if node.op == "output":
                self._end(node)
            elif node.op == "placeholder" and not isinstance(shapes.found[node], Tensor):
                continue  # an argument's default, which may be None
            elif isinstance(found := shapes.found[node], Tensor):
                self.values[node] = self._value(node, tuple(found.shape))
            elif not _plain(found):
                # Several tensors, or a change in place.
                self._unknown(node, self._inputs(node))

    def _shapes(self, graph: fx.Graph, there: nn.Module) -> _Shapes:
        """Runs the operations for their shapes, on the meta device if the network can."""
        shape = (2, INPUT_CHANNELS, *self.image_size)
        with torch.no_grad():
            try:
                shapes = _Shapes(fx.GraphModule(there, graph).to("meta"))
                shapes.run(torch.empty(shape, device="meta"))
            except Exception:
                # A forward method may make tensors of its own, which are not on the meta device.
                real = copy.deepcopy(self.net).eval()
                for name, constant in vars(there).items():
                    if isinstance(constant, Tensor):
                        setattr(real, name, constant)  # tensors that the trace found
                shapes = _Shapes(fx.GraphModule(real, graph))
                example = next(self.net.parameters())
                try:
                    shapes.run(torch.zeros(shape, dtype=example.dtype, device=example.device))
                except Exception as error:
                    raise ArchitectureError(
                        f"the network fails for images of {self.image_size[0]} x "
                        f"{self.image_size[1]} pixels at {_place(shapes.current)}: "
                        f"{str(error).splitlines()[0]}"
                    ) from error
        return shapes

    def _recorded(self) -> tuple[fx.Graph, nn.Module]:
        tracer = _Tracer()
        there = copy.deepcopy(self.net).to("meta").eval()
        self._check_apart()
        try:
            graph = tracer.trace(there, self._defaults())
        except Exception as error:
            where = f"module '{tracer.failed}'" if tracer.failed else "its forward method"
            raise ArchitectureError(
                f"the network cannot be traced: {where} has control flow that depends on the "
                f"images, or an operation that torch.fx cannot record ({error}); allowed are "
                f"{ALLOWED}"
            ) from error
        return graph, there

    def _check_apart(self) -> None:
        """Refuses one tensor in two modules: each would be cut in its own way."""
        for name, module in self.net.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
                raise ArchitectureError(
                    f"module '{name}' has no running statistics, so the logits of an image depend "
                    "on the other images of its batch; set track_running_stats=True"
                )
        names: dict[int, str] = {}
        for name, tensor in self.net.named_parameters(remove_duplicate=False):
            first = names.setdefault(id(tensor), name)
            # One module under two names is one place; the operations show how often it is used.
            one, two = first.rpartition(".")[0], name.rpartition(".")[0]
            if self.net.get_submodule(one) is not self.net.get_submodule(two):
                raise ArchitectureError(f"{first} and {name} are one tensor; untie them to prune")

    def _defaults(self) -> dict[str, Any]:
        """The defaults of the arguments of `forward` beside the images."""
        given = [*inspect.signature(self.net.forward).parameters.values()]
        rest = [one for one in given[1:] if one.kind is one.POSITIONAL_OR_KEYWORD]
        if not given or any(one.default is one.empty for one in rest):
            raise ArchitectureError(
                f"forward of the network takes {len(given)} arguments; it must take one, the "
                "images, and all others must have defaults"
            )
        return {one.name: one.default for one in rest}

    def _inputs(self, node: fx.Node) -> list[_Value]:
        return [self.values[one] for one in node.all_input_nodes if one in self.values]

    def _follows(self, node: fx.Node, source: fx.Node, addition: bool = False) -> None:
        """Notes that the channels of a tensor go on into the result of an operation."""
        self.onward.setdefault(source, []).append((node, addition))

    def _value(self, node: fx.Node, shape: tuple[int, ...]) -> _Value:
        """What is known of the result of an operation."""
        inputs = self._inputs(node)
        if all(value.labels is None for value in inputs):
            # Nothing in it can be removed; only a convolution makes new channels.
            if node.op == "call_module" and (made := self._made(node, shape)) is not None:
                return made
            return _Value(shape)
        if node.op == "call_module":
            return self._module(node, inputs, shape)
        target: Any = node.target
        function, method = node.op == "call_function", node.op == "call_method"
        if method and target in _LIKE_METHODS:
            inputs = inputs[:1]  # the other tensor gives a shape or a type
        if (
            (function and target in _POINTWISE_FUNCTIONS)
            or (method and target in _POINTWISE_METHODS)
            # Of torchvision: it drops whole images of a branch in training.
            or (function and getattr(target, "__name__", "") == "stochastic_depth")
        ):
            return self._kept(node, inputs, shape)
        if (function and target in _SUMS) or (method and target in _SUM_METHODS):
            return self._joined(node, inputs, shape, sums=True)
        if (function and target in _PRODUCTS) or (method and target in _PRODUCT_METHODS):
            return self._joined(node, inputs, shape, sums=False)
        if function and target in _CONCATENATIONS:
            return self._concatenated(node, shape)
        if (function and target in _REDUCTIONS) or (method and target in _REDUCTION_METHODS):
            return self._reduced(node, inputs, shape)
        if (function and target in _RESHAPES) or (method and target in _RESHAPE_METHODS):
            return self._reshaped(node, inputs, shape)
        if function and target is operator.getitem:
            return self._sliced(node, inputs, shape)
        if function and target is _F.pad:
            return self._padded(node, inputs, shape)
        return self._unknown(node, inputs, shape)

    # Modules.

    def _made(self, node: fx.Node, shape: tuple[int, ...]) -> _Value | None:
        """New channels of an ungrouped convolution or a linear layer."""
        name, module = str(node.target), self._get(node)
        if self.called[name] > 1:
            return None
        if _is(module, nn.Linear) and len(shape) == 2:
            # Its outputs are no group of their own, but as a gate they belong to one.
            self.axes[name, "outputs"] = self.fresh(shape[1])
            return _Value(shape, self.axes[name, "outputs"])
        if not _is(module, nn.Conv2d) or _depthwise(module):
            return None
        assert isinstance(module, nn.Conv2d)
        if module.groups != 1:
            return None
        self.axes[name, "outputs"] = self.fresh(module.out_channels)
        self.order[name] = node
        return _Value(shape, self.axes[name, "outputs"])

    def _module(self, node: fx.Node, inputs: list[_Value], shape: tuple[int, ...]) -> _Value:
        name, module = str(node.target), self._get(node)
        value, source = inputs[0], node.all_input_nodes[0]
        if len(inputs) != 1 or node.kwargs:
            return self._unknown(node, inputs, shape)
        if self.called[name] > 1 and (
            next(module.parameters(), None) is not None or next(module.buffers(), None) is not None
        ):
            # One set of tensors for several places: what they have in common is not worked out.
            return self._unknown(node, inputs, shape, "is used several times")
        if isinstance(module, _CUT) and not _is(module, type(module)):
            return self._unknown(node, inputs, shape, "changes its weights in its own way")
        if isinstance(module, nn.Conv2d) and module.groups == 1 and not _depthwise(module):
            self._read(node, value)
            return self._made(node, shape) or _Value(shape)
        if isinstance(module, nn.Linear) and len(value.shape) == 2:
            self._read(node, value)
            return self._made(node, shape) or _Value(shape)
        assert value.labels is not None
        if isinstance(module, nn.Conv2d) and _depthwise(module):
            labels = value.labels.repeat(module.out_channels // module.in_channels)
            self.axes[name, "inputs"], self.axes[name, "outputs"] = value.labels, labels
            self.order[name] = node
            self._follows(node, source)
            return _Value(shape, labels)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and len(value.shape) in (2, 4):
            self.axes[name, "outputs"] = value.labels
            self.norms[node] = name
            return self._kept(node, inputs, shape)
        if isinstance(module, nn.PReLU):
            if module.num_parameters > 1:
                self.axes[name, "outputs"] = value.labels
            return self._kept(node, inputs, shape)
        if isinstance(module, PaddedShortcut):
            original = self.net.get_submodule(name)
            assert isinstance(original, PaddedShortcut)
            copies = original.source.cpu().numpy()
            labels = self.fresh(len(copies))
            copied = copies >= 0
            self.unite(labels[copied], value.labels[copies[copied]])
            self.axes[name, "inputs"], self.axes[name, "outputs"] = value.labels, labels
            self._follows(node, source)
            return _Value(shape, labels)
        if isinstance(module, nn.Flatten):
            return self._reshaped(node, inputs, shape)
        if isinstance(module, _POINTWISE_MODULES):
            return self._kept(node, inputs, shape)
        if isinstance(module, nn.InstanceNorm2d) and not module.affine:
            return self._kept(node, inputs, shape)
        return self._unknown(node, inputs, shape)

    def _read(self, node: fx.Node, value: _Value) -> None:
        """Notes that a layer reads a tensor."""
        source = node.all_input_nodes[0]
        assert value.labels is not None
        self.axes[str(node.target), "inputs"] = value.labels
        self.sites.setdefault(source, _Site(value)).consumers.append(str(node.target))

    def _get(self, node: fx.Node) -> nn.Module:
        return self.net.get_submodule(str(node.target))

    # Operations.

    def _kept(self, node: fx.Node, inputs: list[_Value], shape: tuple[int, ...]) -> _Value:
        value = inputs[0]
        if len(inputs) != 1 or len(shape) < 2 or shape[1] != value.shape[1]:
            return self._unknown(node, inputs, shape)
        self._follows(node, node.all_input_nodes[0])
        return _Value(shape, value.labels, value.pixels)

    def _joined(
        self, node: fx.Node, inputs: list[_Value], shape: tuple[int, ...], sums: bool
    ) -> _Value:
        """Adds or multiplies tensors channel by channel."""
        given = (*node.args, *node.kwargs.values())
        sources = [one for one in given if isinstance(one, fx.Node) and one in self.values]
        # A tensor with one entry is a number.
        sources = [one for one in sources if math.prod(self.values[one].shape) > 1]
        operands = [self.values[one] for one in sources]
        if len(operands) == 1 or (len(operands) == 2 and sources[0] is sources[1]):
            if operands[0].shape[1:2] != shape[1:2]:
                return self._unknown(node, inputs, shape)
            self._follows(node, sources[0])
            return _Value(shape, operands[0].labels, operands[0].pixels)
        if len(operands) != 2 or any(len(value.shape) != len(shape) for value in operands):
            return self._unknown(node, inputs, shape)
        for value in operands:
            if value.shape[1] != shape[1]:
                self.pin(value, f"{_place(node)} spreads one channel over all")
        wide = [at for at, value in enumerate(operands) if value.shape[1] == shape[1]]
        if len(wide) == 1:
            # The other one has the same number for every channel.
            self._follows(node, sources[wide[0]])
            return _Value(shape, operands[wide[0]].labels)
        one, two = operands
        if one.labels is None or two.labels is None:
            self.pin(one, f"{_place(node)} joins them with fixed channels")
            self.pin(two, f"{_place(node)} joins them with fixed channels")
            return _Value(shape)
        if sums:
            apart = self.roots(one.labels) != self.roots(two.labels)
            self.joined.extend(one.labels[apart].tolist())
        self.unite(one.labels, two.labels)
        for source, value in zip(sources, operands, strict=True):
            # A gate has one number for the whole map: it scales channels and makes none.
            if sums or value.shape[2:] == shape[2:]:
                self._follows(node, source, addition=sums)
        return _Value(shape, one.labels, one.pixels)

    def _concatenated(self, node: fx.Node, shape: tuple[int, ...]) -> _Value:
        parts, axis = _arguments(node, ("tensors", "dim"), (None, node.kwargs.get("axis", 0)))
        inputs = self._inputs(node)
        axis = axis + len(shape) if isinstance(axis, int) and axis < 0 else axis
        parts = parts if isinstance(parts, list | tuple) else ()
        values = [self.values[one] for one in parts if one in self.values]
        if axis != 1 or not values or len(values) != len(parts):
            return self._unknown(node, inputs, shape)
        labels = []
        for value in values:
            if value.labels is None:
                made = self.fresh(value.shape[1])
                self.pin(_Value(value.shape, made), f"{_place(node)} appends fixed channels")
                labels.append(made)
            else:
                labels.append(value.labels)
        for part in parts:
            self._follows(node, part)
        return _Value(shape, np.concatenate(labels))

    def _reduced(self, node: fx.Node, inputs: list[_Value], shape: tuple[int, ...]) -> _Value:
        value = inputs[0]
        dims, _ = _arguments(node, ("input", "dim"), (None, None), skip=True)
        dims = (dims,) if isinstance(dims, int) else dims
        if not isinstance(dims, Sequence) or not all(isinstance(one, int) for one in dims):
            return self._unknown(node, inputs, shape)
        if any(one % len(value.shape) < 2 for one in dims):
            return self._unknown(node, inputs, shape)
        self._follows(node, node.all_input_nodes[0])
        return _Value(shape, value.labels)

    def _reshaped(self, node: fx.Node, inputs: list[_Value], shape: tuple[int, ...]) -> _Value:
        """Flattens channels and positions into one axis, or changes the positions alone."""
        value = inputs[0]
        before = value.shape
        assert value.labels is not None
        if len(inputs) > 1 or len(shape) < 2 or shape[0] != before[0]:
            return self._unknown(node, inputs, shape)
        if shape[1] == before[1]:
            self._follows(node, node.all_input_nodes[0])
            return _Value(shape, value.labels, value.pixels)
        if len(shape) == 2 and shape[1] == math.prod(before[1:]):
            self._follows(node, node.all_input_nodes[0])
            repeats = math.prod(before[2:])
            return _Value(shape, value.labels.repeat(repeats), value.area)
        return self._unknown(node, inputs, shape)

    def _sliced(self, node: fx.Node, inputs: list[_Value], shape: tuple[int, ...]) -> _Value:
        """A part of the positions, such as every second pixel."""
        value, index = inputs[0], node.args[1]
        index = index if isinstance(index, tuple) else (index,)
        whole = slice(None, None, None)
        if (
            index[0] is Ellipsis
            and sum(one is not None for one in index[1:]) <= len(value.shape) - 2
        ):
            index = (whole, whole)
        if len(inputs) == 1 and list(index[:2]) == [whole, whole][: len(index[:2])]:
            self._follows(node, node.all_input_nodes[0])
            return _Value(shape, value.labels)
        return self._unknown(node, inputs, shape)

    def _padded(self, node: fx.Node, inputs: list[_Value], shape: tuple[int, ...]) -> _Value:
        if shape[:2] == inputs[0].shape[:2]:
            return self._kept(node, inputs, shape)
        return self._unknown(node, inputs, shape)

    def _unknown(
        self,
        node: fx.Node,
        inputs: list[_Value],
        shape: tuple[int, ...] = (),
        why: str = "is not among the operations that are known",
    ) -> _Value:
        """Fixes all channels that reach an operation."""
        for value in inputs:
            self.pin(value, f"{_place(node)} {why}")
        return _Value(shape)

    def _end(self, node: fx.Node) -> None:
        result = node.args[0]
        value = self.values.get(result) if isinstance(result, fx.Node) else None
        wanted = self.classes or (value.shape[-1] if value else 0)
        if value is None or len(value.shape) != 2 or value.shape[1] < 2 or value.shape[1] != wanted:
            raise ArchitectureError(
                "the network must return one tensor of logits "
                f"[N, {self.classes or 'classes'}]"
                + ("" if value is None else f", not [N, {', '.join(map(str, value.shape[1:]))}]")
            )
        self.pin(value, "they are outputs of the network")

    # Groups.

    def groups(self) -> Groups:
        """Puts labels that occur on the same axes together."""
        axes = {axis: self.roots(labels) for axis, labels in self.axes.items()}
        pinned: dict[int, str] = {}
        for label, why in self.pinned.items():
            pinned.setdefault(self.root(label), why)
        joined = {self.root(label) for label in self.joined}
        places: dict[int, dict[Axis, list[int]]] = {}
        for axis, labels in axes.items():
            for position, label in enumerate(labels.tolist()):
                places.setdefault(label, {}).setdefault(axis, []).append(position)
        # Classes whose channels lie on the same axes, as often, form a group.
        found: dict[frozenset[tuple[Axis, int]], list[int]] = {}
        fixed: dict[str, str] = {}
        for name in self.order:
            for label in dict.fromkeys(axes[name, "outputs"].tolist()):
                if label in pinned:
                    fixed.setdefault(name, pinned[label])
                    continue
                signature = frozenset((axis, len(at)) for axis, at in places[label].items())
                members = found.setdefault(signature, [])
                if label not in members:
                    members.append(label)
        groups = []
        for classes in found.values():
            group = self._group(classes, places, axes, bool(joined & {*classes}))
            if group is None:
                fixed.setdefault(self._first(classes, axes), "no layer reads them")
            else:
                groups.append(group)
        if not groups:
            whys = "; ".join(f"{name}: {why}" for name, why in fixed.items())
            raise ArchitectureError(
                f"no channel of the network can be removed ({whys}); allowed are {ALLOWED}"
            )
        return Groups(tuple(groups), self._sizes(groups, axes), tuple(fixed.items()))

    def _first(self, classes: list[int], axes: dict[Axis, Labels]) -> str:
        return next(name for name in self.order if np.isin(axes[name, "outputs"], classes).any())

    def _group(
        self,
        classes: list[int],
        places: dict[int, dict[Axis, list[int]]],
        axes: dict[Axis, Labels],
        joined: bool,
    ) -> ChannelGroup | None:
        first = self._first(classes, axes)
        # In the order of the first producer's channels.
        order = {label: at for at, label in reversed([*enumerate(axes[first, "outputs"].tolist())])}
        classes = sorted(classes, key=order.__getitem__)

        def positions(axis: Axis) -> Tensor:
            return torch.tensor([places[label][axis] for label in classes], dtype=torch.int64)

        producers = []
        for name in self.order:
            if (name, "outputs") not in places[classes[0]]:
                continue
            sites, norm = self._readers(name, classes)
            if not sites:
                continue
            # A gate reads averages beside the layer that reads the map itself.
            main = max(sites, key=lambda site: site.positions)
            ordered = [main, *(site for site in sites if site is not main)]
            consumers = [name for site in ordered for name in site.consumers]
            if norm is not None and (norm, "outputs") not in places[classes[0]]:
                norm = None
            producers.append(
                Producer(
                    name,
                    positions((name, "outputs")),
                    norm,
                    positions((norm, "outputs")) if norm else None,
                    tuple(Consumer(one, positions((one, "inputs"))) for one in consumers),
                    main.value.area,
                )
            )
        if not producers:
            return None
        members = tuple(
            Member(module, side, positions((module, side))) for module, side in places[classes[0]]
        )
        return ChannelGroup(first, len(classes), tuple(producers), members, joined)

    def _readers(self, producer: str, classes: list[int]) -> tuple[list[_Site], str | None]:
        """The tensors in which layers read a producer's channels, and its batch normalisation.

        The channels are followed until layers read them, and through an addition only if no layer
        reads them before it, or if those that do read averages of the map that is added.
        """
        order = {node: at for at, node in enumerate(self.values)}
        found: list[_Site] = []
        norm: str | None = None
        level = [self.order[producer]]
        seen = {*level}
        while level:
            later: list[fx.Node] = []
            here: list[_Site] = []
            apart = False  # behind a depthwise convolution, which has its own normalisation
            while level:
                level.sort(key=order.__getitem__)
                node = level.pop(0)
                apart = apart or (node in self.order.values() and node != self.order[producer])
                if norm is None and node in self.norms and not apart:
                    norm = self.norms[node]
                site = self.sites.get(node)
                if site is not None and self._holds(site, classes):
                    here.append(site)
                for follower, addition in self.onward.get(node, []):
                    if follower not in seen:
                        seen.add(follower)
                        (later if addition else level).append(follower)
            most = max((site.positions for site in found), default=0)
            if found and max((site.positions for site in here), default=0) <= most:
                break
            found += here
            level = later
        return found, norm

    def _holds(self, site: _Site, classes: list[int]) -> bool:
        labels = site.value.labels
        return labels is not None and not {*classes}.isdisjoint(self.roots(labels).tolist())

    def _sizes(self, groups: list[ChannelGroup], axes: dict[Axis, Labels]) -> Sizes:
        repeats: dict[Axis, dict[int, int]] = {}
        for index, group in enumerate(groups):
            for member in group.members:
                of = repeats.setdefault((member.module, member.side), {})
                of[index] = member.positions.shape[1]

        def length(axis: Axis, full: int) -> Length:
            of = repeats.get(axis, {})
            removable = sum(groups[group].channels * repeat for group, repeat in of.items())
            return Length(full - removable, tuple(sorted(of.items())))

        terms = []
        for name, module in self.net.named_modules():
            for key, tensor in module.named_parameters(recurse=False):
                if not tensor.requires_grad:
                    continue
                full = tensor.shape
                outputs = (length((name, "outputs"), full[0]),) if full else ()
                inputs: tuple[Length, ...] = ()
                rest = math.prod(full[1:])
                grouped = isinstance(module, nn.Conv2d) and (
                    module.groups > 1 or _depthwise(module)
                )
                if key == "weight" and len(full) > 1 and not grouped:
                    inputs = (length((name, "inputs"), full[1]),)
                    rest = math.prod(full[2:])
                terms.append((rest, outputs + inputs))
        return Sizes(_merged(terms))


class _Shapes(fx.Interpreter):
    """Runs the operations on the meta device and keeps every result."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[fx.Node, Any] = {}
        self.current: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.current = n
        self.found[n] = super().run_node(n)
        return self.found[n]


_CUT = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.PReLU)


def _is(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is of exactly this class, and its weights are plain tensors.

    A parametrisation makes a subclass; the older weight and spectral normalisation add a hook.
    """
    hooks = module._forward_hooks or module._forward_pre_hooks
    plain = not hooks and not nn.utils.parametrize.is_parametrized(module)
    return plain and isinstance(module, kind) and type(module).forward is _kind_of(module).forward


def _kind_of(module: nn.Module) -> type[nn.Module]:
    """The class of torch that a module is of, itself or by inheritance."""
    return next((kind for kind in _CUT if isinstance(module, kind)), type(module))


def _depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and is_depthwise(module)


def _merged(
    terms: list[Term],
) -> tuple[Term, ...]:
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


def _arguments(
    node: fx.Node, names: tuple[str, ...], defaults: tuple[Any, ...], skip: bool = False
) -> tuple[Any, ...]:
    """Arguments of a call by position or name; with `skip` without the first one, the tensor."""
    given = [
        node.args[at] if at < len(node.args) else node.kwargs.get(name, default)
        for at, (name, default) in enumerate(zip(names, defaults, strict=True))
    ]
    return (*given[1:], None) if skip else tuple(given)


def _plain(found: object) -> bool:
    """Whether a result only describes a tensor, such as a size; None may be a change in place."""
    if isinstance(found, tuple | list):
        return all(_plain(one) for one in found)
    return found is not None and not isinstance(found, Tensor)


def _place(node: fx.Node | None) -> str:
    """The operation as a person knows it: the module, or the module that calls the function."""
    if node is None:
        return "its beginning"
    if node.op == "call_module":
        return f"module '{node.target}'"
    stack: Any = node.meta.get("nn_module_stack") or {}
    inside = [path for path in stack if path]
    name = getattr(node.target, "__name__", str(node.target))
    return f"{name} in module '{inside[-1]}'" if inside else f"{name} in the network"
