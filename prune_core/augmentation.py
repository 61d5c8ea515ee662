"""Random crops and flips of uint8 images, on whatever device they lie.

What is random is drawn for a whole epoch at once, on the processor, and sent to the device once:
every device then sees the same crops for the same seed, and no step waits for the processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Crops:
    """Where images are cut out of themselves with a black frame, and which are mirrored.

    Attributes
    ----------
    padding : width of the frame in pixels; 0 leaves images in place.
    rows, columns : int64 [N], the upper left corner of each cut in the framed image.
    mirrored : bool [N], whether left and right are exchanged.
    """

    padding: int
    rows: Tensor
    columns: Tensor
    mirrored: Tensor

    @classmethod
    def draw(
        cls,
        count: int,
        generator: torch.Generator,
        padding: int,
        flip: bool,
        device: torch.device | None = None,
    ) -> Crops:
        """Random ones for so many images; with `flip` each is mirrored with probability one half.

        Parameters
        ----------
        generator : of the CPU.
        """
        rows, columns = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
        chances = torch.rand(count, generator=generator) if flip else torch.ones(count)
        return cls(padding, rows.to(device), columns.to(device), (chances < 0.5).to(device))

    def __getitem__(self, which: slice) -> Crops:
        """Those of some of the images."""
        return Crops(self.padding, self.rows[which], self.columns[which], self.mirrored[which])

    def of(self, images: Tensor) -> Tensor:
        """The images [N, C, H, W], cut and mirrored; new memory of the same shape and type."""
        _, colours, height, width = images.shape
        down = torch.arange(height, device=images.device)
        across = torch.arange(width, device=images.device)
        across = torch.where(self.mirrored[:, None], across.flip(0), across)
        framed = torch.nn.functional.pad(images, (self.padding,) * 4)
        rows = (self.rows[:, None] + down) * framed.shape[3]
        index = rows[:, :, None] + (self.columns[:, None] + across)[:, None, :]
        index = index.flatten(1)[:, None].expand(-1, colours, -1)
        return framed.flatten(2).gather(2, index).view_as(images)
