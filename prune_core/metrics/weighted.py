"""Weighted mutual information: information about the label, weighted by the consumer's weights.

Scaling a variable by w adds ln |w| to its entropy, h(wX) = h(X) + ln |w|. The abstract of Chen,
Liu and Wu 2020 scores a channel by the entropies that it passes to its consumers. This allows
several readings (R1 to R3). They are here, together with ablations that show which part of the
score matters.
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
# Weights below this fraction of the layer's median are raised to it, so that ln |0| is finite.
WEIGHT_FLOOR = 1e-3


def log_magnitudes(layer: LayerView, magnitudes: Tensor) -> Tensor:
    """Logarithms of weights or kernel norms, floored at 1e-3 of the layer's median weight.

    If most weights are 0, the median is that of the nonzero weights. If all are 0, it is 1.
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
    """Sum over a channel's weights of (value of the channel + ln |weight|), not clipped."""
    return logarithms.shape[1] * each + logarithms.sum(dim=1)


@metric(
    source=f"{PAPER} (reading R1)",
    needs=needs_label_histogram,
    summands=lambda layer: layer.weights_per_channel,
)
def weighted_mutual_information(
    layer: LayerView, *, bins: int = 20, estimator: Estimator = "average", edges: Edges = "equal"
) -> Tensor:
    """Sum of (mutual information + ln |weight|) over the weights that read the channel.

    Returns
    -------
    Tensor [C], nats. Summands are not clipped at 0: ln |weight| is about -4, so clipping would
    remove the weights from the score.
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
    """Sum of (mutual information + ln of the kernel norm) over the filters that read the channel.

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
    """`weighted_mutual_information` with the Gaussian entropy instead of the mutual information.

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
    Tensor [C], nats: `weighted_mutual_information` per weight, without the mutual information.
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
    """`weighted_mutual_information` with the mutual information permuted among the channels.

    Returns
    -------
    Tensor [C], nats. The permutation differs between layers and is set by the seed.
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

    The share of a weight is |weight| times the channel's standard deviation, divided by the root
    mean square of this product over the consumer's filter. A rescaling that does not change the
    network's function does not change the share.

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
    """Information about the label that reaches the consumers, with the other channels as noise.

    Sum over the consumer's filters of 0.5 ln((1 + s) / (1 + s (1 - eta^2))). Here s is the power
    of the channel in the filter's input divided by the power of all other channels, and eta^2 is
    the fraction of the channel's variance between classes. With q = s / (1 + s), the channel's
    fraction of the total power, each term is -0.5 ln(1 - q eta^2). This form also works if a
    filter reads only one channel, where s is infinite.

    Returns
    -------
    Tensor [C], nats, >= 0. A rescaling that does not change the network's function does not
    change it.
    """
    classes, variance = layer.answer(ClassMoments()), layer.variance
    between = (class_shares(classes) * (classes["mean"] - layer.mean[:, None]).square()).sum(dim=1)
    explained = torch.where(variance > 0, between / variance, 0.0).clamp(0, 1 - 1e-12)
    power = layer.kernels.square().sum(dim=2) * variance[:, None]
    total = power.sum(dim=0)
    part = torch.where(total > 0, power / total, 0.0).clamp(max=1)
    return -0.5 * torch.log1p(-part * explained[:, None]).sum(dim=1)
