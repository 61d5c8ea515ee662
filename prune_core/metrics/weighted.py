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
    BINS,
    EDGES,
    Estimator,
    Information,
    entropy_gaussian,
    label_information,
    needs_information,
)
from prune_core.metrics.registry import metric
from prune_core.statistics import Edges, Moments

PAPER = "Chen, Liu, Wu 2020"
# Weights below this fraction of the layer's median are raised to it, so that ln |0| is finite.
WEIGHT_FLOOR = 1e-3


def log_magnitudes(layer: LayerView, magnitudes: Tensor) -> Tensor:
    """Logarithms of weights or kernel norms, floored at 1e-3 of the layer's median weight.

    If most weights are 0, the median is that of the nonzero weights. If all are 0, it is 1.
    """
    return magnitudes.clamp(min=WEIGHT_FLOOR * layer.median_magnitude).log()


def log_weights(layer: LayerView) -> Tensor:
    """Logarithms of the absolute consumer weights, [C, J k^2]."""
    return log_magnitudes(layer, layer.magnitudes)


def summed(each: Tensor, logarithms: Tensor) -> Tensor:
    """Sum over a channel's weights of (value of the channel + ln |weight|), not clipped."""
    return logarithms.shape[1] * each + logarithms.sum(dim=1)


@metric(
    source=f"{PAPER} (reading R1)",
    needs=needs_information,
    summands=lambda layer: layer.weights_per_channel,
)
def weighted_mutual_information(
    layer: LayerView,
    *,
    information: Information = "histogram",
    estimator: Estimator = "average",
    bins: int = BINS,
    edges: Edges = EDGES,
) -> Tensor:
    """Sum of (mutual information + ln |weight|) over the weights that read the channel.

    Parameters
    ----------
    information : the estimate of the mutual information: `histogram` is the metric
        `mutual_information`, `gaussian` is `mutual_information_gaussian`. The other readings and
        `wmi_gauge_free` have the same options.
    estimator : the observations of the estimate, as in these metrics.
    bins, edges : as in `mutual_information`; `gaussian` has none.

    Returns
    -------
    Tensor [C], nats. Summands are not clipped at 0: ln |weight| is about -4, so clipping would
    remove the weights from the score.
    """
    known = label_information(layer, information, estimator, bins, edges)
    return summed(known, log_weights(layer))


@metric(
    source=f"{PAPER} (reading R2)",
    needs=needs_information,
    summands=lambda layer: layer.consumers,
)
def weighted_mutual_information_kernel(
    layer: LayerView,
    *,
    information: Information = "histogram",
    estimator: Estimator = "average",
    bins: int = BINS,
    edges: Edges = EDGES,
) -> Tensor:
    """Sum of (mutual information + ln of the kernel norm) over the filters that read the channel.

    Returns
    -------
    Tensor [C], nats.
    """
    known = label_information(layer, information, estimator, bins, edges)
    return summed(known, log_magnitudes(layer, _norms(layer)))


def _norms(layer: LayerView) -> Tensor:
    """The norm of each kernel that reads the channel, [C, J]."""
    norms = [torch.linalg.vector_norm(kernels, dim=2) for kernels in layer.kernels]
    return torch.cat(norms, dim=1)


@metric(
    source=f"{PAPER} (reading R3)",
    needs=needs_information,
    nonnegative=True,
    summands=lambda layer: layer.weights_per_channel,
)
def weighted_mutual_information_product(
    layer: LayerView,
    *,
    information: Information = "histogram",
    estimator: Estimator = "average",
    bins: int = BINS,
    edges: Edges = EDGES,
) -> Tensor:
    """Mutual information times the L1 norm of the weights that read the channel.

    Returns
    -------
    Tensor [C], nats x weight, >= 0.
    """
    known = label_information(layer, information, estimator, bins, edges)
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
    needs=needs_information,
    summands=lambda layer: layer.weights_per_channel,
)
def weighted_mutual_information_shuffled(
    layer: LayerView,
    *,
    information: Information = "histogram",
    estimator: Estimator = "average",
    bins: int = BINS,
    edges: Edges = EDGES,
) -> Tensor:
    """`weighted_mutual_information` with the mutual information permuted among the channels.

    Returns
    -------
    Tensor [C], nats. The permutation differs between layers and is set by the seed.
    """
    known = label_information(layer, information, estimator, bins, edges)
    order = torch.randperm(layer.channels, generator=layer.generator("shuffle"))
    return summed(known[order], log_weights(layer))
