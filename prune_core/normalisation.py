"""Normalisations make the scores of different layers comparable for a global ranking.

Each normalisation applies an increasing function to the scores of a layer. So none of them changes
the ranking within a layer, and with local budgets they all give the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prune_core.layer import Combine, LayerView, combined
from prune_core.metrics import METRICS, Choice, Metric, MetricError
from prune_core.metrics.choice import checked_scores
from prune_core.registering import Provider, check_new, explaining, provider
from prune_core.spelling import allowed

NORMALISATION_VERSION = 1
"""Of the normalisations of this file together: raised when their numbers change."""

Apply = Callable[[Metric, Tensor, LayerView], Tensor]


@dataclass(frozen=True)
class Normalisation:
    """A way to make the scores of layers comparable.

    Attributes
    ----------
    apply : computes normalised scores [C] from a metric, a layer's scores [C] and the layer.
    of_producer : whether it applies to the scores of each producer of a group, before they become
        one score; otherwise it applies to that one score.
    fits : returns whether it can be applied to a metric.
    demand : the requirement on the metric, as it appears in the error message.
    version : raised when the numbers of this normalisation change; part of a cell's key.
    provider : the plug-in or package that it comes from; None for this package.
    """

    apply: Apply
    fits: Callable[[Metric], bool]
    demand: str
    of_producer: bool = False
    version: int = 1
    provider: Provider | None = field(default_factory=provider, kw_only=True)

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (self.apply.__doc__ or "").split("\n")[0]

    def accepts(self, metric: Metric) -> bool:
        """Whether it fits a metric.

        Raises
        ------
        MetricError
            If `fits` of a plug-in raises.
        """
        what = f"normalisation '{self.apply.__name__}'"
        with explaining(what, self.provider, MetricError):
            return self.fits(metric)


NORMALISATIONS: dict[str, Normalisation] = {}
"""Every normalisation by its name."""


def normalisation(
    fits: Callable[[Metric], bool] = lambda metric: True,
    demand: str = "",
    of_producer: bool = False,
    version: int = 1,
) -> Callable[[Apply], Apply]:
    """Registers a function (metric, scores [C], layer) -> scores [C] under the function's name.

    It must be increasing in the scores, so that it keeps the ranking within a layer.

    Parameters
    ----------
    fits, demand, of_producer, version : see `Normalisation`.

    Raises
    ------
    MetricError
        If there is a normalisation of that name.
    """

    def register(apply: Apply) -> Apply:
        name = apply.__name__
        check_new(name, NORMALISATIONS, "normalisation", MetricError)
        NORMALISATIONS[name] = Normalisation(apply, fits, demand, of_producer, version)
        return apply

    return register


@normalisation()
def none(metric: Metric, scores: Tensor, layer: LayerView) -> Tensor:
    """The scores without change."""
    return scores


@normalisation(
    lambda metric: metric.summands is not None, "a sum over weights or filters", of_producer=True
)
def per_weight(metric: Metric, scores: Tensor, layer: LayerView) -> Tensor:
    """A sum divided by its number of summands, so that a wide consumer does not raise the score."""
    assert metric.summands is not None
    return scores / metric.summands(layer)


@normalisation(
    lambda metric: metric.nonnegative,
    "never negative, because a negative mean would reverse the ranking",
)
def layer_mean(metric: Metric, scores: Tensor, layer: LayerView) -> Tensor:
    """The scores divided by the layer's mean (Salama et al. 2019, arXiv:1912.00200)."""
    _check_not_negative(metric, scores, layer)
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


def _check_not_negative(metric: Metric, scores: Tensor, layer: LayerView) -> None:
    if bool((scores < 0).any()):
        raise MetricError(
            f"metric '{metric.name}' is registered as never negative, but layer {layer.index} has "
            f"a score of {float(scores.min())}"
        )


@normalisation()
def layer_zscore(metric: Metric, scores: Tensor, layer: LayerView) -> Tensor:
    """The scores minus the layer's mean, divided by the layer's standard deviation."""
    # Compare the scores, because rounding can give equal scores a nonzero deviation.
    if scores.min() == scores.max():
        return torch.zeros_like(scores)
    return (scores - scores.mean()) / scores.std(correction=0)


@normalisation(
    lambda metric: metric.nonnegative,
    "never negative, because squares would reverse the ranking of negative scores",
)
def lamp(metric: Metric, scores: Tensor, layer: LayerView) -> Tensor:
    """The share of a squared score in those of all channels of the layer that are no worse.

    Lee et al. 2021, arXiv:2010.07611. The single best channel of a layer gets 1. Equal scores get
    equal values, so m best channels that are equal get 1 / m each. Where all scores are 0, so are
    all values.
    """
    _check_not_negative(metric, scores, layer)
    values, place, count = scores.unique(return_inverse=True, return_counts=True)
    # So that squares do not overflow; a power of two changes no digit.
    _, exponent = math.frexp(float(values[-1]))
    squares = (values * math.ldexp(1.0, min(-exponent, 1023))).square()
    no_worse = (count * squares).flip(0).cumsum(dim=0).flip(0)
    return _increasing(torch.where(no_worse > 0, squares / no_worse, 0.0))[place]


def _increasing(values: Tensor) -> Tensor:
    """Raises values that rounding made equal to the one before, by the last digit."""
    steps = torch.arange(len(values))
    # The bits of numbers that are not negative, read as integers, have the order of the numbers.
    bits = values.view(torch.int64) - steps
    return (bits.cummax(dim=0).values + steps).view(torch.float64)


def check_normalisation(name: str, choice: Choice) -> None:
    """Refuses a normalisation that is unknown or does not fit a metric.

    Raises
    ------
    MetricError
        Naming both, and what is allowed.
    """
    if name not in NORMALISATIONS:
        raise MetricError(f"normalisation '{name}' is unknown; {allowed(name, NORMALISATIONS)}")
    if not NORMALISATIONS[name].accepts(choice.metric):
        fitting = [each for each, kind in NORMALISATIONS.items() if kind.accepts(choice.metric)]
        metrics = [each for each, kind in METRICS.items() if NORMALISATIONS[name].accepts(kind)]
        raise MetricError(
            f"normalisation '{name}' needs a metric that is {NORMALISATIONS[name].demand}; "
            f"'{choice.name}' is not; allowed for it: {', '.join(fitting)}; "
            f"metrics that fit '{name}': {', '.join(sorted(metrics))}"
        )


def normalise(
    name: str,
    choice: Choice,
    scores: Sequence[Tensor],
    layers: Sequence[LayerView],
    combine: Combine = "mean",
) -> list[Tensor]:
    """The scores of every channel group, normalised.

    Parameters
    ----------
    name : of a registered normalisation.
    scores : the scores of `choice` for `layers`, one tensor [C] per layer.
    combine : how the scores of several producers of a group become one.

    Raises
    ------
    MetricError
        See `check_normalisation`; also if a normalised score is NaN or infinite.
    """
    check_normalisation(name, choice)
    normalisation = NORMALISATIONS[name]

    def applied(scores: Sequence[Tensor], layers: Sequence[LayerView]) -> list[Tensor]:
        return [
            checked_scores(
                f"normalisation '{name}'",
                normalisation.apply(choice.metric, values.double(), layer),
                layer,
                len(values),
            )
            for values, layer in zip(scores, layers, strict=True)
        ]

    if normalisation.of_producer:
        return combined(applied(scores, layers), layers, combine)
    firsts = list({layer.group: layer for layer in reversed(layers)}.values())[::-1]
    return applied(combined(scores, layers, combine), firsts)
