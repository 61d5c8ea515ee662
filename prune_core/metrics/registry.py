"""The registry: a metric is a function of one layer, and registering it is all there is to do.

Its keyword-only parameters are its options; their defaults and annotations are what a spec is
checked against, so the function's signature is the only place where they are written.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from prune_core.layer import LayerView
from prune_core.statistics import Request

Needs = Callable[..., frozenset[Request]]
Count = Callable[[LayerView], int]

# An option of every metric that reads statistics, handled by `Choice` and by no metric itself.
IMAGES = "images"


class MetricError(ValueError):
    """An unknown metric or option, or scores that are no scores."""


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes
    ----------
    name : what a spec calls it.
    function : from a LayerView and options to scores [C], higher = keep.
    needs : from options to the statistics it reads.
    source : the paper.
    version : raised when its numbers change; part of a cell's key.
    nonnegative : whether no score is ever below 0.
    summands : for a metric that is a sum, how many summands a channel's score has.
    images : how many training images its statistics are taken from unless a spec says otherwise;
        None for all.
    """

    name: str
    function: Callable[..., Tensor]
    needs: Needs
    source: str
    version: int
    nonnegative: bool
    summands: Count | None
    images: int | None

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        return (inspect.getdoc(self.function) or "").split("\n\n")[0].replace("\n", " ")

    @cached_property
    def options(self) -> dict[str, inspect.Parameter]:
        """Its options by name, without `images`."""
        return {
            name: parameter
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    @property
    def option_types(self) -> dict[str, object]:
        """The type that each option's annotation asks for."""
        hints = typing.get_type_hints(self.function)
        return {name: hints[name] for name in self.options}

    @property
    def reads_images(self) -> bool:
        """Whether it reads statistics, whatever its options."""
        defaults = {name: parameter.default for name, parameter in self.options.items()}
        return bool(self.needs(**defaults))


METRICS: dict[str, Metric] = {}


def metric(
    source: str,
    needs: Needs | frozenset[Request] = frozenset(),
    version: int = 1,
    nonnegative: bool = False,
    summands: Count | None = None,
    images: int | None = None,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Registers a function of a LayerView as a metric under its own name.

    Parameters
    ----------
    source : the paper that defines it.
    needs : the statistics it reads, or a function from its options to them.
    version : raise it when the metric's numbers change.
    nonnegative, summands : what the normalisations `layer_mean` and `per_weight` must know.
    images : the default of its option `images`; None for all.
    """

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = function.__name__
        if name in METRICS:
            raise MetricError(f"metric '{name}' is already registered")
        demand = needs if callable(needs) else lambda **_: needs
        found = Metric(name, function, demand, source, version, nonnegative, summands, images)
        if IMAGES in found.options:
            raise MetricError(f"metric '{name}': the option '{IMAGES}' is every metric's already")
        METRICS[name] = found
        return function

    return register
