"""Where a module's tensors lie."""

from __future__ import annotations

import torch
from torch import nn


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters, which all lie on one device."""
    return next(module.parameters()).device
