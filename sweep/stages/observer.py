"""Receives the figures of a task while it runs."""

from __future__ import annotations

from collections.abc import Mapping

from prune_core.training import Epoch


class Observer:
    """Receives each epoch and the final figures. This base class ignores them."""

    def epoch(self, stage: str, epoch: Epoch) -> None:
        """Called after each epoch of the stage `baseline` or `finetune`."""

    def figures(self, figures: Mapping[str, object]) -> None:
        """Called at the end of the task; a cell sends the columns of its row."""

    def close(self) -> None:
        """Called after the last message of the task."""


SILENT = Observer()
