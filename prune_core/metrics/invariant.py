"""Weighted mutual information that no function-preserving rescaling of the weights changes.

A consumer reads a channel through its weights, so both metrics measure a weight by the power that
it passes on: the variance of the channel over images and positions times the square of the weight.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor

from prune_core.layer import LayerView
from prune_core.metrics.information import (
    BINS,
    EDGES,
    Estimator,
    Information,
    check_no_histogram,
    correlation_ratio,
    label_information,
    needs_information,
    needs_label_moments,
)
from prune_core.metrics.registry import metric
from prune_core.metrics.weighted import WEIGHT_FLOOR
from prune_core.statistics import Edges, Moments, Request

# How `wmi_snr` finds the fraction of a channel's variance that the label explains.
Explained = Literal["correlation_ratio", "histogram", "gaussian"]

# Keeps the logarithm finite for a channel that is constant within each class and is read alone.
MOST_EXPLAINED = 1 - 1e-12


def _needs_information_and_power(
    information: Information, estimator: Estimator, bins: int, edges: Edges
) -> frozenset[Request]:
    return needs_information(information, estimator, bins, edges) | {Moments()}


@metric(source="prune-sweep", needs=_needs_information_and_power)
def wmi_gauge_free(
    layer: LayerView,
    *,
    information: Information = "histogram",
    estimator: Estimator = "average",
    bins: int = BINS,
    edges: Edges = EDGES,
) -> Tensor:
    """Mutual information plus the mean logarithm of each weight's share in its consumer's input.

    The share of a weight is |weight| times the channel's standard deviation, divided by the root
    mean square of this product over the consumer's filter. A rescaling that does not change the
    network's function does not change the share. The standard deviation is over images and
    positions for every `estimator`, because a consumer reads positions. The filter's weights are
    those of all channels that can be removed, also of those in other groups.

    Parameters
    ----------
    information, estimator, bins, edges : as in `weighted_mutual_information`.

    Returns
    -------
    Tensor [C], nats. A share is floored at 1e-3.
    """
    known = label_information(layer, information, estimator, bins, edges)
    shares = [_shares(layer, consumer) for consumer in range(len(layer.kernels))]
    return known + torch.cat(shares, dim=1).clamp(min=WEIGHT_FLOOR).log().mean(dim=1)


def _shares(layer: LayerView, consumer: int) -> Tensor:
    """The share of each of a consumer's weights in the input of its filter, [C, J k^2]."""
    every = [_power(*read) for read in layer.read_beside(consumer)]
    weights = sum(one[:, 0].numel() for one in every)
    mean = (_added([one.sum(dim=(0, 2)) for one in every]) / weights)[:, None]
    power = _power(layer, consumer)
    return torch.where(mean > 0, power / mean, 0.0).sqrt().flatten(1)


def _power(layer: LayerView, consumer: int) -> Tensor:
    """The power that passes through each weight of a consumer, [C, J, k^2]."""
    return layer.kernels[consumer].square() * layer.variance[:, None, None]


def _added(parts: list[Tensor]) -> Tensor:
    return functools.reduce(torch.add, parts)


def explained_variance(
    layer: LayerView, information: Explained, estimator: Estimator, bins: int, edges: Edges
) -> Tensor:
    """eta^2, the fraction of a channel's variance that the label explains, [C], in [0, 1).

    `correlation_ratio` is Var(E[X given Y]) / Var(X). An estimate of the mutual information I
    gives eta^2 = 1 - exp(-2 I), the square of the informational correlation (Linfoot 1957,
    doi:10.1016/S0019-9958(57)90116-X). For a channel that is Gaussian with the same variance in
    each class, I by `gaussian` gives the correlation ratio, as long as I is not clipped at H(Y).
    """
    if information == "correlation_ratio":
        explained = correlation_ratio(layer, estimator)
    else:
        explained = -torch.expm1(-2 * label_information(layer, information, estimator, bins, edges))
    return explained.clamp(0, MOST_EXPLAINED)


def _needs_explained_variance(
    information: Explained, estimator: Estimator, bins: int, edges: Edges
) -> frozenset[Request]:
    if information != "correlation_ratio":
        return _needs_information_and_power(information, estimator, bins, edges)
    check_no_histogram(information, bins, edges)
    return needs_label_moments(estimator) | {Moments()}


@metric(
    source="prune-sweep",
    needs=_needs_explained_variance,
    nonnegative=True,
    summands=lambda layer: layer.consumers,
)
def wmi_snr(
    layer: LayerView,
    *,
    information: Explained = "correlation_ratio",
    estimator: Estimator = "pixel",
    bins: int = BINS,
    edges: Edges = EDGES,
) -> Tensor:
    """Information about the label that reaches the consumers, with the other channels as noise.

    Sum over the consumer's filters of 0.5 ln((1 + s) / (1 + s (1 - eta^2))). Here s is the power
    of the channel in the filter's input divided by the power of all other channels, and eta^2 is
    the fraction of the channel's variance that the label explains. With q = s / (1 + s), the
    channel's fraction of the total power, each term is -0.5 ln(1 - q eta^2). This form also works
    if a filter reads only one channel, where s is infinite. The other channels are all that the
    filter reads, also those of other groups; channels that cannot be removed have no statistics and
    do not count.

    Parameters
    ----------
    information : where eta^2 comes from; see `explained_variance`. The default is the variance
        between classes.
    estimator : with `pixel`, eta^2 is that of positions; with `average`, that of each image's
        average over positions. The power is that of positions for both, because a consumer reads
        positions.
    bins, edges : of `histogram`, as in `mutual_information`.

    Returns
    -------
    Tensor [C], nats, >= 0. A rescaling that does not change the network's function does not
    change it. With eta^2 from I, a term is at most I, which it reaches if a filter reads only this
    channel. With `correlation_ratio` eta^2 is capped at 1 - 1e-12, a term of 13.8 nats.
    """
    explained = explained_variance(layer, information, estimator, bins, edges)
    parts = [_part(layer, consumer) for consumer in range(len(layer.kernels))]
    return -0.5 * torch.log1p(-torch.cat(parts, dim=1) * explained[:, None]).sum(dim=1)


def _part(layer: LayerView, consumer: int) -> Tensor:
    """Each channel's fraction of the power in the input of each of a consumer's filters, [C, J]."""
    total = _added([_received(*read).sum(dim=0) for read in layer.read_beside(consumer)])
    power = _received(layer, consumer)
    return torch.where(total > 0, power / total, 0.0).clamp(max=1)


def _received(layer: LayerView, consumer: int) -> Tensor:
    """The power of each channel in the input of each of a consumer's filters, [C, J]."""
    return layer.kernels[consumer].square().sum(dim=2) * layer.variance[:, None]
