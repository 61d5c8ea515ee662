"""The checkpoints of a task's training, in FOLDER/artifacts/checkpoints."""

from __future__ import annotations

import time
from dataclasses import astuple

import torch

from prune_core.checkpoints import Checkpoint
from prune_core.training import Epoch
from sweep.stages.checkpoint_files import CHECKPOINTS, EPOCHS
from sweep.stages.workspace import Workspace

EVERY_S = 300.0
"""Seconds of training between two checkpoints: what an interruption may cost, and an epoch."""


class StoredCheckpoints:
    """The last checkpoint of one training; see `prune_core.checkpoints.Checkpoints`.

    Attributes
    ----------
    earlier_s : the seconds of the interrupted trainings that this one goes on after.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.artifacts = workspace.artifacts
        self.name = name
        self.earlier_s = 0.0
        self._began = self._kept = time.perf_counter()

    def last(self, beginning: str) -> Checkpoint | None:
        """The stored checkpoint, unless it is damaged or of a training that began otherwise."""
        found = self.artifacts.tensors(CHECKPOINTS, self.name)
        if found is None or found[1].get("beginning") != beginning:
            return None
        tensors, _ = found
        self.earlier_s = float(tensors.pop("seconds"))
        history = [
            Epoch(int(number), *figures) for number, *figures in tensors.pop("history").tolist()
        ]
        return Checkpoint(beginning, tensors, tuple(history))

    def due(self) -> bool:
        """Whether `EVERY_S` have passed since the last checkpoint, or since the beginning."""
        return time.perf_counter() - self._kept >= EVERY_S

    def keep(self, checkpoint: Checkpoint) -> None:
        """Stores a checkpoint.

        Raises
        ------
        StoreError
            If the file cannot be written.
        """
        self._kept = time.perf_counter()
        # As tensors, the figures keep all their digits.
        figures = [astuple(epoch) for epoch in checkpoint.history]
        spent = self.earlier_s + self._kept - self._began
        tensors = {
            **checkpoint.tensors,
            "history": torch.tensor(figures, dtype=torch.float64),
            "seconds": torch.tensor(spent, dtype=torch.float64),
        }
        metadata = {"beginning": checkpoint.beginning, EPOCHS: str(len(figures))}
        self.artifacts.put_tensors(CHECKPOINTS, self.name, tensors, metadata)

    def forget(self) -> None:
        """Removes the checkpoint, when the result of the training is stored."""
        self.artifacts.remove_tensors(CHECKPOINTS, self.name)
