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


@metric(source="He et al. 2018, arXiv:1808.06866", nonnegative=True)
def input_l2(layer: LayerView) -> Tensor:
    """L2 norm of the filter that produces each channel.

    Returns
    -------
    Tensor [C], float64, >= 0. It changes if the filter is rescaled, as `input_l1` does.
    """
    return torch.linalg.vector_norm(layer.weight.flatten(1), dim=1)


@metric(source="the L2 form of Chen, Liu, Wu 2020", nonnegative=True)
def output_l2(layer: LayerView) -> Tensor:
    """L2 norm of the weights that read each channel.

    Returns
    -------
    Tensor [C], float64, >= 0. It changes if a consumer's filter is rescaled, as `output_l1` does.
    """
    return torch.linalg.vector_norm(layer.consumed, dim=1)


@metric(source="Liu et al. 2017, arXiv:1708.06519", nonnegative=True, reads_norm=True)
def bn_scale(layer: LayerView) -> Tensor:
    """Absolute value of the batch normalisation scale (gamma) of each channel.

    Returns
    -------
    Tensor [C], float64, >= 0. It changes if the scale is moved into the consumer's weights.
    """
    gamma, _ = _norm("bn_scale", layer)
    return gamma.abs()


@metric(
    source="after Oh et al. 2021, arXiv:2112.01155; the mean of a rectified Gaussian as in Nagel "
    "et al. 2019, arXiv:1906.04721",
    nonnegative=True,
    reads_norm=True,
)
def relu_mean(layer: LayerView) -> Tensor:
    """Mean of each channel after a ReLU, from the scale and shift of its batch normalisation.

    Behind batch normalisation a channel has mean beta and standard deviation |gamma|. For a
    Gaussian Z with these, E max(0, Z) = beta Phi(beta / |gamma|) + |gamma| phi(beta / |gamma|),
    with the standard normal's distribution function Phi and density phi; max(0, beta) if gamma
    is 0. No image is read.

    Returns
    -------
    Tensor [C], float64, >= 0. It changes if the scale is moved into the consumer's weights. Where
    an addition stands between batch normalisation and ReLU, it is the mean of what is added, cut
    off at 0.
    """
    gamma, beta = _norm("relu_mean", layer)
    deviation = gamma.abs()
    distance = torch.where(deviation > 0, beta.abs() / deviation, 0.0)
    # By symmetry it is max(0, beta) plus the same mean for -|beta|, which `_tail` gives exactly.
    return beta.clamp(min=0) + deviation * _tail(distance)


def _tail(distance: Tensor) -> Tensor:
    """E max(0, Z - t) of a standard normal Z for distances t >= 0: phi(t) - t Phi(-t).

    The difference loses all its digits for large t. The scaled complementary error function keeps
    them: Phi(-t) = phi(t) sqrt(pi / 2) erfcx(t / sqrt(2)).
    """
    # The density is 0 from 39 on.
    t = distance.clamp(max=40)
    density = torch.exp(-0.5 * t.square()) / math.sqrt(2 * math.pi)
    return density * (1 - t * math.sqrt(math.pi / 2) * torch.special.erfcx(t / math.sqrt(2)))


def _norm(metric: str, layer: LayerView) -> tuple[Tensor, Tensor]:
    """Scale and shift of the batch normalisation, or an error that names the metric."""
    if layer.gamma is None or layer.beta is None:
        raise MetricError(f"metric '{metric}': no batch normalisation follows {layer.name}")
    return layer.gamma, layer.beta


@metric(
    source="He et al. 2019, arXiv:1811.00250",
    nonnegative=True,
    summands=lambda layer: sum(one.channels for one in layer.made_beside()),
)
def fpgm(layer: LayerView) -> Tensor:
    """Sum of the L2 distances from a channel's filter to all filters of its convolution.

    These are the filters of all channels that the convolution makes and that can be removed, also
    of those in other groups.

    Returns
    -------
    Tensor [C], float64, >= 0. It is lowest near the geometric median, where other filters can
    replace the filter.
    """
    every = torch.cat([one.weight.flatten(1) for one in layer.made_beside()])
    # The faster computation by matrix products can give equal filters a nonzero distance.
    exactly = "donot_use_mm_for_euclid_dist"
    return torch.cdist(layer.weight.flatten(1), every, compute_mode=exactly).sum(dim=1)


# The default of `kse`; with alpha 0 no other value is allowed, so that one score has one key.
NEIGHBOURS = 5

# Distances between kernels that exist at a time, at least those of one channel: 8 MiB.
DISTANCES_AT_A_TIME = 1 << 20


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
    kernels' shares in the total. Both are scaled to [0, 1] over all channels that the consumer
    reads and that can be removed, also those of other groups. Similar kernels have similar shares,
    so a high entropy means redundancy.

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
    indicators = [
        _indicator(layer, consumer, neighbours, alpha) for consumer in range(len(layer.kernels))
    ]
    return torch.stack(indicators).mean(dim=0)


def _indicator(layer: LayerView, consumer: int, neighbours: int, alpha: float) -> Tensor:
    """The indicator [C] of a layer's channels from one consumer, scaled over all that it reads."""
    of_view = {
        one.index: _sparsity_and_entropy(one.kernels[number], neighbours)
        for one, number in layer.read_beside(consumer)
    }
    sparsity, entropy = map(torch.cat, zip(*of_view.values(), strict=True))
    own, bends = of_view[layer.index]
    scaled = 1 + alpha * _scaled(bends, entropy, 0.0)
    return (_scaled(own, sparsity, 1.0) / scaled).sqrt()


def _sparsity_and_entropy(consumer: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """L1 norm and entropy [C] of one consumer's kernels [C, J, k^2]."""
    channels = max(1, DISTANCES_AT_A_TIME // _distances(consumer, neighbours))
    distances = torch.cat([_nearest(part, neighbours) for part in consumer.split(channels)])
    total = distances.sum(dim=1, keepdim=True)
    # If all distances are 0, use equal shares, which are the limit.
    share = torch.where(total > 0, distances / total, 1 / consumer.shape[1])
    entropy = -torch.special.xlogy(share, share).sum(dim=1)
    return consumer.flatten(1).abs().sum(dim=1), entropy


def _distances(consumer: Tensor, neighbours: int) -> int:
    """Distances that are compared for one channel of [C, J, k^2]."""
    kernels = consumer.shape[1]
    return kernels * (kernels if consumer.shape[2] > 1 else 2 * neighbours + 1)


def _nearest(kernels: Tensor, neighbours: int) -> Tensor:
    """Summed distances of each kernel in [C, J, k^2] to its channel's nearest others.

    Returns
    -------
    Tensor [C, J], the kernels of a channel in any order.
    """
    count = min(neighbours, kernels.shape[1] - 1)
    if kernels.shape[2] > 1:
        distances = torch.cdist(kernels, kernels, compute_mode="donot_use_mm_for_euclid_dist")
        # The kernel itself is among them, at distance 0.
        return distances.topk(count + 1, dim=2, largest=False).values.sum(dim=2)
    # In one dimension, the nearest kernels are neighbours in sorted order, on both sides.
    ordered = kernels[:, :, 0].sort(dim=1).values
    edge = ordered.new_full((len(ordered), count), torch.inf)
    windows = torch.cat([-edge, ordered, edge], dim=1).unfold(1, 2 * count + 1, 1)
    gaps = (windows - ordered[:, :, None]).abs()
    return gaps.topk(count + 1, dim=2, largest=False).values.sum(dim=2)


def _scaled(values: Tensor, every: Tensor, constant: float) -> Tensor:
    """Scales values by the range of `every`, to [0, 1]; gives `constant` if all are equal."""
    low, high = every.min(), every.max()
    return (values - low) / (high - low) if high > low else torch.full_like(values, constant)
