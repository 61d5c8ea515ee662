"""Means over seeds with their Student t intervals, and Holm's correction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

LEVEL = 0.95
"""Of every interval; a test's level is one minus this."""

# A spread of rounding errors is none: an accuracy is a count over the number of images.
NO_SPREAD = 1e-10

Values = NDArray[np.float64]


def t_interval(mean: Any, deviation: Any, count: Any) -> tuple[Values, Values]:
    """Lower and upper end of the 95 % t interval of means.

    Parameters
    ----------
    mean, deviation : of the values, the sample standard deviation; fractions.
    count : number of values.

    Returns
    -------
    NaN where one value, or values that are all equal, give no interval: of few values on a
    finite number of images some are equal by chance, and an interval of width 0 would claim to
    be sure of what was never measured.
    """
    mean, deviation = np.asarray(mean, dtype=float), np.asarray(deviation, dtype=float)
    count = np.asarray(count, dtype=float)
    known = (count > 1) & (deviation > NO_SPREAD)
    freedom = np.where(known, count - 1, np.nan)
    quantile = scipy.stats.t.ppf((1 + LEVEL) / 2, freedom)
    half = quantile * deviation / np.sqrt(np.where(known, count, 1))
    return mean - half, mean + half


def t_test(mean: Any, deviation: Any, count: Any) -> Values:
    """Two-sided p that the mean is zero; NaN where `t_interval` gives no interval."""
    mean, deviation = np.asarray(mean, dtype=float), np.asarray(deviation, dtype=float)
    count = np.asarray(count, dtype=float)
    known = (count > 1) & (deviation > NO_SPREAD)
    error = np.where(known, deviation, np.nan) / np.sqrt(np.where(known, count, 1))
    p: Values = 2 * scipy.stats.t.sf(np.abs(mean / error), np.where(known, count - 1, np.nan))
    return p


def holm(p: pd.Series[float]) -> pd.Series[float]:
    """Holm's corrected p, such that the chance of any false rejection is at most the level.

    The family is all values that are not NaN (Holm 1979, Scandinavian Journal of Statistics 6).
    """
    known = p.dropna().sort_values(kind="stable")
    factors = np.arange(len(known), 0, -1)
    corrected = np.minimum(np.maximum.accumulate(known.to_numpy() * factors), 1.0)
    return pd.Series(corrected, index=known.index, dtype=float).reindex(p.index)
