"""The registry of metrics: a metric is a function of one layer with the decorator `@metric`.

The keyword-only parameters of the function are the options of the metric. A spec is checked against
their defaults and annotations.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from prune_core.layer import LayerView
from prune_core.options import Option, option_defaults, options_of
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
        """Its options by name, without `images`, with evaluated annotations.

        Raises
        ------
        MetricError
            See `prune_core.options.options_of`.
        """
        return options_of(self.function, f"metric '{self.name}'", MetricError)

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults of its options; an option without a default is left out."""
        return option_defaults(self.function)

    @property
    def reads_images(self) -> bool:
        """Whether the metric reads statistics of images."""
        return any(not isinstance(one, NetworkRequest) for one in self.requests(self.defaults))

    def requests(self, options: Mapping[str, Option]) -> frozenset[Request]:
        """The statistics that it reads with these options.

        Raises
        ------
        MetricError
            If `needs` raises, or returns no set.
        """
        try:
            return frozenset(self.needs(**options))
        except MetricError:
            raise
        except Exception as error:
            raise MetricError(
                f"its `needs` failed: {type(error).__name__}: {error}; it must be a set of "
                "statistics, or a function that returns one for the options of the metric, "
                f"{', '.join(options) or 'none'}"
            ) from error


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

    Raises
    ------
    MetricError
        If there is a metric of that name, an option has no annotation that a spec can be checked
        against, or `needs` fails with the defaults of the options.
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
        if callable(needs) and (undefined := found.options.keys() - found.defaults.keys()):
            raise MetricError(
                f"metric '{name}', option '{min(undefined)}' needs a default, because `needs` is a "
                "function of the options"
            )
        try:
            found.requests(found.defaults)
        except MetricError as error:
            raise MetricError(f"metric '{name}': {error}") from error
        METRICS[name] = found
        return function

    return register
