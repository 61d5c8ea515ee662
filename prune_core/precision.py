"""The device and the numerical precision of training and evaluation.

Training may run in bfloat16 autocast. Every reported figure (accuracy, loss, channel statistics) is
computed in fp32, so that a user who loads the network gets the same figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]


def best_device() -> torch.device:
    """The GPU of this process if it has one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 products, not only an emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve(precision: Precision, device: torch.device) -> Literal["bf16", "fp32"]:
    """Replaces `auto` by the precision for this device."""
    if precision == "auto":
        return "bf16" if computes_bf16(device) else "fp32"
    return precision


def autocast(precision: Literal["bf16", "fp32"], device: torch.device) -> torch.autocast:
    """The autocast context of a training step."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def full_precision() -> Iterator[None]:
    """A context in which everything is computed in fp32; used for all reported figures.

    By default, convolutions on a GPU run in TF32, with 10 bits of mantissa. An outer autocast would
    reduce the precision further.
    """
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products
