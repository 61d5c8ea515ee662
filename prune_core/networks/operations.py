"""What the operations of a network do with its channels.

Every channel of every convolution gets a label, and the labels follow the channels through the
network: an activation or pooling keeps them, an addition makes two labels one, a concatenation
appends them, a flattening repeats them.

An operation that is not known here may do anything with its channels, so the channels that reach it
are fixed: they are never removed, and the operation always sees all of them. The same holds for
the outputs of the network. So a wrong group cannot come from an unknown operation.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from prune_core.networks.cutting import is_depthwise
from prune_core.networks.errors import ArchitectureError
from prune_core.networks.groups import Side
from prune_core.networks.labels import Labelling, Labels
from prune_core.networks.layers import CUT, PaddedShortcut, layer_kind
from prune_core.networks.recording import Results, place

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

Axis = tuple[str, Side]


@dataclass
class Value:
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
class Site:
    """A tensor that convolutions or linear layers read."""

    value: Value
    consumers: list[str] = field(default_factory=list)

    @property
    def positions(self) -> int:
        """Number of positions of the map."""
        return math.prod(self.value.area)


class Walk:
    """One walk through the operations of a network, in the order of their execution.

    Parameters
    ----------
    results : of the operations, see `prune_core.networks.recording`.
    classes : the number of logits that the network must return; None for any number.

    Attributes
    ----------
    labels : of the channels; those of one class are one channel.
    axes : the labels along the axes of each module.
    pinned : labels of channels that are never removed, and why.
    joined : labels that an addition made those of other channels.
    producers : the convolutions that make channels, with their results.
    norms : the results of batch normalisations, with their names.
    sites : the tensors that convolutions and linear layers read.
    onward : where the channels of a tensor go on, and whether through an addition of others.
    called : how often each module is called.
    """

    def __init__(self, net: nn.Module, results: Results, classes: int | None = None) -> None:
        self.net = net
        self.classes = classes
        self.labels = Labelling()
        self.axes: dict[Axis, Labels] = {}
        self.pinned: dict[int, str] = {}
        self.joined: list[int] = []
        self.producers: dict[str, fx.Node] = {}
        self.norms: dict[fx.Node, str] = {}
        self.sites: dict[fx.Node, Site] = {}
        self.onward: dict[fx.Node, list[tuple[fx.Node, bool]]] = {}
        self.values: dict[fx.Node, Value] = {}
        self.called = Counter(str(node.target) for node in results if node.op == "call_module")
        for node, found in results.items():
            if node.op == "output":
                self._end(node)
            elif node.op == "placeholder" and not isinstance(found, Tensor):
                continue  # an argument's default, which may be None
            elif isinstance(found, Tensor):
                self.values[node] = self._value(node, tuple(found.shape))
            elif not _plain(found):
                # Several tensors, or a change in place.
                self._unknown(node, self._inputs(node))

    def _pin(self, value: Value, why: str) -> None:
        """Fixes the channels in a tensor: they are never removed."""
        if value.labels is not None:
            for label in value.labels.tolist():
                self.pinned.setdefault(label, why)

    def _inputs(self, node: fx.Node) -> list[Value]:
        return [self.values[one] for one in node.all_input_nodes if one in self.values]

    def _follows(self, node: fx.Node, source: fx.Node, addition: bool = False) -> None:
        """Notes that the channels of a tensor go on into the result of an operation."""
        self.onward.setdefault(source, []).append((node, addition))

    def _value(self, node: fx.Node, shape: tuple[int, ...]) -> Value:
        """What is known of the result of an operation."""
        inputs = self._inputs(node)
        if all(value.labels is None for value in inputs):
            # Nothing in it can be removed; only a convolution makes new channels.
            if node.op == "call_module" and (made := self._made(node, shape)) is not None:
                return made
            return Value(shape)
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

    def _made(self, node: fx.Node, shape: tuple[int, ...]) -> Value | None:
        """New channels of an ungrouped convolution or a linear layer."""
        name, module = str(node.target), self._get(node)
        if self.called[name] > 1:
            return None
        if _plain_layer(module) is nn.Linear and len(shape) == 2:
            # Its outputs are no group of their own, but as a gate they belong to one.
            self.axes[name, "outputs"] = self.labels.fresh(shape[1])
            return Value(shape, self.axes[name, "outputs"])
        if _plain_layer(module) is not nn.Conv2d or is_depthwise(module):
            return None
        assert isinstance(module, nn.Conv2d)
        if module.groups != 1:
            return None
        self.axes[name, "outputs"] = self.labels.fresh(module.out_channels)
        self.producers[name] = node
        return Value(shape, self.axes[name, "outputs"])

    def _module(self, node: fx.Node, inputs: list[Value], shape: tuple[int, ...]) -> Value:
        name, module = str(node.target), self._get(node)
        value, source = inputs[0], node.all_input_nodes[0]
        if len(inputs) != 1 or node.kwargs:
            return self._unknown(node, inputs, shape)
        if self.called[name] > 1 and (
            next(module.parameters(), None) is not None or next(module.buffers(), None) is not None
        ):
            # One set of tensors for several places: what they have in common is not worked out.
            return self._unknown(node, inputs, shape, "is used several times")
        if isinstance(module, CUT) and _plain_layer(module) is None:
            return self._unknown(node, inputs, shape, "changes its weights in its own way")
        if isinstance(module, nn.Conv2d) and module.groups == 1 and not is_depthwise(module):
            self._read(node, value)
            return self._made(node, shape) or Value(shape)
        if isinstance(module, nn.Linear) and len(value.shape) == 2:
            self._read(node, value)
            return self._made(node, shape) or Value(shape)
        assert value.labels is not None
        if isinstance(module, nn.Conv2d) and is_depthwise(module):
            labels = value.labels.repeat(module.out_channels // module.in_channels)
            self.axes[name, "inputs"], self.axes[name, "outputs"] = value.labels, labels
            self.producers[name] = node
            self._follows(node, source)
            return Value(shape, labels)
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
            labels = self.labels.fresh(len(copies))
            copied = copies >= 0
            self.labels.unite(labels[copied], value.labels[copies[copied]])
            self.axes[name, "inputs"], self.axes[name, "outputs"] = value.labels, labels
            self._follows(node, source)
            return Value(shape, labels)
        if isinstance(module, nn.Flatten):
            return self._reshaped(node, inputs, shape)
        if isinstance(module, _POINTWISE_MODULES):
            return self._kept(node, inputs, shape)
        if isinstance(module, nn.InstanceNorm2d) and not module.affine:
            return self._kept(node, inputs, shape)
        return self._unknown(node, inputs, shape)

    def _read(self, node: fx.Node, value: Value) -> None:
        """Notes that a layer reads a tensor."""
        source = node.all_input_nodes[0]
        assert value.labels is not None
        self.axes[str(node.target), "inputs"] = value.labels
        self.sites.setdefault(source, Site(value)).consumers.append(str(node.target))

    def _get(self, node: fx.Node) -> nn.Module:
        return self.net.get_submodule(str(node.target))

    # Operations.

    def _kept(self, node: fx.Node, inputs: list[Value], shape: tuple[int, ...]) -> Value:
        value = inputs[0]
        if len(inputs) != 1 or len(shape) < 2 or shape[1] != value.shape[1]:
            return self._unknown(node, inputs, shape)
        self._follows(node, node.all_input_nodes[0])
        return Value(shape, value.labels, value.pixels)

    def _joined(
        self, node: fx.Node, inputs: list[Value], shape: tuple[int, ...], sums: bool
    ) -> Value:
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
            return Value(shape, operands[0].labels, operands[0].pixels)
        if len(operands) != 2 or any(len(value.shape) != len(shape) for value in operands):
            return self._unknown(node, inputs, shape)
        for value in operands:
            if value.shape[1] != shape[1]:
                self._pin(value, f"{place(node)} spreads one channel over all")
        wide = [at for at, value in enumerate(operands) if value.shape[1] == shape[1]]
        if len(wide) == 1:
            # The other one has the same number for every channel.
            self._follows(node, sources[wide[0]])
            return Value(shape, operands[wide[0]].labels)
        one, two = operands
        if one.labels is None or two.labels is None:
            self._pin(one, f"{place(node)} joins them with fixed channels")
            self._pin(two, f"{place(node)} joins them with fixed channels")
            return Value(shape)
        joins = False
        if sums:
            apart = self.labels.roots(one.labels) != self.labels.roots(two.labels)
            self.joined.extend(one.labels[apart].tolist())
            # A sum of channels and what was pooled from them brings no other channels.
            joins = bool(apart.any())
        self.labels.unite(one.labels, two.labels)
        for source, value in zip(sources, operands, strict=True):
            # A gate has one number for the whole map: it scales channels and makes none.
            if sums or value.shape[2:] == shape[2:]:
                self._follows(node, source, addition=joins)
        return Value(shape, one.labels, one.pixels)

    def _concatenated(self, node: fx.Node, shape: tuple[int, ...]) -> Value:
        parts = _argument(node, 0, "tensors")
        axis = _argument(node, 1, "dim", node.kwargs.get("axis", 0))
        inputs = self._inputs(node)
        axis = axis + len(shape) if isinstance(axis, int) and axis < 0 else axis
        parts = parts if isinstance(parts, list | tuple) else ()
        values = [self.values[one] for one in parts if one in self.values]
        if axis != 1 or not values or len(values) != len(parts):
            return self._unknown(node, inputs, shape)
        labels = []
        for value in values:
            if value.labels is None:
                made = self.labels.fresh(value.shape[1])
                self._pin(Value(value.shape, made), f"{place(node)} appends fixed channels")
                labels.append(made)
            else:
                labels.append(value.labels)
        for part in parts:
            self._follows(node, part)
        return Value(shape, np.concatenate(labels))

    def _reduced(self, node: fx.Node, inputs: list[Value], shape: tuple[int, ...]) -> Value:
        value = inputs[0]
        dims = _argument(node, 1, "dim")
        dims = (dims,) if isinstance(dims, int) else dims
        if not isinstance(dims, Sequence) or not all(isinstance(one, int) for one in dims):
            return self._unknown(node, inputs, shape)
        if any(one % len(value.shape) < 2 for one in dims):
            return self._unknown(node, inputs, shape)
        self._follows(node, node.all_input_nodes[0])
        return Value(shape, value.labels)

    def _reshaped(self, node: fx.Node, inputs: list[Value], shape: tuple[int, ...]) -> Value:
        """Flattens channels and positions into one axis, or changes the positions alone."""
        value = inputs[0]
        before = value.shape
        assert value.labels is not None
        if len(inputs) > 1 or len(shape) < 2 or shape[0] != before[0]:
            return self._unknown(node, inputs, shape)
        if shape[1] == before[1]:
            self._follows(node, node.all_input_nodes[0])
            return Value(shape, value.labels, value.pixels)
        if len(shape) == 2 and shape[1] == math.prod(before[1:]):
            self._follows(node, node.all_input_nodes[0])
            repeats = math.prod(before[2:])
            return Value(shape, value.labels.repeat(repeats), value.area)
        return self._unknown(node, inputs, shape)

    def _sliced(self, node: fx.Node, inputs: list[Value], shape: tuple[int, ...]) -> Value:
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
            return Value(shape, value.labels)
        return self._unknown(node, inputs, shape)

    def _padded(self, node: fx.Node, inputs: list[Value], shape: tuple[int, ...]) -> Value:
        if shape[:2] == inputs[0].shape[:2]:
            return self._kept(node, inputs, shape)
        return self._unknown(node, inputs, shape)

    def _unknown(
        self,
        node: fx.Node,
        inputs: list[Value],
        shape: tuple[int, ...] = (),
        why: str = "is not among the operations that are known",
    ) -> Value:
        """Fixes all channels that reach an operation."""
        for value in inputs:
            self._pin(value, f"{place(node)} {why}")
        return Value(shape)

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
        self._pin(value, "they are outputs of the network")


def _plain_layer(module: nn.Module) -> type[nn.Module] | None:
    """Of `CUT` the class whose forward method a module runs, on tensors of its own; else None.

    A parametrisation computes the weights; the older weight and spectral normalisation do so in a
    hook.
    """
    changed = nn.utils.parametrize.is_parametrized(module)
    if changed or module._forward_hooks or module._forward_pre_hooks:
        return None
    return layer_kind(module)


def _argument(node: fx.Node, at: int, name: str, default: Any = None) -> Any:
    """An argument of a call by position or name."""
    return node.args[at] if at < len(node.args) else node.kwargs.get(name, default)


def _plain(found: object) -> bool:
    """Whether a result only describes a tensor, such as a size; None may be a change in place."""
    if isinstance(found, tuple | list):
        return all(_plain(one) for one in found)
    return found is not None and not isinstance(found, Tensor)
