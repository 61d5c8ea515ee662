"""Weighted mutual information: information about the label, scaled by what reads it.

Scaling a variable by w adds ln |w| to its entropy, h(wX) = h(X) + ln |w|. The abstract of Chen,
Liu and Wu 2020 scores a channel by the entropies that it sends on; these are the readings that
fit it, and the ablations that tell which part of such a score does the work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prune_core.layer import LayerView
from prune_core.metrics.information import (
    Estimator,
    class_shares,
    entropy_gaussian,
    mutual_information,
    needs_label_histogram,
)
from prune_core.metrics.registry import metric
from prune_core.statistics import ClassMoments, Edges, Moments, Request

PAPER = "Chen, Liu, Wu 2020"
# Weights below this share of the layer's median are taken for it: an exact zero stays finite.
WEIGHT_FLOOR = 1e-3


def log_magnitudes(layer: LayerView, magnitudes: Tensor) -> Tensor:
    """Logarithms of weights or kernel norms, floored at 1e-3 of the layer's median weight.

    The median of the weights that are not 0 where most are, and 1 where all are.
    """
    weights = layer.consumed.abs()
    median = weights.median()
    if median == 0:
        median = weights[weights > 0].median() if bool(weights.any()) else torch.ones(())
    return magnitudes.clamp(min=WEIGHT_FLOOR * float(median)).log()


def log_weights(layer: LayerView) -> Tensor:
    """Logarithms of the absolute consumer weights, [C, J k^2]."""
    return log_magnitudes(layer, layer.consumed.abs())


def summed(each: Tensor, logarithms: Tensor) -> Tensor:
    """Sum over a channel's weights of (what the channel has + ln |weight|), never clipped."""
    return logarithms.shape[1] * each + logarithms.sum(dim=1)


@metric(
    source=f"{PAPER} (reading R1)",
    needs=needs_label_histogram,
    summands=lambda layer: layer.weights_per_channel,
)
def weighted_mutual_information(
    layer: LayerView, *, bins: int = 20, estimator: Estimator = "average", edges: Edges = "equal"
) -> Tensor:
    """Sum over the weights that read the channel of (mutual information + ln |weight|).

    Returns
    -------
    Tensor [C], nats. Summands are never clipped: ln |weight| is about -4 and would be erased.
    """
    known = mutual_information(layer, bins=bins, estimator=estimator, edges=edges)
    return summed(known, log_weights(layer))


@metric(
    source=f"{PAPER} (reading R2)",
    needs=needs_label_histogram,
    summands=lambda layer: layer.consumers,
)
def weighted_mutual_information_kernel(
    layer: LayerView, *, bins: int = 20, estimator: Estimator = "average", edges: Edges = "equal"
) -> Tensor:
    """Sum over the filters that read the channel of (mutual information + ln of the kernel's norm).

    Returns
    -------
    Tensor [C], nats.
    """
    known = mutual_information(layer, bins=bins, estimator=estimator, edges=edges)
    return summed(known, log_magnitudes(layer, torch.linalg.vector_norm(layer.kernels, dim=2)))


@metric(
    source=f"{PAPER} (reading R3)",
    needs=needs_label_histogram,
    nonnegative=True,
    summands=lambda layer: layer.weights_per_channel,
)
def weighted_mutual_information_product(
    layer: LayerView, *, bins: int = 20, estimator: Estimator = "average", edges: Edges = "equal"
) -> Tensor:
    """Mutual information times the L1 norm of the weights that read the channel.

    Returns
    -------
    Tensor [C], nats x weight, >= 0.
    """
    known = mutual_information(layer, bins=bins, estimator=estimator, edges=edges)
    return known * layer.consumed.abs().sum(dim=1)


@metric(
    source=f"ablation of {PAPER}: does the label matter",
    needs=frozenset({Moments()}),
    summands=lambda layer: layer.weights_per_channel,
)
def weighted_entropy(layer: LayerView) -> Tensor:
    """`weighted_mutual_information` with the Gaussian entropy in place of the information.

    Returns
    -------
    Tensor [C], nats.
    """
    return summed(entropy_gaussian(layer), log_weights(layer))


@metric(source=f"ablation of {PAPER}: does the activation matter")
def log_output_weight(layer: LayerView) -> Tensor:
    """Mean of ln |weight| over the weights that read the channel.

    Returns
    -------
    Tensor [C], nats: `weighted_mutual_information` without the information, per weight.
    """
    return log_weights(layer).mean(dim=1)


@metric(
    source=f"ablation of {PAPER}: does the information matter",
    needs=needs_label_histogram,
    summands=lambda layer: layer.weights_per_channel,
)
def weighted_mutual_information_shuffled(
    layer: LayerView, *, bins: int = 20, estimator: Estimator = "average", edges: Edges = "equal"
) -> Tensor:
    """`weighted_mutual_information` with the information dealt out anew among the channels.

    Returns
    -------
    Tensor [C], nats; the permutation is the layer's own and follows the seed.
    """
    known = mutual_information(layer, bins=bins, estimator=estimator, edges=edges)
    order = torch.randperm(layer.channels, generator=layer.generator("shuffle"))
    return summed(known[order], log_weights(layer))


def _needs_information_and_moments(
    bins: int, estimator: Estimator, edges: Edges
) -> frozenset[Request]:
    return needs_label_histogram(bins, estimator, edges) | {Moments()}


@metric(source="prune-sweep", needs=_needs_information_and_moments)
def wmi_gauge_free(
    layer: LayerView, *, bins: int = 20, estimator: Estimator = "average", edges: Edges = "equal"
) -> Tensor:
    """Mutual information plus the mean logarithm of each weight's share in its consumer's input.

    A share is |weight| x deviation of the channel, over the root mean square of that product in
    the consumer's filter: whatever rescaling leaves the network's function unchanged leaves it
    unchanged too.

    Returns
    -------
    Tensor [C], nats. A share is floored at 1e-3.
    """
    known = mutual_information(layer, bins=bins, estimator=estimator, edges=edges)
    power = layer.kernels.square() * layer.variance[:, None, None]
    mean = power.mean(dim=(0, 2))[:, None]
    share = torch.where(mean > 0, power / mean, 0.0).sqrt()
    return known + share.clamp(min=WEIGHT_FLOOR).log().mean(dim=(1, 2))


@metric(
    source="prune-sweep",
    needs=frozenset({Moments(), ClassMoments()}),
    nonnegative=True,
    summands=lambda layer: layer.consumers,
)
def wmi_snr(layer: LayerView) -> Tensor:
    """Information about the label that reaches each consumer, the other channels being noise.

    Sum over the consumer's filters of 0.5 ln((1 + s) / (1 + s (1 - eta^2))): s is the channel's
    power in the filter's input over that of all others, eta^2 the share of the channel's variance
    that lies between classes. With q = s / (1 + s), the channel's share of all power, each is
    -0.5 ln(1 - q eta^2), which divides by no zero where a filter reads one channel alone.

    Returns
    -------
    Tensor [C], nats, >= 0; unchanged by every rescaling that keeps the network's function.
    """
    classes, variance = layer.answer(ClassMoments()), layer.variance
    between = (class_shares(classes) * (classes["mean"] - layer.mean[:, None]).square()).sum(dim=1)
    explained = torch.where(variance > 0, between / variance, 0.0).clamp(0, 1 - 1e-12)
    power = layer.kernels.square().sum(dim=2) * variance[:, None]
    total = power.sum(dim=0)
    part = torch.where(total > 0, power / total, 0.0).clamp(max=1)
    return -0.5 * torch.log1p(-part * explained[:, None]).sum(dim=1)
