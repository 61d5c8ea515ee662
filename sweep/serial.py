"""Runs tasks one after another in this process: for debugging, without Ray."""

from __future__ import annotations

import torch

from sweep.conductor import Conductor
from sweep.placement import Shares
from sweep.tasks import run


def execute(conductor: Conductor, shares: Shares) -> None:
    """Runs every task; breakpoints and profilers see all of it."""
    while (task := conductor.next()) is not None:
        torch.set_num_threads(shares[task.kind].threads)
        conductor.started(task)
        conductor.ended(task, run(conductor.place, task))
