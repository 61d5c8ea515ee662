"""Budgets: from a ratio to widths and kept channels.

>>> from prune_core.budgets import rules_of
>>> rules_of("local")
['uniform_parameters', 'uniform_macs', 'uniform_channels', 'erk', 'widths', 'sensitivity']
>>> rules_of("global")
['global']
"""

# Rules are listed in the order in which these modules register them.
# isort: off
from prune_core.budgets.channels import top
from prune_core.budgets.floor import (
    BudgetError,
    Floor,
    check_ratio,
    collapsed,
    lowest_ratio,
)
from prune_core.budgets.layerwise import (
    erk,
    local,
    uniform_channels,
    uniform_macs,
    uniform_parameters,
)
from prune_core.budgets.ranking import global_
from prune_core.budgets.registry import (
    BUDGET_VERSION,
    BUDGETS,
    BudgetRule,
    Importances,
    Loss,
    RatioOf,
    Scope,
    layerwise,
    lengths,
    ranking,
    rules_of,
)
from prune_core.budgets.fixed import FixedWidths
from prune_core.budgets.sensitivity import held_out_loss, sensitivity
from prune_core.budgets.unpruned import Unpruned
from prune_core.budgets.choice import BudgetChoice

# isort: on

__all__ = [
    "BUDGETS",
    "BUDGET_VERSION",
    "BudgetChoice",
    "BudgetError",
    "BudgetRule",
    "FixedWidths",
    "Floor",
    "Importances",
    "Loss",
    "RatioOf",
    "Scope",
    "Unpruned",
    "check_ratio",
    "collapsed",
    "erk",
    "global_",
    "held_out_loss",
    "layerwise",
    "lengths",
    "local",
    "lowest_ratio",
    "ranking",
    "rules_of",
    "sensitivity",
    "top",
    "uniform_channels",
    "uniform_macs",
    "uniform_parameters",
]
