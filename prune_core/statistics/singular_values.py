"""Ranks and nuclear norms of many small matrices, without their singular value decompositions.

The squares of the singular values of A are the eigenvalues of the Gram matrix A A'. In float64 it
tells singular values apart that are 1e-8 of the largest, which fp32 cannot.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from prune_core.statistics.maps import by_position

# Matrices whose Gram matrices are computed together: few enough that these stay in the cache of a
# CPU core.
VALUES_AT_A_TIME = 1 << 16

# The error of a singular value that is computed in fp32 is a few roundings of the largest one. A
# rank is left to the decomposition if a singular value is less than so many roundings above the
# limit of `matrix_rank`, or above this fraction of it.
ROUNDINGS = 32
FRACTION = 0.25


def ranks(values: Tensor) -> Tensor:
    """The ranks that `torch.linalg.matrix_rank` gives, [N, C], int64, sooner.

    `matrix_rank` counts the singular values above max(H, W) roundings of the largest one. If rows
    of zeros are left out, many feature maps have full rank, with a distance from that limit. This
    is certain if A A', less the square of the limit on its diagonal, has a Cholesky factor: then
    all its eigenvalues are larger. Of the others, a factor L D L' of A A' less the square of a
    limit has as many positive eigenvalues in D as there are singular values above the limit
    (Sylvester's law of inertia). If these are as many for a lower and a higher limit, that is the
    rank. Only what is left is decomposed.

    Parameters
    ----------
    values : feature maps [N, C, H, W], fp32.
    """
    maps = matrices(values)
    found = _in_chunks(_certain_ranks, maps)
    for attempt in (
        lambda left: _in_chunks(_counted_ranks, left),
        torch.linalg.matrix_rank,
    ):
        left = (found < 0).nonzero()[:, 0]
        if len(left) > 0:
            found[left] = attempt(maps[left])
    return found.view(values.shape[:2])


def nuclear_norms(values: Tensor) -> Tensor:
    """Sum of the singular values of each map, [N, C], float64.

    Parameters
    ----------
    values : feature maps [N, C, H, W], fp32.
    """
    return _in_chunks(_nuclear_norms, matrices(values)).view(values.shape[:2])


def matrices(values: Tensor) -> Tensor:
    """Copies the maps to [N C, H, W] with the rows one after the other."""
    if values.device.type != "cpu":
        return values.flatten(0, 1).contiguous()
    maps = values.new_empty(values.shape).flatten(2)
    # Image by image it is several times faster than the whole at once.
    for image, pixels in zip(maps, by_position(values), strict=True):
        image.copy_(pixels.T)
    return maps.view(-1, *values.shape[2:])


def _in_chunks(numbers: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """A number for each of the matrices [B, H, W].

    Parameters
    ----------
    numbers : gets [b, h, w], float64, transposed if they would be higher than wide.
    """
    if maps.shape[1] > maps.shape[2]:
        maps = maps.mT
    count = max(1, VALUES_AT_A_TIME // maps[0].numel()) if maps.device.type == "cpu" else len(maps)
    return torch.cat([numbers(chunk.double()) for chunk in maps.split(count)])


def _nuclear_norms(chunk: Tensor) -> Tensor:
    # Rounding can give eigenvalues a little below 0.
    return torch.linalg.eigvalsh(_gram(chunk)).clamp_(min=0).sqrt_().sum(dim=-1)


def _gram(chunk: Tensor) -> Tensor:
    return chunk @ chunk.mT


def _certain_ranks(doubles: Tensor) -> Tensor:
    """The number of rows that are not 0 if these are certainly independent, else -1; [B].

    Parameters
    ----------
    doubles : [B, H, W], float64.
    """
    grams = _gram(doubles)
    diagonal = grams.diagonal(dim1=1, dim2=2)
    # At least the square of the largest singular value.
    power = diagonal.sum(dim=1, keepdim=True)
    some = diagonal > 0
    roundings = max(doubles.shape[1:]) + ROUNDINGS
    limit = roundings * torch.finfo(torch.float32).eps
    # A row of zeros becomes one of a diagonal matrix, and does not count.
    diagonal += torch.where(some, -(limit**2) * power, power + 1)
    # The upper factor is found a little faster than the lower one.
    failed = torch.linalg.cholesky_ex(grams, upper=True).info
    return torch.where(failed == 0, some.sum(dim=1), -1)


def _counted_ranks(doubles: Tensor) -> Tensor:
    """The number of singular values above the limit if none is near it, else -1; [B].

    Parameters
    ----------
    doubles : [B, H, W], float64.
    """
    grams = _gram(doubles)
    # Of the eigenvalues, the largest is between the sum of squares over the sum, and the root of
    # the sum of squares.
    squares = grams.square().sum(dim=(1, 2))
    total = grams.diagonal(dim1=1, dim2=2).sum(dim=1)
    side, eps = max(doubles.shape[1:]), torch.finfo(torch.float32).eps
    low = _eigenvalues_above(grams, (FRACTION * side * eps) ** 2 * squares / total)
    high = _eigenvalues_above(grams, ((side + ROUNDINGS) * eps) ** 2 * squares.sqrt())
    return torch.where((low == high) & total.isfinite(), low, -1)


def _eigenvalues_above(matrices: Tensor, limits: Tensor) -> Tensor:
    """How many eigenvalues of symmetric matrices [B, h, h] are above limits [B]; [B]."""
    shifts = torch.diag_embed(limits[:, None].expand(matrices.shape[:2]))
    factors, pivots, _ = torch.linalg.ldl_factor_ex(matrices - shifts)
    # D has blocks of one, and of two, where pivots are negative; one of their eigenvalues is
    # positive and the other negative.
    single = pivots > 0
    positive = single & (factors.diagonal(dim1=1, dim2=2) > 0)
    return positive.sum(dim=1) + (~single).sum(dim=1) // 2
