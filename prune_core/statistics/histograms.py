"""Histograms of a channel's values by class, over the channel's own range.

The range must be known before values can be counted. Averages over positions need only 8 bytes per
image and channel, so they are stored and counted at the end. Single values are too many to store,
so `PixelHistogram` needs a first pass over the images that finds the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from prune_core.statistics.binning import Cells, cells_of, equal_bins, quantile_bins
from prune_core.statistics.maps import Maps, doubles, slices
from prune_core.statistics.requests import NOT_FINITE, Answer, StatisticsError

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
        index = quantile_bins(values, zero, bins)
    index = (index + 1).masked_fill_(zero, 0)
    rows = torch.arange(channels, device=values.device)[:, None] * (bins + 1)
    cells = (rows + index) * classes + labels
    counts = torch.bincount(cells.flatten(), minlength=channels * (bins + 1) * classes)
    return counts.view(channels, bins + 1, classes)


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
    """Finds each channel's range, and then the cell (class, channel, column) of every value.

    A channel has a column for zeros, one for each bin, and one for values at the upper end of the
    range, which belong into the last bin.
    """

    def __init__(self, request: PixelHistogram, classes: int) -> None:
        self.request, self.classes = request, classes
        self.range: tuple[Tensor, Tensor] | None = None
        self.cells: Cells | None = None

    def preview(self, maps: Maps) -> None:
        ranges = [_range(maps, self.request.zero_bin), *([self.range] if self.range else [])]
        lows, highs = (torch.stack(edges) for edges in zip(*ranges, strict=True))
        self.range = lows.amin(dim=0), highs.amax(dim=0)

    def update(self, maps: Maps) -> None:
        if self.cells is None:
            self.cells = self._started()
        images, labels = maps.pieces, maps.labels
        of_class = labels * self.counts[0].numel()
        if len(images) > len(labels):
            of_class = of_class.repeat_interleave(len(images) // len(labels))
        # All values of a batch are counted at once, since each call costs a pass over all counts.
        found = torch.empty(images.shape, dtype=self.cells.kind, device=images.device)
        start = 0
        for part in doubles(images):
            here = slice(start, start + len(part))
            self.cells.write(part, of_class[here, None, None], found[here])
            start += len(part)
        counts = torch.bincount(found.flatten(), minlength=self.counts.numel())
        self.counts += counts.view_as(self.counts)
        if self.cells.zeros_at is not None:
            self.zeros.index_add_(0, labels, maps.zeros.to(torch.int64))

    def _started(self) -> Cells:
        assert self.range is not None
        low, high = (edge.double() for edge in self.range)
        # A channel that never fires has no range: its lowest value is inf, its highest -inf.
        if bool((low.isnan() | (low == -torch.inf) | (high == torch.inf)).any()):
            raise StatisticsError(NOT_FINITE)
        shape = self.classes, len(low), self.request.bins + 2
        self.counts = torch.zeros(shape, dtype=torch.int64, device=low.device)
        self.zeros = self.counts.new_zeros(shape[:2])
        return cells_of(low, high, self.request.bins, self.request.zero_bin, self.counts.numel())

    def finish(self) -> Answer:
        if self.cells is None:
            raise StatisticsError("there are no images to collect statistics from")
        counts = self.counts.permute(1, 2, 0)
        counts[:, -2] += counts[:, -1]
        if self.cells.zeros_at is not None:
            channel = torch.arange(len(counts), device=counts.device)
            counts[channel, 1 + self.cells.zeros_at] -= self.zeros.T
            counts[:, 0] += self.zeros.T
        return {"counts": counts[:, :-1]}


def _range(maps: Maps, zero_bin: bool) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value of each channel, fp32, both [C].

    Parameters
    ----------
    zero_bin : leave out zeros. Without other values they are inf and -inf.
    """
    pixels = maps.pixels
    low, high = pixels.amin(dim=(0, 1)), pixels.amax(dim=(0, 1))
    if not zero_bin:
        return low, high
    # Only an end of the range at 0 has to be moved.
    if bool((low < 0).any()):
        below = pixels.masked_fill(pixels == 0, -torch.inf).amax(dim=(0, 1))
        high = torch.where(high == 0, below, high)
    else:
        high = high.masked_fill(high == 0, -torch.inf)
    above = [
        nn.functional.threshold(part, 0.0, torch.inf).amin(dim=(0, 1))
        for part in slices(maps.pieces)
    ]
    return torch.where(low < 0, low, torch.stack(above).amin(dim=0)), high
