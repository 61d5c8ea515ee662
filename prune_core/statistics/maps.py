"""Feature maps of one layer for a batch of images, and sums that several statistics share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, cached_property

import torch
from torch import Tensor

# Maps are cast to float64 in slices, into a buffer of 1 MiB that fits into the cache of a CPU core.
# This is several times faster than casting a whole batch.
SLICE_VALUES = 1 << 17

# Squares are taken about zero unless the square of a channel's mean is larger than so many times
# its variance. The variance then loses at most 2 of the 15 digits of float64.
FAR = 100.0

# Bytes of an int64.
BYTES = 8


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
    far : whether the mean of a channel is so large that `squares` need the origin; without it they
        take one pass over the maps less. The same for all images.
    """

    def __init__(
        self,
        values: Tensor,
        labels: Tensor,
        origin: Tensor,
        gradients: Tensor | None = None,
        far: bool = True,
    ) -> None:
        self.values, self.labels = values, labels
        self.origin, self.gradients, self.far = origin, gradients, far

    @property
    def positions(self) -> int:
        """Number of positions, H W."""
        return self.values.shape[2] * self.values.shape[3]

    @property
    def pixels(self) -> Tensor:
        """The maps as a view [N, H W, C], fp32, because the network computes channels last."""
        return by_position(self.values)

    @property
    def pieces(self) -> Tensor:
        """`pixels` with large images cut into pieces, [N k, H W / k, C]; see `summed`."""
        return pieces_of(self.pixels)

    @cached_property
    def centre(self) -> Tensor:
        """The point that `squares` are measured from, [C], float64: the origin, or zero."""
        return self.origin if self.far else torch.zeros_like(self.origin)

    @cached_property
    def sums(self) -> Tensor:
        """Sum over positions, [N, C], float64."""
        return self.summed([part.sum(dim=1) for part in doubles(self.pieces)])

    @cached_property
    def squares(self) -> Tensor:
        """Sum over positions of the squared distance from `centre`, [N, C], float64."""
        sums, squares = [], []
        for part in doubles(self.pieces):
            sums.append(part.sum(dim=1))
            if self.far:
                part.sub_(self.origin)
            squares.append(part.square_().sum(dim=1))
        # `sums` costs almost nothing here, because the slice is in the cache.
        self.__dict__.setdefault("sums", self.summed(sums))
        return self.summed(squares)

    @cached_property
    def magnitudes(self) -> Tensor:
        """Sum over positions of the absolute values, [N, C], float64."""
        if bool(self.values.amin() >= 0):
            return self.sums
        return self.summed([part.abs_().sum(dim=1) for part in doubles(self.pieces)])

    @cached_property
    def averages(self) -> Tensor:
        """Mean over positions, [N, C], float64; exactly 0 for a map that never fires."""
        return self.sums / self.positions

    @cached_property
    def average_squares(self) -> Tensor:
        """Squared distance of `averages` from `origin`, [N, C], float64."""
        return (self.averages - self.origin).square_()

    @cached_property
    def zeros(self) -> Tensor:
        """Number of positions with value exactly 0, [N, C], float64."""
        return self.positions - nonzeros(self.pixels).double()

    def summed(self, parts: Sequence[Tensor]) -> Tensor:
        """Sums [N, C] of the images from those of the slices of `pieces`, in order."""
        of_pieces = torch.cat(list(parts)) if len(parts) > 1 else parts[0]
        if len(of_pieces) == len(self.values):
            return of_pieces
        return of_pieces.view(len(self.values), -1, of_pieces.shape[1]).sum(dim=1)


def first_origin(values: Tensor) -> tuple[Tensor, bool]:
    """`origin` and `far` of all `Maps` of a layer, from those of the first images.

    Parameters
    ----------
    values : [N, C, H, W], fp32.
    """
    labels = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    none = values.new_zeros(values.shape[1], dtype=torch.float64)
    maps = Maps(values, labels, none, far=False)
    power = maps.squares.mean(dim=0) / maps.positions
    origin = maps.averages.mean(dim=0)
    variance = power - origin.square()
    return origin, bool((origin.square() > FAR * variance.clamp(min=0)).any())


def by_position(values: Tensor) -> Tensor:
    """Reshapes [N, C, H, W] to [N, H W, C]."""
    return values.permute(0, 2, 3, 1).flatten(1, 2)


def nonzeros(pixels: Tensor) -> Tensor:
    """Number of positions with values other than 0, [N, C], int64, from [N, P, C]."""
    fired = pixels.bool().contiguous()
    images, positions, channels = fired.shape
    if positions % BYTES:
        return fired.sum(dim=1)
    # Eight counts are added at once, as the bytes of an integer, which hold up to 255 each.
    words = fired.flatten(1).view(torch.int64).view(images, -1, channels)
    count = _equal_parts(words.shape[1], 255)
    sums = words.unflatten(1, (count, -1)).sum(dim=2)
    return sums.view(torch.uint8).view(images, -1, channels).sum(dim=1)


def pieces_of(pixels: Tensor) -> Tensor:
    """Cuts the positions of images that are larger than a slice, [N, P, C] to [N k, P / k, C].

    The number k of pieces depends on P and C alone, so that sums do not depend on the batch.
    """
    if pixels.device.type != "cpu":
        return pixels
    count = _equal_parts(pixels.shape[1], max(1, SLICE_VALUES // pixels.shape[2]))
    return pixels.unflatten(1, (count, -1)).flatten(0, 1) if count > 1 else pixels


@cache
def _equal_parts(length: int, most: int) -> int:
    """The smallest number of equal parts of a length that are each at most so long."""
    return next(
        count for count in range(1, length + 1) if length % count == 0 and length // count <= most
    )


def slices(pixels: Tensor) -> Iterator[Tensor]:
    """Splits [N, P, C] along the first axis into parts for the cache; one part on a GPU."""
    rows = max(1, SLICE_VALUES // pixels[0].numel()) if pixels.device.type == "cpu" else len(pixels)
    yield from pixels.split(rows)


def doubles(pixels: Tensor) -> Iterator[Tensor]:
    """The parts of `slices` in float64, in one buffer: each part overwrites the previous one."""
    buffer: Tensor | None = None
    for part in slices(pixels):
        if buffer is None:
            buffer = torch.empty(part.shape, dtype=torch.float64, device=part.device)
        yield buffer[: len(part)].copy_(part)
