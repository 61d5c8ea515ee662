"""Whoever follows a task while it runs."""

from __future__ import annotations

from collections.abc import Mapping

from prune_core.training import Epoch


class Listener:
    """Hears of each epoch and of the figures at the end; this one does nothing with them."""

    def epoch(self, stage: str, epoch: Epoch) -> None:
        """An epoch of the stage `baseline` or `finetune` ended."""

    def figures(self, figures: Mapping[str, object]) -> None:
        """The task ended with these figures, as in the `cells` table where it is a cell."""

    def close(self) -> None:
        """Nothing more comes of this task."""


SILENT = Listener()
