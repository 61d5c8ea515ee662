"""Records the operations of a network with torch.fx, and the shapes of their results."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from prune_core.networks.errors import ArchitectureError
from prune_core.networks.layers import INPUT_CHANNELS, PaddedShortcut, layer_kind

ALLOWED = (
    "convolutions (ungrouped or depthwise), batch normalisation, activations, pooling, dropout, "
    "additions, products, concatenations, flattening and linear layers"
)


IMAGES = 2
"""Images that a network is recorded for."""

Results = dict[fx.Node, Any]
"""What each operation gave, in the order of execution."""


@dataclass(frozen=True)
class Recording:
    """The operations of a forward pass.

    Attributes
    ----------
    results : of the operations, for `IMAGES` images. Only the shapes of tensors can be relied on.
    macs : multiply-accumulates of convolutions and matrix products for one image.
    """

    results: Results
    macs: int


def record(net: nn.Module, image_size: tuple[int, int]) -> Recording:
    """Records the operations of a forward pass in eval mode.

    Raises
    ------
    ArchitectureError
        If the network cannot be traced, or cannot run for these images.
    """
    _check_norms(net)
    _check_apart(net)
    tracer = _Tracer()
    there = copy.deepcopy(net).to("meta").eval()
    try:
        graph = tracer.trace(there, _defaults(net))
    except Exception as error:
        where = f"module '{tracer.failed}'" if tracer.failed else "its forward method"
        raise ArchitectureError(
            f"the network cannot be traced: {where} has control flow that depends on the "
            f"images, or an operation that torch.fx cannot record ({error}); allowed are "
            f"{ALLOWED}"
        ) from error
    return _run(net, graph, there, image_size)


def place(node: fx.Node | None) -> str:
    """The operation as a person knows it: the module, or the module that calls the function."""
    if node is None:
        return "its beginning"
    if node.op == "call_module":
        return f"module '{node.target}'"
    stack: Any = node.meta.get("nn_module_stack") or {}
    inside = [path for path in stack if path]
    name = getattr(node.target, "__name__", str(node.target))
    return f"{name} in module '{inside[-1]}'" if inside else f"{name} in the network"


class _Tracer(fx.Tracer):
    """Traces into all modules but those of torch and those with rules of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            isinstance(m, PaddedShortcut)
            or layer_kind(m) is not None
            or super().is_leaf_module(m, module_qualified_name)
        )

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            # The innermost module is where it failed.
            self.failed = self.failed or self.path_of_module(m)
            raise


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

    def counted(self, images: Tensor) -> int:
        """Runs all operations; the multiply-accumulates for one image."""
        with FlopCounterMode(display=False) as counter:
            self.run(images)
        # The counter sees a multiply-accumulate as two operations.
        return counter.get_total_flops() // (2 * IMAGES)


def _run(
    net: nn.Module, graph: fx.Graph, there: nn.Module, image_size: tuple[int, int]
) -> Recording:
    """Runs the operations, on the meta device if the network can."""
    shape = (IMAGES, INPUT_CHANNELS, *image_size)
    with torch.no_grad():
        try:
            shapes = _Shapes(fx.GraphModule(there, graph).to("meta"))
            macs = shapes.counted(torch.empty(shape, device="meta"))
        except Exception:
            # A forward method may make tensors of its own, which are not on the meta device.
            real = copy.deepcopy(net).eval()
            for name, constant in vars(there).items():
                if isinstance(constant, Tensor):
                    setattr(real, name, constant)  # tensors that the trace found
            shapes = _Shapes(fx.GraphModule(real, graph))
            example = next(net.parameters())
            try:
                images = torch.zeros(shape, dtype=example.dtype, device=example.device)
                macs = shapes.counted(images)
            except Exception as error:
                raise ArchitectureError(
                    f"the network fails for images of {image_size[0]} x {image_size[1]} pixels "
                    f"at {place(shapes.current)}: {str(error).splitlines()[0]}"
                ) from error
    return Recording(shapes.found, macs)


def _check_norms(net: nn.Module) -> None:
    """Refuses batch normalisation that reads other images of the batch in eval mode."""
    for name, module in net.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ArchitectureError(
                f"module '{name}' has no running statistics, so the logits of an image depend "
                "on the other images of its batch; set track_running_stats=True"
            )


def _check_apart(net: nn.Module) -> None:
    """Refuses one tensor in two modules: each would be cut in its own way."""
    names: dict[int, str] = {}
    for name, tensor in net.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(tensor), name)
        # One module under two names is one place; the operations show how often it is used.
        one, two = first.rpartition(".")[0], name.rpartition(".")[0]
        if net.get_submodule(one) is not net.get_submodule(two):
            raise ArchitectureError(f"{first} and {name} are one tensor; untie them to prune")


def _defaults(net: nn.Module) -> dict[str, Any]:
    """The defaults of the arguments of `forward` beside the images."""
    given = [*inspect.signature(net.forward).parameters.values()]
    rest = [one for one in given[1:] if one.kind is one.POSITIONAL_OR_KEYWORD]
    if not given or any(one.default is one.empty for one in rest):
        raise ArchitectureError(
            f"forward of the network takes {len(given)} arguments; it must take one, the "
            "images, and all others must have defaults"
        )
    return {one.name: one.default for one in rest}
