"""What a sweep found: the schema of its tables, the store that keeps them, and pandas frames.

>>> import results
>>> frame = results.load("runs/digits")  # doctest: +SKIP
"""

from results.analysis.accuracy import accuracy_table
from results.analysis.agreement import rank_agreement
from results.analysis.allocation import selection_against_allocation
from results.analysis.claims import claims
from results.analysis.comparison import paired_difference
from results.analysis.compensation import compensation_gain, mean_compensation_gain
from results.analysis.conclusion import conclusion
from results.analysis.equal_macs import at_equal_macs
from results.analysis.finetuning_control import finetuning_control
from results.analysis.identities import identities
from results.analysis.pareto import pareto
from results.analysis.planned import planned_differences
from results.analysis.ranking import rank_metrics
from results.storage.frames import (
    ManyFilesWarning,
    load,
    load_channels,
    load_history,
    load_scores,
    load_steps,
)
from results.storage.parquet_files import DamagedFileWarning
from results.storage.schema import CELLS, IMPORTANCES, SchemaError
from results.storage.store import Store, StoreError

__all__ = [
    "CELLS",
    "IMPORTANCES",
    "DamagedFileWarning",
    "ManyFilesWarning",
    "SchemaError",
    "Store",
    "StoreError",
    "accuracy_table",
    "at_equal_macs",
    "claims",
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
]
