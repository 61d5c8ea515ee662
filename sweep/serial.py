"""Runs tasks one after another in this process: for debugging, without Ray."""

from __future__ import annotations

import torch

from prune_core.memory import keep_freed_memory
from sweep.conductor import Conductor
from sweep.placement import Shares
from sweep.tasks import run


def execute(conductor: Conductor, shares: Shares) -> None:
    """Runs every task; breakpoints and profilers see all of it."""
    keep_freed_memory()
    while (task := conductor.next()) is not None:
        torch.set_num_threads(shares[task.kind].threads)
        conductor.started(task)
        conductor.ended(task, run(conductor.place, task))
