"""What a sweep found: the schema of its tables, the store that keeps them, and pandas frames.

>>> import results
>>> frame = results.load("runs/digits")  # doctest: +SKIP
"""

from results.accuracy import accuracy_table
from results.allocation import selection_against_allocation
from results.channels import rank_agreement
from results.claims import claims
from results.comparison import paired_difference
from results.conclusion import conclusion
from results.files import DamagedFileWarning
from results.frames import ManyFilesWarning, load, load_channels, load_history, load_scores
from results.pareto import pareto
from results.ranking import rank_metrics
from results.schema import SchemaError
from results.store import Store, StoreError

__all__ = [
    "DamagedFileWarning",
    "ManyFilesWarning",
    "SchemaError",
    "Store",
    "StoreError",
    "accuracy_table",
    "claims",
    "conclusion",
    "load",
    "load_channels",
    "load_history",
    "load_scores",
    "paired_difference",
    "pareto",
    "rank_agreement",
    "rank_metrics",
    "selection_against_allocation",
]
