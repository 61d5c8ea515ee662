"""Metrics that read only weights, and the random control."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from prune_core.layer import LayerView
from prune_core.metrics.registry import MetricError, metric
from prune_core.statistics import Request


@metric(source="control", nonnegative=True)
def random(layer: LayerView) -> Tensor:
    """Uniform noise in [0, 1), seeded: the control that every metric must beat."""
    return torch.rand(layer.channels, generator=layer.generator("random"), dtype=torch.float64)


@metric(
    source="Li et al. 2016, arXiv:1608.08710",
    nonnegative=True,
    summands=lambda layer: layer.inputs,
)
def input_l1(layer: LayerView) -> Tensor:
    """L1 norm of the filter that produces each channel.

    Returns
    -------
    Tensor [C], float64, >= 0. It changes if the filter is rescaled, although batch normalisation
    removes the scale.
    """
    return layer.weight.abs().sum(dim=(1, 2, 3))


@metric(
    source="Chen, Liu, Wu 2020, doi:10.1109/BigData50022.2020.9378489",
    nonnegative=True,
    summands=lambda layer: layer.weights_per_channel,
)
def output_l1(layer: LayerView) -> Tensor:
    """L1 norm of the weights that read each channel.

    Returns
    -------
    Tensor [C], float64, >= 0. It changes if a consumer's filter is rescaled, although batch
    normalisation removes the scale.
    """
    return layer.consumed.abs().sum(dim=1)


@metric(source="Liu et al. 2017, arXiv:1708.06519", nonnegative=True, reads_norm=True)
def bn_scale(layer: LayerView) -> Tensor:
    """Absolute value of the batch normalisation scale (gamma) of each channel.

    Returns
    -------
    Tensor [C], float64, >= 0. It changes if the scale is moved into the consumer's weights.
    """
    if layer.gamma is None:
        raise MetricError(f"metric 'bn_scale': no batch normalisation follows {layer.name}")
    return layer.gamma.abs()


@metric(
    source="He et al. 2019, arXiv:1811.00250",
    nonnegative=True,
    summands=lambda layer: layer.channels,
)
def fpgm(layer: LayerView) -> Tensor:
    """Sum of the L2 distances from a channel's filter to all filters of its layer.

    Returns
    -------
    Tensor [C], float64, >= 0. It is lowest near the geometric median, where other filters can
    replace the filter.
    """
    filters = layer.weight.flatten(1)
    # The faster computation by matrix products can give equal filters a nonzero distance.
    return torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=1)


# The default of `kse`; with alpha 0 no other value is allowed, so that one score has one key.
NEIGHBOURS = 5


def _check_kse(neighbours: int, alpha: float) -> frozenset[Request]:
    if neighbours < 1:
        raise MetricError(f"option 'neighbours' is {neighbours}; it must be 1 or more")
    if not 0 <= alpha < math.inf:
        raise MetricError(f"option 'alpha' is {alpha}; it must be 0 or more, and finite")
    if alpha == 0 and neighbours != NEIGHBOURS:
        raise MetricError(
            f"option 'neighbours' is {neighbours}; with alpha 0 it has no effect, so only its "
            f"default is allowed: {NEIGHBOURS}"
        )
    return frozenset()


@metric(source="Li et al. 2019 (CVPR), arXiv:1812.04368", needs=_check_kse, nonnegative=True)
def kse(layer: LayerView, *, neighbours: int = NEIGHBOURS, alpha: float = 1.0) -> Tensor:
    """Kernel sparsity and entropy of the consumer's 2-D kernels that read each channel.

    The score is sqrt(s / (1 + alpha e)), where s is the L1 norm of the channel's kernels. For e,
    the distances of each kernel to its nearest neighbours are summed, and e is the entropy of the
    kernels' shares in the total. Both are scaled to [0, 1] over the layer. Similar kernels have
    similar shares, so a high entropy means redundancy.

    Parameters
    ----------
    neighbours : number of nearest kernels in the sum of distances; at most all other kernels.
    alpha : weight of the entropy; with 0 the metric reads the L1 norm alone, and `neighbours` must
        be left out.

    Returns
    -------
    Tensor [C], float64, in [0, 1]. The paper scales the result to [0, 1] once more, which does not
    change the ranking within a layer. Of several consumers, the score is the mean.
    """
    indicators = [_indicator(kernels, neighbours, alpha) for kernels in layer.kernels]
    return torch.stack(indicators).mean(dim=0)


def _indicator(consumer: Tensor, neighbours: int, alpha: float) -> Tensor:
    """The indicator [C] from one consumer's kernels [C, J, k^2]."""
    distances = torch.stack([_nearest(kernels, neighbours) for kernels in consumer])
    total = distances.sum(dim=1, keepdim=True)
    # If all distances are 0, use equal shares, which are the limit.
    share = torch.where(total > 0, distances / total, 1 / consumer.shape[1])
    entropy = -torch.special.xlogy(share, share).sum(dim=1)
    sparsity = consumer.flatten(1).abs().sum(dim=1)
    return (_scaled(sparsity, 1.0) / (1 + alpha * _scaled(entropy, 0.0))).sqrt()


def _nearest(kernels: Tensor, neighbours: int) -> Tensor:
    """Summed distances of each kernel in [J, k^2] to its nearest others, [J], in any order."""
    count = min(neighbours, len(kernels) - 1)
    if kernels.shape[1] > 1:
        distances = torch.cdist(kernels, kernels, compute_mode="donot_use_mm_for_euclid_dist")
        # The kernel itself is among them, at distance 0.
        return distances.topk(count + 1, dim=1, largest=False).values.sum(dim=1)
    # In one dimension, the nearest kernels are neighbours in sorted order, on both sides.
    ordered = kernels[:, 0].sort().values
    edge = ordered.new_full((count,), torch.inf)
    windows = torch.cat([-edge, ordered, edge]).unfold(0, 2 * count + 1, 1)
    gaps = (windows - ordered[:, None]).abs()
    return gaps.topk(count + 1, dim=1, largest=False).values.sum(dim=1)


def _scaled(values: Tensor, constant: float) -> Tensor:
    """Scales values to [0, 1]; gives `constant` if they are all equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else torch.full_like(values, constant)
