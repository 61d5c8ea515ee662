"""Follows a task while it runs."""

from __future__ import annotations

from collections.abc import Mapping

from prune_core.training import Epoch


class Observer:
    """Receives each epoch and the figures at the end; this one ignores them."""

    def epoch(self, stage: str, epoch: Epoch) -> None:
        """An epoch of the stage `baseline` or `finetune` ended."""

    def figures(self, figures: Mapping[str, object]) -> None:
        """The task ended with these figures, as in the `cells` table where it is a cell."""

    def close(self) -> None:
        """The task sends nothing more."""


SILENT = Observer()
