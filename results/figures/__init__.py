"""Figures of a sweep, each a matplotlib Figure made without pyplot.

>>> import results
>>> from results import figures
>>> frame = results.load("runs/digits")  # doctest: +SKIP
>>> figures.save(figures.accuracy(frame), "figures/accuracy")  # doctest: +SKIP
"""

from results.figures.accuracy import accuracy
from results.figures.agreement import agreement
from results.figures.differences import differences
from results.figures.fronts import pareto_fronts
from results.figures.style import save
from results.figures.training import training_curves
from results.figures.widths import kept_widths
from results.figures.without_training import without_training

__all__ = [
    "accuracy",
    "agreement",
    "differences",
    "kept_widths",
    "pareto_fronts",
    "save",
    "training_curves",
    "without_training",
]
