"""Converts uint8 pixels to the input of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from prune_core.images import LabelledImages

PREPROCESSING_VERSION = 1

_PART = 512  # images that are counted at a time


@dataclass(frozen=True)
class Preprocessing:
    """Scales each colour to mean 0 and standard deviation 1 over the training images.

    Attributes
    ----------
    mean, deviation : mean and standard deviation of each colour, in units of 0 to 255.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    @classmethod
    def of(cls, images: LabelledImages | Tensor) -> Preprocessing:
        """Computes the scaling for training images from exact integer sums, a part at a time.

        Parameters
        ----------
        images : uint8 [N, 3, H, W], with or without labels.
        """
        parts: Iterable[Tensor]
        if isinstance(images, Tensor):
            parts = images.split(_PART)
        else:
            parts = (pixels for pixels, _ in images.batches(_PART))
        counts = torch.zeros(3, 256, dtype=torch.int64)
        for part in parts:
            for colour in range(3):
                counts[colour] += torch.bincount(part[:, colour].flatten(), minlength=256).cpu()
        histogram = counts.double()
        levels = torch.arange(256, dtype=torch.float64)
        count = histogram.sum(1)
        mean = (histogram * levels).sum(1) / count
        variance = (histogram * levels.square()).sum(1) / count - mean.square()
        # Do not scale a constant colour, to avoid a division by zero.
        deviation = torch.where(variance > 0, variance.clamp(min=0).sqrt(), 1.0)
        return cls(
            (float(mean[0]), float(mean[1]), float(mean[2])),
            (float(deviation[0]), float(deviation[1]), float(deviation[2])),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Scales uint8 images; returns fp32 [N, 3, H, W], channels last, on the same device."""
        return self.on(images.device)(images)

    def on(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """The same function for images on one device, for a loop over batches.

        The mean and the deviation are copied to the device here, once. On a GPU, a copy in each
        batch would make the CPU wait for all work before it.
        """
        both = torch.tensor((self.mean, self.deviation), dtype=torch.float32, device=device)
        mean, deviation = both.view(2, 3, 1, 1)

        def scale(images: Tensor) -> Tensor:
            scaled = (images.to(torch.float32) - mean) / deviation
            return scaled.contiguous(memory_format=torch.channels_last)

        return scale
