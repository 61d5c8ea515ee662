"""Feature maps of one layer for a batch of images, and sums that several statistics share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

# Maps are cast to float64 in slices, into a buffer that fits into the CPU cache. This is several
# times faster than casting a whole batch.
SLICE_VALUES = 1 << 17


class Maps:
    """Feature maps for collectors; shared quantities are computed once, on first use.

    Attributes
    ----------
    values : [N, C, H, W], fp32.
    labels : [N], int64.
    origin : [C], float64, near the channel's mean and the same for all images. It is subtracted
        before squaring. Otherwise, with a large mean and a small variance, a sum of squares would
        lose the digits of the variance.
    gradients : gradients of each image's loss with respect to `values`, or None.
    """

    def __init__(
        self, values: Tensor, labels: Tensor, origin: Tensor, gradients: Tensor | None = None
    ) -> None:
        self.values, self.labels = values, labels
        self.origin, self.gradients = origin, gradients

    @property
    def positions(self) -> int:
        """Number of positions, H W."""
        return self.values.shape[2] * self.values.shape[3]

    @property
    def pixels(self) -> Tensor:
        """The maps as a view [N, H W, C], fp32, because the network computes channels last."""
        return by_position(self.values)

    @cached_property
    def sums(self) -> Tensor:
        """Sum over positions, [N, C], float64."""
        return torch.cat([part.sum(dim=1) for part in doubles(self.pixels)])

    @cached_property
    def squares(self) -> Tensor:
        """Sum over positions of the squared distance from `origin`, [N, C], float64."""
        sums, squares = [], []
        for part in doubles(self.pixels):
            sums.append(part.sum(dim=1))
            squares.append(part.sub_(self.origin).square_().sum(dim=1))
        # `sums` costs almost nothing here, because the slice is in the cache.
        self.__dict__.setdefault("sums", torch.cat(sums))
        return torch.cat(squares)

    @cached_property
    def averages(self) -> Tensor:
        """Mean over positions, [N, C], float64; exactly 0 for a map that never fires."""
        return self.sums / self.positions

    @cached_property
    def zeros(self) -> Tensor:
        """Number of positions with value exactly 0, [N, C], float64."""
        fired = [part.sign().abs_().sum(dim=1) for part in slices(self.pixels)]
        # fp32 counts exactly up to 2^24, and casting the counts is cheaper than casting the maps.
        return self.positions - torch.cat(fired).double()


def by_position(values: Tensor) -> Tensor:
    """Reshapes [N, C, H, W] to [N, H W, C]."""
    return values.permute(0, 2, 3, 1).flatten(1, 2)


def slices(pixels: Tensor) -> Iterator[Tensor]:
    """Splits [N, P, C] along the images into parts that fit into the cache; one part on a GPU."""
    images = (
        max(1, SLICE_VALUES // pixels[0].numel()) if pixels.device.type == "cpu" else len(pixels)
    )
    yield from pixels.split(images)


def doubles(pixels: Tensor) -> Iterator[Tensor]:
    """The parts of `slices` in float64, in one buffer: each part overwrites the previous one."""
    buffer: Tensor | None = None
    for part in slices(pixels):
        if buffer is None:
            buffer = torch.empty(part.shape, dtype=torch.float64, device=part.device)
        yield buffer[: len(part)].copy_(part)
