"""Random crops and flips of a batch of uint8 images, on whatever device they lie."""

from __future__ import annotations

import torch
from torch import Tensor


def augment(images: Tensor, generator: torch.Generator, padding: int, flip: bool) -> Tensor:
    """Each image padded with black, cropped at random and, if asked, mirrored at random.

    Parameters
    ----------
    images : [N, C, H, W], uint8.
    generator : of the CPU, so that every device sees the same crops for the same seed.
    padding : black pixels added on every side before the crop; 0 leaves images in place.
    flip : mirror left and right with probability one half.

    Returns
    -------
    Tensor of the same shape and type, new memory.
    """
    count, colours, height, width = images.shape
    shifts = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
    rows = shifts[0, :, None] + torch.arange(height)
    columns = shifts[1, :, None] + torch.arange(width)
    if flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    index = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    flat = padded.flatten(2)
    index = index.to(images.device).flatten(1)[:, None].expand(-1, colours, -1)
    return flat.gather(2, index).view(count, colours, height, width)
