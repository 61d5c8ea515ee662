"""Metrics of a channel's activations: their size, zeros, gradients and rank."""

from __future__ import annotations

from torch import Tensor

from prune_core.layer import LayerView
from prune_core.metrics.registry import metric
from prune_core.statistics import GradientProduct, Moments, Rank, ZeroFraction


@metric(
    source="Molchanov et al. 2016, arXiv:1611.06440",
    needs=frozenset({Moments()}),
    nonnegative=True,
)
def activation_l1(layer: LayerView) -> Tensor:
    """Mean absolute value of the feature map over images and positions.

    Returns
    -------
    Tensor [C], >= 0, in units of the activation. It equals the mean, because activations after a
    ReLU are not negative.
    """
    return layer.mean


@metric(source="Hu et al. 2016, arXiv:1607.03250", needs=frozenset({ZeroFraction()}))
def apoz(layer: LayerView) -> Tensor:
    """Minus the fraction of exact zeros in the feature map over images and positions.

    Returns
    -------
    Tensor [C], in [-1, 0]; -1 for a channel that is always zero.
    """
    return -layer.answer(ZeroFraction())["fraction"]


@metric(
    source="Molchanov et al. 2019, arXiv:1906.10771",
    needs=frozenset({GradientProduct()}),
    nonnegative=True,
)
def taylor(layer: LayerView) -> Tensor:
    """Squared first-order change of an image's loss if the channel were set to zero.

    Returns
    -------
    Tensor [C], nats^2, >= 0: (sum over positions of activation x gradient)^2, mean over images.
    """
    return layer.answer(GradientProduct())["square"]


@metric(
    source="Lin et al. 2020, arXiv:2002.10179",
    needs=frozenset({Rank()}),
    nonnegative=True,
    images=500,
)
def hrank(layer: LayerView) -> Tensor:
    """Mean over images of the feature map's rank as a matrix.

    Returns
    -------
    Tensor [C], in [0, side of the map]. The default is 500 images, as in the paper, because ranks
    are expensive and hardly depend on the images.
    """
    return layer.answer(Rank())["rank"]
