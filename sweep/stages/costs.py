"""The cost of a network as columns of its row: size and latency."""

from __future__ import annotations

from functools import lru_cache

import torch

from prune_core.cost import multiply_accumulates, parameters
from prune_core.latency import measure
from prune_core.network import Architecture, SimpleNet
from results.storage.schema import LATENCY_BATCHES
from sweep.stages.rows import Row


def size(full: Architecture, net: SimpleNet) -> Row:
    """The columns of the pruned network's size and of the unpruned network's size."""
    # Count the parameters of the module itself, so that the figure does not rely on a formula.
    count = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    return {
        "parameters": count,
        "parameters_full": parameters(full),
        "parameter_ratio": count / parameters(full),
        "macs": multiply_accumulates(net.architecture),
        "macs_full": multiply_accumulates(full),
        "widths": list(net.architecture.widths),
        "widths_full": list(full.widths),
    }


def latencies(full: Architecture, net: SimpleNet) -> Row:
    """The columns of the pruned network's latency and of the unpruned network's latency.

    Latency does not depend on the weights, so it is measured before training, which may fail.
    """
    device = net.classifier.weight.device
    return _columns("", net) | _of_full(full, device, torch.get_num_threads())


@lru_cache(maxsize=8)
def _of_full(architecture: Architecture, device: torch.device, threads: int) -> Row:
    """The unpruned network's columns, measured once per process, device and thread count."""
    with torch.random.fork_rng(devices=[]):
        return _columns("full_", SimpleNet(architecture).to(device))


def _columns(of: str, net: SimpleNet) -> Row:
    row: Row = {}
    for batch in LATENCY_BATCHES:
        latency = measure(net, batch)
        row[f"latency_{of}{batch}_ms"] = latency.median_ms
        row[f"latency_{of}{batch}_iqr_ms"] = latency.iqr_ms
    return row
