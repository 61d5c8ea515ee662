"""The control that removes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prune_core.budgets.floor import Floor
from prune_core.budgets.registry import BudgetRule, Importances, Widths, register
from prune_core.networks import Architecture


@dataclass(frozen=True, kw_only=True)
class Unpruned(BudgetRule):
    """All channels of all layers, whatever the ratio."""

    @property
    def ranks(self) -> bool:
        """See `BudgetRule`: no score is read."""
        return False

    def widths(
        self,
        architecture: Architecture,
        ratio: float,
        floor: Floor,
        importances: Importances,
        **options: Any,
    ) -> Widths:
        """See `BudgetRule`."""
        return architecture.widths

    def kept(
        self,
        architecture: Architecture,
        ratio: float,
        floor: Floor,
        importances: Importances,
        **options: Any,
    ) -> list[Tensor]:
        """See `BudgetRule`."""
        return [torch.arange(width) for width in architecture.widths]

    def likely_widths(
        self, architecture: Architecture, ratio: float, floor: Floor, **options: Any
    ) -> Widths:
        """See `BudgetRule`."""
        return architecture.widths


register(Unpruned("unpruned", "unpruned", "All channels, for the control that is only fine-tuned."))
