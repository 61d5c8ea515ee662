"""The cost of a network as columns of its row: size and latency."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from prune_core.cost import (
    count_multiply_accumulates,
    count_parameters,
    multiply_accumulates,
    parameters,
)
from prune_core.latency import measure
from prune_core.networks import Architecture, architecture_of, device_of
from results.storage.schema import LATENCY_BATCHES
from sweep.stages.rows import Row

LONGEST_RUN = 30.0
"""Seconds of a forward pass, estimated from a single image, above which latency is not measured.

A measurement takes at least six passes. A large network on a CPU would otherwise spend minutes of
each cell on the latency of a batch of 256 images.
"""


def size(full: Architecture, net: nn.Module) -> Row:
    """The columns of the pruned network's size and of the unpruned network's size."""
    count = count_parameters(net)
    macs, macs_full = count_multiply_accumulates(net, full.image_size), multiply_accumulates(full)
    return {
        "parameters": count,
        "parameters_full": parameters(full),
        "parameter_ratio": count / parameters(full),
        "macs": macs,
        "macs_full": macs_full,
        "mac_ratio": macs / macs_full,
        "widths": list(architecture_of(net).widths),
        "widths_full": list(full.widths),
        "group_names": list(full.groups.names),
    }


def latencies(full: Architecture, net: nn.Module) -> Row:
    """The columns of the pruned network's latency and of the unpruned network's latency.

    Latency does not depend on the weights, so it is measured before training, which may fail.
    """
    device = device_of(net)
    return _columns("", net) | _of_full(full, device, torch.get_num_threads())


@lru_cache(maxsize=8)
def _of_full(architecture: Architecture, device: torch.device, threads: int) -> Row:
    """The unpruned network's columns, measured once per process, device and thread count."""
    with torch.random.fork_rng(devices=[]):
        return _columns("full_", architecture.build().to(device))


def _columns(of: str, net: nn.Module) -> Row:
    row: Row = {}
    single = 0.0
    for batch in LATENCY_BATCHES:
        if batch * single > LONGEST_RUN:
            continue  # columns that are left out are null: not measured
        try:
            latency = measure(net, batch, architecture_of(net).image_size)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            continue  # a large batch of large images; the cell itself may well fit
        single = single or latency.median_ms / 1000
        row[f"latency_{of}{batch}_ms"] = latency.median_ms
        row[f"latency_{of}{batch}_iqr_ms"] = latency.iqr_ms
    return row
