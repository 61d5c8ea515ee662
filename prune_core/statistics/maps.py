"""A few images' feature maps of one layer, and the sums that several statistics share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

# Maps are cast to float64 a slice at a time, into a buffer that stays in the processor's cache:
# several times cheaper than casting a whole batch.
SLICE_VALUES = 1 << 17


class Maps:
    """Feature maps as collectors see them; what they share is computed once, when first asked for.

    Attributes
    ----------
    values : [N, C, H, W], fp32.
    labels : [N], int64.
    origin : [C], float64, near the channel's mean and the same for all images. Squares are taken
        of the distance from it: of values with a large mean and a small spread, a sum of plain
        squares would keep the mean's digits and lose the spread's.
    gradients : of each image's loss with respect to `values`, or None.
    """

    def __init__(
        self, values: Tensor, labels: Tensor, origin: Tensor, gradients: Tensor | None = None
    ) -> None:
        self.values, self.labels = values, labels
        self.origin, self.gradients = origin, gradients

    @property
    def positions(self) -> int:
        """H W."""
        return self.values.shape[2] * self.values.shape[3]

    @property
    def pixels(self) -> Tensor:
        """[N, H W, C], fp32, a view: the network computes channels last."""
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
        # `sums` came along for free: the slice was in the cache.
        self.__dict__.setdefault("sums", torch.cat(sums))
        return torch.cat(squares)

    @cached_property
    def averages(self) -> Tensor:
        """Mean over positions, [N, C], float64; exactly 0 for a map that never fires."""
        return self.sums / self.positions

    @cached_property
    def zeros(self) -> Tensor:
        """Number of positions that are exactly 0, [N, C], float64."""
        fired = [part.sign().abs_().sum(dim=1) for part in slices(self.pixels)]
        # fp32 counts exactly up to 2^24 positions, and casting a count costs less than a map.
        return self.positions - torch.cat(fired).double()


def by_position(values: Tensor) -> Tensor:
    """[N, C, H, W] as [N, H W, C]."""
    return values.permute(0, 2, 3, 1).flatten(1, 2)


def slices(pixels: Tensor) -> Iterator[Tensor]:
    """Parts of [N, P, C] along the images, small enough for the cache; all at once on a GPU."""
    images = (
        max(1, SLICE_VALUES // pixels[0].numel()) if pixels.device.type == "cpu" else len(pixels)
    )
    yield from pixels.split(images)


def doubles(pixels: Tensor) -> Iterator[Tensor]:
    """The same parts in float64. Each may be overwritten and is gone when the next one comes."""
    buffer: Tensor | None = None
    for part in slices(pixels):
        if buffer is None:
            buffer = torch.empty(part.shape, dtype=torch.float64, device=part.device)
        yield buffer[: len(part)].copy_(part)
