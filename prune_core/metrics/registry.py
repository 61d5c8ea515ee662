"""The registry of metrics: a metric is a function of one layer with the decorator `@metric`.

The keyword-only parameters of the function are the options of the metric. A spec is checked against
their defaults and annotations.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from prune_core.layer import LayerView
from prune_core.registering import Provider, check_new, provider
from prune_core.statistics import NetworkRequest, Request

Needs = Callable[..., frozenset[Request]]
Count = Callable[[LayerView], int]

# An option of every metric that reads statistics. `Choice` handles it, not the metric.
IMAGES = "images"


class MetricError(ValueError):
    """A metric or option is unknown, or scores are invalid."""


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes
    ----------
    name : its name in a spec.
    function : computes scores [C], higher = keep, from a LayerView and options.
    needs : returns the statistics that it reads, from its options.
    source : the paper.
    version : raised when its numbers change; part of a cell's key.
    nonnegative : whether its scores are never negative.
    summands : for a metric that is a sum, returns the number of summands of a channel's score.
    images : default number of training images for its statistics; None for all.
    reads_norm : whether it reads the batch normalisation behind each convolution.
    of_group : whether it scores a channel group as a whole: it gets the views of all producers of
        the group, and the scores of several producers need not be combined.
    provider : the plug-in or package that it comes from; None for this package.
    """

    name: str
    function: Callable[..., Tensor]
    needs: Needs
    source: str
    version: int
    nonnegative: bool
    summands: Count | None
    images: int | None
    reads_norm: bool = False
    of_group: bool = False
    provider: Provider | None = field(default_factory=provider, kw_only=True)

    @property
    def summary(self) -> str:
        """The first paragraph of its docstring."""
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
        """The annotated type of each option."""
        hints = typing.get_type_hints(self.function)
        return {name: hints[name] for name in self.options}

    @property
    def reads_images(self) -> bool:
        """Whether the metric reads statistics of images."""
        defaults = {name: parameter.default for name, parameter in self.options.items()}
        return any(not isinstance(one, NetworkRequest) for one in self.needs(**defaults))


METRICS: dict[str, Metric] = {}


def metric(
    source: str,
    needs: Needs | frozenset[Request] = frozenset(),
    version: int = 1,
    nonnegative: bool = False,
    summands: Count | None = None,
    images: int | None = None,
    reads_norm: bool = False,
    of_group: bool = False,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Registers a function of a LayerView as a metric under the function's name.

    With `of_group` it is a function of the LayerViews of all producers of a channel group.

    Parameters
    ----------
    source : the paper that defines it.
    needs : the statistics that it reads, or a function that returns them for its options.
    version : raise it when the metric's numbers change.
    nonnegative, summands : see `Metric`; `layer_mean` and `per_weight` need them.
    images : the default of its option `images`; None for all.
    reads_norm, of_group : see `Metric`.
    """

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = function.__name__
        check_new(name, METRICS, "metric", MetricError)
        demand = needs if callable(needs) else lambda **_: needs
        found = Metric(
            name,
            function,
            demand,
            source,
            version,
            nonnegative,
            summands,
            images,
            reads_norm,
            of_group,
        )
        if IMAGES in found.options:
            raise MetricError(f"metric '{name}': the option name '{IMAGES}' is reserved")
        METRICS[name] = found
        return function

    return register
