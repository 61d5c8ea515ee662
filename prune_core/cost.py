"""The cost of a network from its widths: trainable parameters and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Sequence

from prune_core.network import IMAGE_SIZE, INPUT_CHANNELS, Architecture

# The scalars of a channel: the convolution's bias, and gamma and beta of batch normalisation.
SCALARS_PER_CHANNEL = 3


def parameters(architecture: Architecture, widths: Sequence[int] | None = None) -> int:
    """Number of trainable parameters, including biases and batch normalisation.

    P(k) = sum_l k_l (k_{l-1} K_l^2 + 3) + k_L classes + classes, with k_0 = 3.
    """
    widths = architecture.widths if widths is None else widths
    before, total = INPUT_CHANNELS, architecture.classes
    for width, kernel in zip(widths, architecture.kernels, strict=True):
        total += width * (before * kernel**2 + SCALARS_PER_CHANNEL)
        before = width
    return total + before * architecture.classes


def multiply_accumulates(architecture: Architecture, image_size: int = IMAGE_SIZE) -> int:
    """Multiply-accumulates (MACs) of convolutions and linear layer per image, without biases.

    Parameters
    ----------
    image_size : height and width of the image in pixels.
    """
    before, total, side = INPUT_CHANNELS, 0, image_size
    for width, kernel, pooled in zip(
        architecture.widths, architecture.kernels, architecture.pooled, strict=True
    ):
        total += side**2 * width * before * kernel**2
        before = width
        side = side // 2 if pooled else side
    return total + before * architecture.classes
