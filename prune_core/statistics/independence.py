"""What each channel adds to the nuclear norm of an image's feature maps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from prune_core.statistics.averaging import MeanOfImages
from prune_core.statistics.batching import IMAGES_OF_A_BATCH, FixedBatches
from prune_core.statistics.maps import Maps
from prune_core.statistics.requests import NOT_FINITE, Answer, StatisticsError

# The trapezoidal rule over x = ln t converges like exp(-pi^2 / step), and what lies outside of
# the limits is below the smallest of them: all is far below the rounding of float64.
STEP = 0.25
LIMIT = 36.0

# Values of maps, and of the integrand, that exist at a time, at least those of one image: 32 MiB
# for each of a few tensors in float64.
VALUES_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class NuclearChange:
    """`change` [C]: mean over images of what the nuclear norm loses without the channel.

    The nuclear norm is the sum of the singular values of an image's feature maps as a matrix
    [C, H W]. It costs one singular value decomposition for each image and layer.
    """

    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _ChangeCollector:
        """See `Request`."""
        return _ChangeCollector()


class _ChangeCollector:
    def __init__(self) -> None:
        self.mean = MeanOfImages()
        self.batches: FixedBatches | None = None

    def update(self, maps: Maps) -> None:
        rows = maps.values.flatten(2)
        if self.batches is None:
            # Products of several matrices may round in another way than those of one.
            values = rows.shape[1] * max(rows.shape[2], int(2 * LIMIT / STEP))
            images = VALUES_AT_A_TIME // values
            self.batches = FixedBatches(self._add, min(max(1, images), IMAGES_OF_A_BATCH))
        self.batches.take(rows)

    def _add(self, rows: Tensor) -> None:
        self.mean.add(nuclear_changes(rows.double()))

    def finish(self) -> Answer:
        if self.batches is not None:
            self.batches.rest()
        return {"change": self.mean.value()}


def nuclear_changes(matrices: Tensor) -> Tensor:
    """The nuclear norm of a matrix minus that of the matrix without one row, for every row.

    With singular values s and left singular vectors u, removing row c from A subtracts from A' A
    a matrix of rank one, and

        ||A||_* - ||A without c||_* = 1/pi * integral over t > 0 of
            -ln( 1 - sum_i u_ci^2 s_i^2 / (s_i^2 + t^2) ) dt

    because the integral of ln(1 + s^2 / t^2) is pi s, and the determinant of a change of rank one
    is known. So no other decomposition is needed.

    Parameters
    ----------
    matrices : [N, C, P], float64.

    Returns
    -------
    Tensor [N, C], float64, >= 0.

    Raises
    ------
    StatisticsError
        If a value is NaN or infinite.
    """
    if not bool(matrices.isfinite().all()):
        raise StatisticsError(NOT_FINITE)
    channels, positions = matrices.shape[1:]
    silent = (matrices == 0).all(dim=2)
    if positions > channels:
        # It has the same left singular vectors, and its rows are shorter.
        matrices = torch.linalg.qr(matrices.mT, mode="r").R.mT
    vectors, values, _ = torch.linalg.svd(matrices, full_matrices=False)
    largest = values[:, :1]
    squares = (values / largest.clamp(min=torch.finfo(values.dtype).tiny)).square()
    shares = vectors.square()
    # What of a channel lies outside of the space of the singular vectors; none if that is all.
    outside = (1 - shares.sum(dim=2, keepdim=True)).clamp(min=0) if channels > positions else 0
    nodes = torch.arange(-LIMIT, LIMIT, STEP, dtype=values.dtype, device=values.device).exp()
    denominators = squares[:, :, None] + nodes.square()
    share = shares @ (squares[:, :, None] / denominators)
    rest = (shares @ (nodes.square() / denominators) + outside).clamp(min=1e-300)
    # Each of the two is precise where the other one is a difference of nearly equal numbers.
    logarithms = torch.where(share < 0.5, torch.log1p(-share.clamp(max=0.5)), rest.log())
    changes = (-STEP / math.pi) * (logarithms @ nodes) * largest
    return changes.masked_fill(silent, 0)
