"""Metrics of a channel's activations: their size, zeros, gradients and singular values."""

from __future__ import annotations

from torch import Tensor

from prune_core.layer import LayerView
from prune_core.metrics.registry import metric
from prune_core.statistics import GradientProduct, Magnitude, Moments, Rank, ZeroFraction
from prune_core.statistics.costly import NuclearNorm, SignedGradientProduct


@metric(
    source="Molchanov et al. 2016, arXiv:1611.06440",
    needs=frozenset({Magnitude()}),
    version=2,
    nonnegative=True,
)
def activation_l1(layer: LayerView) -> Tensor:
    """Mean absolute value of the feature map over images and positions.

    Returns
    -------
    Tensor [C], >= 0, in units of the activation. After a ReLU it is the mean; behind a linear
    bottleneck, or an addition without a ReLU, it is not.
    """
    return layer.answer(Magnitude())["mean"]


@metric(source="Hu et al. 2016, arXiv:1607.03250", needs=frozenset({ZeroFraction()}))
def apoz(layer: LayerView) -> Tensor:
    """Minus the fraction of exact zeros in the feature map over images and positions.

    Returns
    -------
    Tensor [C], in [-1, 0]; -1 for a channel that is always zero.
    """
    return -layer.answer(ZeroFraction())["fraction"]


@metric(
    source="Sun et al. 2023, arXiv:2306.11695, summed over the weights of a channel",
    needs=frozenset({Moments()}),
    nonnegative=True,
    summands=lambda layer: layer.weights_per_channel,
)
def rms_times_output(layer: LayerView) -> Tensor:
    """Root mean square of the feature map times the L1 norm of the weights that read it.

    Returns
    -------
    Tensor [C], >= 0: the sum of Wanda's scores |weight| x ||X||_2 over the channel's weights, with
    the root mean square over images and positions in place of the norm, so that it does not grow
    with the number of images. A scale that moves from the channel into these weights changes
    nothing; it changes if a consumer's filter is rescaled.
    """
    power = layer.variance + layer.mean.square()
    return power.sqrt() * layer.consumed.abs().sum(dim=1)


@metric(
    source="An et al. 2023, arXiv:2312.11983 (weighted input feature variance)",
    needs=frozenset({Moments()}),
    nonnegative=True,
    summands=lambda layer: layer.weights_per_channel,
)
def variance_times_output(layer: LayerView) -> Tensor:
    """Variance of the feature map times the squared L2 norm of the weights that read it.

    Returns
    -------
    Tensor [C], >= 0. The variance is over images and positions, so a constant channel scores 0: a
    bias can replace it. A scale that moves from the channel into the weights changes nothing; it
    changes if a consumer's filter is rescaled.
    """
    return layer.variance * layer.consumed.square().sum(dim=1)


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
    source="Mozer, Smolensky 1988 (NIPS); its magnitude: Molchanov et al. 2016, arXiv:1611.06440",
    needs=frozenset({SignedGradientProduct()}),
    nonnegative=True,
)
def taylor_signed(layer: LayerView) -> Tensor:
    """First-order change of the mean loss if the channel were set to zero, without its sign.

    Returns
    -------
    Tensor [C], nats, >= 0: |mean over images of (sum over positions of activation x gradient)|.
    Images whose loss would rise and images whose loss would fall cancel, unlike in `taylor`.
    """
    return layer.answer(SignedGradientProduct())["mean"].abs()


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


@metric(
    source="Yeom et al. 2021, arXiv:2103.10858",
    needs=frozenset({NuclearNorm()}),
    nonnegative=True,
    images=500,
)
def nuclear(layer: LayerView) -> Tensor:
    """Mean over images of the nuclear norm of the feature map as a matrix.

    Returns
    -------
    Tensor [C], >= 0, in units of the activation: the sum of the singular values that `hrank`
    counts, of as many images by default.
    """
    return layer.answer(NuclearNorm())["norm"]
