"""The public names of `results` and where they are; each is imported when it is first used."""

from .analysis.accuracy import accuracy_table
from .analysis.agreement import rank_agreement
from .analysis.allocation import selection_against_allocation
from .analysis.claims import claims
from .analysis.comparison import paired_difference
from .analysis.compensation import compensation_gain, mean_compensation_gain
from .analysis.conclusion import conclusion
from .analysis.equal_macs import at_equal_macs
from .analysis.finetuning_control import finetuning_control
from .analysis.identities import identities
from .analysis.pareto import pareto
from .analysis.planned import planned_differences
from .analysis.ranking import rank_metrics
from .analysis.standing import standing
from .analysis.two_sweeps import SweepComparison, compare
from .storage.frames import (
    ManyFilesWarning,
    load,
    load_channels,
    load_history,
    load_scores,
    load_steps,
)
from .storage.parquet_files import DamagedFileWarning
from .storage.schema import CELLS, IMPORTANCES, SchemaError
from .storage.store import Store, StoreError

__all__ = [
    "CELLS",
    "IMPORTANCES",
    "DamagedFileWarning",
    "ManyFilesWarning",
    "SchemaError",
    "Store",
    "StoreError",
    "SweepComparison",
    "accuracy_table",
    "at_equal_macs",
    "claims",
    "compare",
    "compensation_gain",
    "conclusion",
    "finetuning_control",
    "identities",
    "load",
    "load_channels",
    "load_history",
    "load_scores",
    "load_steps",
    "mean_compensation_gain",
    "paired_difference",
    "pareto",
    "planned_differences",
    "rank_agreement",
    "rank_metrics",
    "selection_against_allocation",
    "standing",
]
