"""Which bin of its channel's histogram a value belongs into, and which cell of all counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from prune_core.statistics.requests import RESOLUTION


def equal_bins(values: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
    """The index of each value's bin among bins of equal width from `low` to `high`, int64.

    If the range is not wider than the rounding error, all values are in bin 0.
    """
    width = high - low
    flat = ~(width > RESOLUTION * torch.maximum(low.abs(), high.abs()))
    scale = torch.where(flat, 0.0, bins / width)
    # If a channel has no value, `low` is infinite and the product is NaN.
    scaled = ((values - low) * scale).nan_to_num_(0)
    return scaled.floor_().clamp_(0, bins - 1).to(torch.int64)


def quantile_bins(values: Tensor, zero: Tensor, bins: int) -> Tensor:
    """The index of each value's bin among bins of equal counts, as far as ties allow, int64.

    Parameters
    ----------
    values : [C, N].
    zero : [C, N], bool: values that do not count.
    """
    ordered = values.masked_fill(zero, torch.inf).sort(dim=1).values
    count = (~zero).sum(dim=1, keepdim=True)
    steps = torch.arange(1, bins, device=values.device)
    # Edge b is the first value with at least the fraction b / bins of all values before it.
    first = (steps * count + bins - 1) // bins
    edges = ordered.gather(1, first.clamp(max=values.shape[1] - 1))
    return torch.searchsorted(edges, values, right=True)


class Cells(Protocol):
    """Writes the cells of values."""

    @property
    def kind(self) -> torch.dtype:
        """The type of integers that can number all cells."""

    @property
    def zeros_at(self) -> Tensor | None:
        """The bins [C], int64, in which zeros are counted that belong into the column for zeros.

        None if they are counted in that column.
        """

    def write(self, values: Tensor, starts: Tensor, cells: Tensor) -> None:
        """Writes the cell of each value.

        Parameters
        ----------
        values : [N, P, C], float64; they are overwritten.
        starts : the first cell of the image's class, [N, 1, 1], int64.
        cells : [N, P, C].
        """


def cells_of(low: Tensor, high: Tensor, bins: int, zero_bin: bool, size: int) -> Cells:
    """The cells for channels with these ranges, [C], float64.

    Parameters
    ----------
    size : the number of all cells.
    """
    starts = torch.arange(len(low), device=low.device) * (bins + 2) + 1
    kind = torch.int32 if size <= torch.iinfo(torch.int32).max else torch.int64
    width = high - low
    # Of a channel without values the width is -inf.
    absent = width == -torch.inf
    flat = ~(width > RESOLUTION * torch.maximum(low.abs(), high.abs()))
    scale = torch.where(flat, torch.where(absent, 0.0, 0.5 / low), bins / width)
    near = torch.where(absent, 1.0, low * scale)
    # Rounding must put no value below its bin. So all edges are moved down by more than rounding,
    # which is far less than the rounding of the values themselves.
    margin = 8 * (size + near.max()) * torch.finfo(torch.float64).eps
    if zero_bin and bool(((near > 2 * margin) & scale.isfinite()).all()):
        return _PositiveCells(scale, starts - near + margin, starts, bool((near > 1).any()), kind)
    return _AnyCells(low, high, starts, bins, zero_bin, kind)


@dataclass(frozen=True)
class _PositiveCells:
    """Cells of channels whose values are zero or positive, as behind a ReLU.

    The bin of x is floor(x scale - near), where near is that of the smallest value. So zero is
    below the first bin, in the column for zeros. It is one multiplication and one addition.

    Attributes
    ----------
    scale : [C], float64.
    shift : the first bin's cell minus near, [C], float64.
    starts : the first bin's cell, [C], int64.
    apart : whether the smallest value of a channel is more than a bin's width above 0.
    """

    scale: Tensor
    shift: Tensor
    starts: Tensor
    apart: bool
    kind: torch.dtype
    zeros_at: Tensor | None = None

    def write(self, values: Tensor, starts: Tensor, cells: Tensor) -> None:
        """See `Cells`."""
        torch.addcmul(starts + self.shift, values, self.scale, out=values)
        if self.apart:
            torch.maximum(values, starts + self.starts - 0.5, out=values)
        # The conversion to an integer cuts off what follows the point.
        cells.copy_(values)


@dataclass(frozen=True)
class _AnyCells:
    """Cells of channels with any range; bins are those of `equal_bins`."""

    low: Tensor
    high: Tensor
    starts: Tensor
    bins: int
    zero_bin: bool
    kind: torch.dtype

    @property
    def zeros_at(self) -> Tensor | None:
        """See `Cells`: to count zeros apart is cheaper than to mask them."""
        return self._bins(torch.zeros_like(self.low)) if self.zero_bin else None

    def write(self, values: Tensor, starts: Tensor, cells: Tensor) -> None:
        """See `Cells`."""
        cells.copy_(self._bins(values).add_(starts + self.starts))

    def _bins(self, values: Tensor) -> Tensor:
        return equal_bins(values, self.low, self.high, self.bins)
