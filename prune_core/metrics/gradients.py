"""Metrics of weights and the loss: first and second order, and the synaptic flow."""

from __future__ import annotations

from torch import Tensor

from prune_core.layer import LayerView
from prune_core.metrics.registry import metric
from prune_core.statistics import FilterGradientProduct, FilterGradientSquares, SynapticFlow


@metric(
    source="Molchanov et al. 2019, arXiv:1906.10771",
    needs=frozenset({FilterGradientProduct()}),
    nonnegative=True,
)
def taylor_weight(layer: LayerView) -> Tensor:
    """Squared first-order change of an image's loss if the channel's filter were set to zero.

    Returns
    -------
    Tensor [C], nats^2, >= 0: (sum over the filter's weights of weight x gradient)^2, mean over
    images. The bias and the batch normalisation behind the filter are not set to zero.
    """
    return layer.answer(FilterGradientProduct())["square"]


@metric(
    source="LeCun, Denker, Solla 1990 (optimal brain damage); the Fisher information in place of "
    "the Hessian as in Theis et al. 2018, arXiv:1801.05787",
    needs=frozenset({FilterGradientSquares()}),
    nonnegative=True,
    summands=lambda layer: layer.inputs,
    images=500,
)
def hessian_diag(layer: LayerView) -> Tensor:
    """Half the sum over the filter's weights of w^2 times the mean of (dL/dw)^2 over images.

    It estimates the rise of the loss if each weight alone is set to zero, where the gradient of
    the mean loss vanishes: the empirical Fisher information is taken for the diagonal of the
    Hessian.

    Returns
    -------
    Tensor [C], >= 0. The default is 500 images; each takes about three times as long as in
    `taylor`.
    """
    return 0.5 * layer.answer(FilterGradientSquares())["sum"]


@metric(
    source="Tanaka et al. 2020, arXiv:2006.05467",
    needs=frozenset({SynapticFlow()}),
    nonnegative=True,
)
def synflow(layer: LayerView) -> Tensor:
    """Flow through the channel, from an image of ones to the sum of the logits.

    All weights are replaced by their magnitudes, all biases and running means by 0.

    Returns
    -------
    Tensor [C], float64, >= 0: sum over positions of activation x gradient. In a chain, the sum
    over the channels is the same for all layers.
    """
    return layer.answer(SynapticFlow())["flow"]
