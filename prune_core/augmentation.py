"""Random crops and flips of uint8 images of any size, on their device.

The random numbers of a whole epoch are drawn on the CPU and copied to the device once. So the same
seed gives the same crops on every device, and no training step waits for the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Crops:
    """The positions of the crops in zero-padded images, and which images are mirrored.

    Attributes
    ----------
    padding : width of the zero padding in pixels; 0 means no shift.
    rows, columns : int64 [N], the upper left corner of each crop in the padded image.
    mirrored : bool [N], whether the image is mirrored horizontally.
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
        """Draws random crops; with `flip`, each image is mirrored with probability 1/2.

        Parameters
        ----------
        count : number of images.
        generator : a CPU generator.
        """
        rows, columns = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
        chances = torch.rand(count, generator=generator) if flip else torch.ones(count)
        return cls(padding, rows.to(device), columns.to(device), (chances < 0.5).to(device))

    def __getitem__(self, which: slice) -> Crops:
        """The crops of a slice of the images."""
        return Crops(self.padding, self.rows[which], self.columns[which], self.mirrored[which])

    def of(self, images: Tensor) -> Tensor:
        """The images [N, C, H, W] cropped and mirrored: a new tensor of the same shape and type."""
        _, colours, height, width = images.shape
        down = torch.arange(height, device=images.device)
        across = torch.arange(width, device=images.device)
        across = torch.where(self.mirrored[:, None], across.flip(0), across)
        framed = torch.nn.functional.pad(images, (self.padding,) * 4)
        rows = (self.rows[:, None] + down) * framed.shape[3]
        index = rows[:, :, None] + (self.columns[:, None] + across)[:, None, :]
        index = index.flatten(1)[:, None].expand(-1, colours, -1)
        return framed.flatten(2).gather(2, index).view_as(images)
