"""Entropy of feature maps, and their mutual information with the labels, in nats."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from prune_core.layer import LayerView
from prune_core.metrics.registry import MetricError, metric
from prune_core.statistics import (
    Answer,
    AverageClassMoments,
    AverageHistogram,
    AverageMoments,
    ClassMoments,
    Edges,
    Moments,
    PixelHistogram,
    Request,
)

Estimator = Literal["average", "pixel"]
Information = Literal["histogram", "gaussian"]

# Defaults of the options of a histogram; an estimate without one allows no other value.
BINS = 20
EDGES: Edges = "equal"

# The moments of all images and of each class, over the observations of an estimator.
MOMENTS: dict[Estimator, tuple[Request, Request]] = {
    "average": (AverageMoments(), AverageClassMoments()),
    "pixel": (Moments(), ClassMoments()),
}

# Keeps the entropy of a constant map finite, at -12.4 nats.
VARIANCE_FLOOR = 1e-12


def entropy(counts: Tensor) -> Tensor:
    """Plug-in entropy in nats of counts along the last axis; 0 ln 0 is 0.

    >>> entropy(torch.tensor([5, 5, 0])).item() == math.log(2)
    True
    """
    counts = counts.double()
    share = counts / counts.sum(dim=-1, keepdim=True)
    return -torch.special.xlogy(share, share).sum(dim=-1) + 0.0


def information(counts: Tensor, corrected: bool = True) -> Tensor:
    """Mutual information in nats between bin and class, [C], from counts [C, bins, classes].

    Parameters
    ----------
    corrected : subtract the bias of the plug-in estimate, (bins - 1) (classes - 1) / 2N, where
        only bins and pairs with counts are included (Miller and Madow 1955), and clip at 0.
    """
    joint = counts.flatten(1)
    of_bin, of_class = counts.sum(dim=2), counts.sum(dim=1)
    plug_in = entropy(of_bin) + entropy(of_class) - entropy(joint)
    if not corrected:
        return plug_in.clamp(min=0)
    seen = [(table > 0).sum(dim=1).double() for table in (of_bin, of_class, joint)]
    bias = (seen[2] - seen[0] - seen[1] + 1) / (2 * joint.sum(dim=1))
    return (plug_in - bias).clamp(min=0)


def gaussian_entropy(variance: Tensor) -> Tensor:
    """Differential entropy in nats of Gaussians with these variances."""
    return 0.5 * torch.log(2 * math.pi * math.e * (variance + VARIANCE_FLOOR))


def check_bins(bins: int) -> None:
    """Refuses fewer than 2 bins: with 1 bin the information is always 0."""
    if bins < 2:
        raise MetricError(f"option 'bins' is {bins}; it must be 2 or more")


def label_histogram(bins: int, estimator: Estimator, edges: Edges) -> Request:
    """The histogram for the mutual information with the label.

    Raises
    ------
    MetricError
        For fewer than 2 bins, or for quantile edges with `pixel`, which would have to store all
        values.
    """
    check_bins(bins)
    if estimator == "average":
        return AverageHistogram(bins, zero_bin=True, edges=edges)
    if edges != "equal":
        raise MetricError(f"option 'edges' is '{edges}'; with estimator 'pixel' allowed: equal")
    return PixelHistogram(bins, zero_bin=True)


def needs_label_histogram(bins: int, estimator: Estimator, edges: Edges) -> frozenset[Request]:
    """The statistics of a metric that reads the mutual information from a histogram."""
    return frozenset({label_histogram(bins, estimator, edges)})


def needs_label_moments(estimator: Estimator) -> frozenset[Request]:
    """The statistics of a metric that reads moments by class."""
    return frozenset(MOMENTS[estimator])


def label_moments(layer: LayerView, estimator: Estimator) -> tuple[Answer, Answer]:
    """The moments of all images and of each class."""
    whole, by_class = MOMENTS[estimator]
    return layer.answer(whole), layer.answer(by_class)


def check_no_histogram(information: str, bins: int, edges: Edges) -> None:
    """Refuses options of a histogram where there is none: one estimate must have one key.

    Raises
    ------
    MetricError
        Naming the option that has no effect.
    """
    for option, value, default in (("bins", bins, BINS), ("edges", edges, EDGES)):
        if value != default:
            raise MetricError(
                f"option '{option}' is {value!r}; with information '{information}' it has no "
                f"effect, so only its default is allowed: {default}"
            )


def needs_information(
    information: Information, estimator: Estimator, bins: int, edges: Edges
) -> frozenset[Request]:
    """The statistics of a metric that reads `label_information` with these options.

    Raises
    ------
    MetricError
        For options that do not go together.
    """
    if information == "histogram":
        return needs_label_histogram(bins, estimator, edges)
    check_no_histogram(information, bins, edges)
    return needs_label_moments(estimator)


def label_information(
    layer: LayerView, information: Information, estimator: Estimator, bins: int, edges: Edges
) -> Tensor:
    """Mutual information with the label by the estimate that the options choose, nats, [C], >= 0.

    `histogram` is the metric `mutual_information`, `gaussian` is `mutual_information_gaussian`.
    """
    if information == "gaussian":
        return mutual_information_gaussian(layer, estimator=estimator)
    return mutual_information(layer, bins=bins, estimator=estimator, edges=edges)


def _needs_histogram(bins: int) -> frozenset[Request]:
    check_bins(bins)
    return frozenset({AverageHistogram(bins)})


@metric(source="Luo and Wu 2017, arXiv:1706.05791", needs=_needs_histogram, nonnegative=True)
def entropy_histogram(layer: LayerView, *, bins: int = BINS) -> Tensor:
    """Entropy of the channel's average over positions, from a histogram with bins of equal width.

    Returns
    -------
    Tensor [C], nats, in [0, ln bins]. There is no option for equally filled bins, because they
    would give every channel the same entropy.
    """
    return entropy(layer.answer(AverageHistogram(bins))["counts"].sum(dim=2))


@metric(source="Chen, Liu, Wu 2020", needs=frozenset({Moments()}))
def entropy_gaussian(layer: LayerView) -> Tensor:
    """Differential entropy of a Gaussian with the channel's variance over images and positions.

    Returns
    -------
    Tensor [C], nats; negative for small variances, and about -12.4 for a constant map.
    """
    return gaussian_entropy(layer.variance)


@metric(source="Chen, Liu, Wu 2020", needs=needs_label_histogram, nonnegative=True)
def mutual_information(
    layer: LayerView, *, bins: int = BINS, estimator: Estimator = "average", edges: Edges = EDGES
) -> Tensor:
    """Mutual information between the channel and the label.

    Parameters
    ----------
    bins : number of bins for nonzero values; exact zeros, where a ReLU did not fire, have a
        separate bin.
    estimator : with `average`, each image's average over positions is one observation; with
        `pixel`, every position is one. Positions of one image are not independent, so for
        `pixel` the subtracted bias is a lower bound.
    edges : bins of equal width (`equal`) or with equal counts (`quantile`, for `average` only).

    Returns
    -------
    Tensor [C], nats, >= 0, Miller-Madow corrected.
    """
    return information(layer.answer(label_histogram(bins, estimator, edges))["counts"])


def class_shares(classes: Answer) -> Tensor:
    """p(y), [C, classes], from moments by class."""
    count = classes["count"].double()
    return count / count.sum(dim=1, keepdim=True)


def gaussian_information(variance: Tensor, by_class: Tensor, share: Tensor) -> Tensor:
    """0.5 ln Var X - sum over y of p(y) 0.5 ln Var(X given y), in nats, [C]; 0 for a constant X.

    Parameters
    ----------
    variance : [C].
    by_class : variance within each class, [C, classes]. It is floored at 1e-12 of the channel's
        variance, so that the result is finite if all values of a class are equal.
    share : p(y), [C, classes].
    """
    whole = variance[:, None]
    ratio = torch.where(whole > 0, by_class / whole, 1.0).clamp(min=VARIANCE_FLOOR)
    return -0.5 * (share * ratio.log()).sum(dim=1)


@metric(
    source="the Gaussian estimate of Chen, Liu, Wu 2020, by class; pixel: Chaddad et al. 2017, "
    "arXiv:1712.00003",
    needs=needs_label_moments,
    version=2,
    nonnegative=True,
)
def mutual_information_gaussian(layer: LayerView, *, estimator: Estimator = "average") -> Tensor:
    """Mutual information with the label for a Gaussian channel, overall and within each class.

    Parameters
    ----------
    estimator : with `average`, each image's average over positions is one observation, as in
        `mutual_information`; with `pixel`, every position is one, so that the variances are those
        of the filter's output given the class (Chaddad et al. 2017).

    Returns
    -------
    Tensor [C], nats, clipped to [0, H(Y)]; see `gaussian_information`. No bias is subtracted: for
    a Gaussian channel and `average` it is about (classes - 1) / N with N images, the same for all
    channels.
    """
    whole, classes = label_moments(layer, estimator)
    estimate = gaussian_information(whole["variance"], classes["variance"], class_shares(classes))
    return torch.minimum(estimate.clamp(min=0), entropy(classes["count"]))


def correlation_ratio(layer: LayerView, estimator: Estimator) -> Tensor:
    """Var(E[X given Y]) / Var(X), [C], in [0, 1]; 0 for a constant X."""
    whole, classes = label_moments(layer, estimator)
    mean, variance = whole["mean"][:, None], whole["variance"]
    between = (class_shares(classes) * (classes["mean"] - mean).square()).sum(dim=1)
    return torch.where(variance > 0, between / variance, 0.0).clamp(0, 1)


@metric(
    source="Fisher's discriminant, as in Tian et al. 2018, arXiv:1803.08134",
    needs=needs_label_moments,
    nonnegative=True,
)
def fisher_ratio(layer: LayerView, *, estimator: Estimator = "average") -> Tensor:
    """The fraction of the channel's variance that lies between the classes, eta^2.

    Parameters
    ----------
    estimator : the observations, as in `mutual_information_gaussian`.

    Returns
    -------
    Tensor [C], in [0, 1]; 0 for a constant channel. Fisher's ratio of the variance between classes
    to that within them is eta^2 / (1 - eta^2), so it ranks channels alike, but has no upper limit.
    """
    return correlation_ratio(layer, estimator)
