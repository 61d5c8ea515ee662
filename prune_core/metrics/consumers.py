"""What each channel tells of the outputs of the layers that read it."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_core.layer import LayerView, Reader
from prune_core.least_squares import deviations, standardised
from prune_core.metrics.registry import MetricError, metric
from prune_core.statistics import InputMoments, Request, SecondMoments
from prune_core.statistics.inputs import by_layer

# An output that a channel determines would have infinite information; this gives 13.8 nats.
MOST_EXPLAINED = 1 - 1e-12
# Below this fraction of the largest, an eigenvalue of the inputs' correlations is rounding.
SMALLEST_EIGENVALUE = 1e-9


def _needs(positions: int) -> frozenset[Request]:
    if positions < 1:
        raise MetricError(f"option 'positions' is {positions}; it must be 1 or more")
    return frozenset({SecondMoments(positions)})


@metric(
    source="mutual information of adjacent layers as in MIPP, Westphal et al. 2024, "
    "arXiv:2411.00147; Gaussian, and of one channel with one output: ours",
    needs=_needs,
    nonnegative=True,
    images=1024,
)
def consumer_information(layer: LayerView, *, positions: int = 24) -> Tensor:
    """Gaussian mutual information of a channel with each output that reads it, mean over outputs.

    It is -0.5 ln(1 - R^2), where R^2 is the share of the variance of one filter's output that a
    linear function of the channel explains: of all its pixels that the filter reads at once.

    Parameters
    ----------
    positions : patches of each image from which covariances are estimated.

    Returns
    -------
    Tensor [C], nats, >= 0, at most 13.8.
    """
    moments = by_layer([layer.answer(SecondMoments(positions))])
    return torch.cat(
        [
            informations(
                reader,
                InputMoments(moments[reader.name]["mean"], moments[reader.name]["covariance"], 0),
            )
            for reader in layer.readers
        ],
        dim=1,
    ).mean(dim=1)


def informations(reader: Reader, moments: InputMoments) -> Tensor:
    """The information of each channel of a group with each output of a layer, [C, J], in nats."""
    scale = deviations(moments.covariance)
    correlations = standardised(moments.covariance, scale)
    weight = reader.weight * scale
    crossed = weight @ correlations
    variance = (crossed * weight).sum(dim=1)
    # Below this, the variance of an output is rounding.
    known = variance > 1e-12 * weight.square().sum(dim=1)
    columns = reader.columns
    own = correlations[columns[:, :, None], columns[:, None, :]]
    inverse = torch.linalg.pinv(own, rtol=SMALLEST_EIGENVALUE, hermitian=True)
    with_output = crossed[:, columns].transpose(0, 1)  # [C, J, r]
    explained = ((with_output @ inverse) * with_output).sum(dim=2)
    share = torch.where(known, explained / variance.clamp(min=1e-300), 0.0)
    return -0.5 * torch.log1p(-share.clamp(0, MOST_EXPLAINED))
