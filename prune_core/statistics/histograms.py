"""Histograms of a channel's values by class, over the channel's own range.

The range must be known before values can be counted. Averages over positions need only 8 bytes per
image and channel, so they are stored and counted at the end. Single values are too many to store,
so `PixelHistogram` needs a first pass over the images that finds the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from prune_core.statistics.maps import Maps, doubles, slices
from prune_core.statistics.requests import NOT_FINITE, RESOLUTION, Answer, StatisticsError

Edges = Literal["equal", "quantile"]

# Values that are binned at a time, to limit the memory of intermediate tensors.
CHUNK_VALUES = 1 << 21


@dataclass(frozen=True)
class AverageHistogram:
    """`counts` [C, bins + 1, classes], int64, of the channel's average over positions.

    With `zero_bin`, bin 0 counts exact zeros, that is, images on which a ReLU map never fired.
    Without it, bin 0 is empty. The other bins count the remaining averages between the smallest
    and the largest of the channel. These `bins` bins have equal width or, with
    `edges="quantile"`, equal counts as far as ties allow. Equal averages always share a bin.
    """

    bins: int = 20
    zero_bin: bool = False
    edges: Edges = "equal"
    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _AverageHistogramCollector:
        """See `Request`."""
        return _AverageHistogramCollector(self, classes)


@dataclass(frozen=True)
class PixelHistogram:
    """`counts` [C, bins + 1, classes], int64, of single values over images and positions.

    Bins have equal width; bin 0 is as in `AverageHistogram`.
    """

    bins: int = 20
    zero_bin: bool = False
    gradients: ClassVar[bool] = False

    def collector(self, classes: int) -> _PixelHistogramCollector:
        """See `Request`."""
        return _PixelHistogramCollector(self, classes)


def histogram(
    values: Tensor,
    labels: Tensor,
    classes: int,
    bins: int,
    zero_bin: bool = False,
    edges: Edges = "equal",
) -> Tensor:
    """Counts of every channel's values by bin and class.

    Parameters
    ----------
    values : [C, N], float64.
    labels : [N], int64.

    Returns
    -------
    Tensor [C, bins + 1, classes], int64; see `AverageHistogram`.
    """
    step = max(1, CHUNK_VALUES // values.shape[1])
    parts = [
        _count(part.contiguous(), labels, classes, bins, zero_bin, edges)
        for part in values.split(step)
    ]
    return torch.cat(parts)


def _count(
    values: Tensor, labels: Tensor, classes: int, bins: int, zero_bin: bool, edges: Edges
) -> Tensor:
    channels = len(values)
    zero = (values == 0) if zero_bin else torch.zeros_like(values, dtype=torch.bool)
    if edges == "equal":
        low = values.masked_fill(zero, torch.inf).amin(dim=1, keepdim=True)
        high = values.masked_fill(zero, -torch.inf).amax(dim=1, keepdim=True)
        index = equal_bins(values, low, high, bins)
    else:
        index = _quantile_bins(values, zero, bins)
    index = (index + 1).masked_fill_(zero, 0)
    rows = torch.arange(channels, device=values.device)[:, None] * (bins + 1)
    cells = (rows + index) * classes + labels
    counts = torch.bincount(cells.flatten(), minlength=channels * (bins + 1) * classes)
    return counts.view(channels, bins + 1, classes)


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


def _quantile_bins(values: Tensor, zero: Tensor, bins: int) -> Tensor:
    ordered = values.masked_fill(zero, torch.inf).sort(dim=1).values
    count = (~zero).sum(dim=1, keepdim=True)
    steps = torch.arange(1, bins, device=values.device)
    # Edge b is the first value with at least the fraction b / bins of all values before it.
    first = (steps * count + bins - 1) // bins
    edges = ordered.gather(1, first.clamp(max=values.shape[1] - 1))
    return torch.searchsorted(edges, values, right=True)


class _AverageHistogramCollector:
    def __init__(self, request: AverageHistogram, classes: int) -> None:
        self.request, self.classes = request, classes
        self.averages: list[Tensor] = []
        self.labels: list[Tensor] = []

    def update(self, maps: Maps) -> None:
        self.averages.append(maps.averages)
        self.labels.append(maps.labels)

    def finish(self) -> Answer:
        if not self.averages:
            raise StatisticsError("there are no images to collect statistics from")
        values, labels = torch.cat(self.averages).T, torch.cat(self.labels)
        if not bool(values.isfinite().all()):
            raise StatisticsError(NOT_FINITE)
        wanted = self.request
        counts = histogram(values, labels, self.classes, wanted.bins, wanted.zero_bin, wanted.edges)
        return {"counts": counts}


class _PixelHistogramCollector:
    def __init__(self, request: PixelHistogram, classes: int) -> None:
        self.request, self.classes = request, classes
        self.low: Tensor | None = None

    def preview(self, maps: Maps) -> None:
        lows, highs = [], []
        for part in slices(maps.pixels):
            zero = (part == 0) & self.request.zero_bin
            lows.append(part.masked_fill(zero, torch.inf).amin(dim=(0, 1)))
            highs.append(part.masked_fill(zero, -torch.inf).amax(dim=(0, 1)))
        low, high = torch.stack(lows).amin(dim=0), torch.stack(highs).amax(dim=0)
        if self.low is None:
            self.low, self.high = low.double(), high.double()
            size = len(low) * (self.request.bins + 1) * self.classes
            self.counts = torch.zeros(size, dtype=torch.int64, device=low.device)
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)

    def update(self, maps: Maps) -> None:
        assert self.low is not None
        columns = self.request.bins + 1
        rows = torch.arange(len(self.low), device=self.low.device) * columns
        start = 0
        for part in doubles(maps.pixels):
            labels = maps.labels[start : start + len(part)]
            start += len(part)
            index = equal_bins(part, self.low, self.high, self.request.bins).add_(1)
            if self.request.zero_bin:
                index.masked_fill_(part == 0, 0)
            cells = index.add_(rows).mul_(self.classes).add_(labels[:, None, None]).flatten()
            self.counts.scatter_add_(0, cells, torch.ones_like(cells))

    def finish(self) -> Answer:
        if self.low is None:
            raise StatisticsError("there are no images to collect statistics from")
        # A channel that never fires has no range: its lowest value is inf, its highest -inf.
        if bool((self.low.isnan() | (self.low == -torch.inf) | (self.high == torch.inf)).any()):
            raise StatisticsError(NOT_FINITE)
        return {"counts": self.counts.view(len(self.low), self.request.bins + 1, self.classes)}
