"""Metrics of what the feature maps of a layer have in common, and of their shape."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prune_core.layer import LayerView
from prune_core.metrics.order import scores_of
from prune_core.metrics.registry import metric
from prune_core.statistics import Covariance, NuclearChange, PositionEntropy, Request, SoftmaxOf


@metric(
    source="pairs of the largest correlation as in Singh et al. 2020, arXiv:1811.10559, of "
    "feature maps as in Kumar et al. 2022, doi:10.1007/s13042-022-01624-5; the order: ours",
    needs=frozenset({Covariance()}),
    nonnegative=True,
    images=500,
    of_group=True,
)
def correlation(layers: Sequence[LayerView]) -> Tensor:
    """One minus the largest absolute correlation with a channel that is still there.

    Channels leave one by one. Of the pair with the largest absolute correlation (Pearson, over
    images and positions), that channel leaves whose mean absolute correlation with those that are
    left is larger; if these are equal, that with all channels decides. A channel that never
    changes leaves before all others. So a score depends on the channels that left before.

    Returns
    -------
    Tensor [C], in [0, 1], larger for channels that leave later; 1 for the last one. Of a group
    with several producers, a correlation is the mean over their feature maps, where a channel that
    does not change in one of them counts as correlated with all.
    """
    found = [layer.answer(Covariance())["covariance"] for layer in layers]
    magnitudes = torch.stack([_magnitudes(one) for one in found]).mean(dim=0)
    constant = torch.stack([one.diagonal() == 0 for one in found]).all(dim=0)
    order, largest = eliminated(magnitudes, constant)
    return scores_of(order, (1 - other for other in largest))


def _magnitudes(covariance: Tensor) -> Tensor:
    """Absolute correlations [C, C], symmetric; 1 for channels that never change."""
    deviations = covariance.diagonal().sqrt()
    found = covariance.abs() / torch.outer(deviations, deviations)
    constant = deviations == 0
    found[constant] = 1
    found[:, constant] = 1
    return ((found + found.T) / 2).clamp(max=1)


def eliminated(magnitudes: Tensor, constant: Tensor) -> tuple[list[int], list[float]]:
    """The order in which channels leave, and for each its largest correlation with the others.

    Parameters
    ----------
    magnitudes : absolute correlations, [C, C], symmetric.
    constant : whether a channel never changes, [C].

    Returns
    -------
    The channels, first to leave first; and the largest absolute correlation with those that are
    still there, which is 0 for the last one and 1 for constant ones.
    """
    order = constant.nonzero().flatten().tolist()
    largest = [1.0] * len(order)
    overall = magnitudes.sum(dim=1)
    gone = constant.clone()
    # A channel itself, and those that left, are below every correlation.
    left = magnitudes.clone().fill_diagonal_(-1)
    left[gone] = left[:, gone] = -1
    highest, partner = left.max(dim=1)
    while len(order) < len(left) - 1:
        one = int(highest.where(~gone, -1).argmax())
        pair = sorted((one, int(partner[one])))
        leaves = max(pair, key=lambda at: (float(left[at].clamp(min=0).sum()), float(overall[at])))
        order.append(leaves)
        largest.append(float(left[pair[0], pair[1]]))
        gone[leaves] = True
        left[leaves] = left[:, leaves] = -1
        changed = ((partner == leaves) & ~gone).nonzero().flatten()
        highest[changed], partner[changed] = left[changed].max(dim=1)
    for last in (~gone).nonzero().flatten().tolist():
        order.append(last)
        largest.append(0.0)
    return order, largest


@metric(
    source="Sui et al. 2021 (CHIP), arXiv:2110.13981",
    needs=frozenset({NuclearChange()}),
    nonnegative=True,
    images=128,
)
def chip(layer: LayerView) -> Tensor:
    """What an image's feature maps lose of their nuclear norm without the channel.

    The nuclear norm is the sum of the singular values of the maps as a matrix [C, H W], and the
    score its mean loss over images: small for a map that others can make up for.

    Returns
    -------
    Tensor [C], >= 0, in units of the activation. The default is 128 images, because each costs a
    singular value decomposition in every layer.
    """
    return layer.answer(NuclearChange())["change"]


def _entropy_needs(of: SoftmaxOf) -> frozenset[Request]:
    return frozenset({PositionEntropy(of)})


@metric(
    source="Shao et al. 2021, doi:10.3390/s21196601, as their published code computes it",
    needs=_entropy_needs,
    images=500,
)
def feature_map_entropy(layer: LayerView, *, of: SoftmaxOf = "squared_deviation") -> Tensor:
    """Minus the entropy of the softmax over the positions of a feature map, mean over images.

    A flat map has the highest entropy, ln(H W), and the lowest score.

    Parameters
    ----------
    of : what the softmax takes: the values of the map, or the squares of their deviations from its
        mean.

    Returns
    -------
    Tensor [C], nats, in [-ln(H W), 0]; 0 for all channels of a map with one position.
    """
    return -layer.answer(PositionEntropy(of))["entropy"]
