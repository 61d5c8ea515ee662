"""Budgets: from a ratio to widths and kept channels.

>>> from prune_core.budgets import BUDGETS
>>> sorted(BUDGETS)
['global', 'uniform_channels', 'uniform_parameters', 'unpruned', 'widths_of']
"""

from prune_core.budgets.channels import top
from prune_core.budgets.floor import (
    BudgetError,
    Floor,
    check_ratio,
    collapsed,
    lowest_ratio,
)
from prune_core.budgets.layerwise import local, uniform_channels, uniform_parameters
from prune_core.budgets.ranking import global_
from prune_core.budgets.registry import (
    BUDGET_VERSION,
    BUDGETS,
    BudgetRule,
    Importances,
    layerwise,
    lengths,
    ranking,
    rules_of,
)
from prune_core.budgets.unpruned import Unpruned

__all__ = [
    "BUDGETS",
    "BUDGET_VERSION",
    "BudgetError",
    "BudgetRule",
    "Floor",
    "Importances",
    "Unpruned",
    "check_ratio",
    "collapsed",
    "global_",
    "layerwise",
    "lengths",
    "local",
    "lowest_ratio",
    "ranking",
    "rules_of",
    "top",
    "uniform_channels",
    "uniform_parameters",
]
