"""Student t intervals and tests of means over seeds, their power, and Holm's correction.

An interval over seeds says how much varies what the seeds make anew. Seeds that start from the
weights of one file make only fine-tuning and seeded metrics anew, not networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

LEVEL = 0.95
"""Confidence level of all intervals; the significance level of tests is one minus this."""

POWER = 0.8
"""Probability with which a test finds the smallest detectable difference."""

# Smaller deviations are rounding errors: an accuracy is a count divided by a number of images.
NO_SPREAD = 1e-10

Values = NDArray[np.float64]


def t_interval(mean: Any, deviation: Any, count: Any) -> tuple[Values, Values]:
    """Lower and upper ends of the 95 % t intervals of means.

    Parameters
    ----------
    mean, deviation : mean and sample standard deviation of the values, as fractions.
    count : number of values.

    Returns
    -------
    Two arrays. They are NaN for a single value and for values that are all equal. A few accuracies
    on a finite number of images can be equal by chance, so an interval of width 0 would claim a
    certainty that was not measured.
    """
    mean, deviation = np.asarray(mean, dtype=float), np.asarray(deviation, dtype=float)
    count = np.asarray(count, dtype=float)
    known = (count > 1) & (deviation > NO_SPREAD)
    freedom = np.where(known, count - 1, np.nan)
    quantile = scipy.stats.t.ppf((1 + LEVEL) / 2, freedom)
    half = quantile * deviation / np.sqrt(np.where(known, count, 1))
    return mean - half, mean + half


def over_seeds(
    rows: pd.DataFrame,
    names: Sequence[str],
    column: str,
    unit: float = 1.0,
    **others: tuple[str, str],
) -> pd.DataFrame:
    """Mean, deviation, count and 95 % t interval of a column over the seeds of each group.

    Parameters
    ----------
    rows : one row per seed; missing values do not count.
    names : columns that identify a group.
    column : values in the unit of `unit`.
    unit : 1 for fractions, 100 for percentage points.
    others : further columns, each as (column, aggregation).

    Returns
    -------
    DataFrame, one row for each group: `names`, `mean`, `deviation` (sample standard deviation; NaN
    for one seed), `low` and `high` (see `t_interval`), `seeds`, and the others. If the seeds start
    from the weights of one file, the interval says how much fine-tuning and seeded metrics vary,
    not how much networks vary.
    """
    groups = rows.groupby(list(names), dropna=False)
    summary = {"mean": (column, "mean"), "deviation": (column, "std"), "seeds": (column, "count")}
    table = groups.agg(**summary, **others).reset_index()
    low, high = t_interval(table["mean"] / unit, table["deviation"] / unit, table["seeds"])
    table.insert(table.columns.get_loc("seeds"), "low", unit * low)
    table.insert(table.columns.get_loc("seeds"), "high", unit * high)
    return table


def t_test(mean: Any, deviation: Any, count: Any, against: Any = 0.0) -> Values:
    """Two-sided p values of means that differ from `against`.

    Returns
    -------
    Array in [0, 1]; NaN where `t_interval` gives no interval.
    """
    mean, deviation = np.asarray(mean, dtype=float), np.asarray(deviation, dtype=float)
    count = np.asarray(count, dtype=float)
    known = (count > 1) & (deviation > NO_SPREAD)
    error = np.where(known, deviation, np.nan) / np.sqrt(np.where(known, count, 1))
    distance = np.abs((mean - np.asarray(against, dtype=float)) / error)
    p: Values = 2 * scipy.stats.t.sf(distance, np.where(known, count - 1, np.nan))
    return p


def detectable(deviation: Any, count: Any) -> Values:
    """The smallest true mean that a two-sided t test at 0.05 finds with a probability of 0.8.

    It is computed from the noncentral t distribution as if the sample deviation were the true one.

    Parameters
    ----------
    deviation : sample standard deviation of the values.
    count : number of values.

    Returns
    -------
    Array in the unit of `deviation`; NaN where `t_interval` gives no interval.
    """
    deviation, count = np.asarray(deviation, dtype=float), np.asarray(count, dtype=float)
    known = (count > 1) & (deviation > NO_SPREAD)
    shift = np.vectorize(_shift_of_power, otypes=[float])(np.where(known, count, np.nan))
    found: Values = shift * deviation / np.sqrt(np.where(known, count, 1))
    return found


@cache
def _shift_of_power(count: float) -> float:
    """Noncentrality of the t distribution at which the test of `count` values has its power."""
    if np.isnan(count):
        return float("nan")
    freedom = count - 1
    limit = scipy.stats.t.ppf((1 + LEVEL) / 2, freedom)

    def lacking(shift: float) -> float:
        beyond = scipy.stats.nct.sf(limit, freedom, shift)
        # SciPy gives NaN instead of 0 far out in the other tail.
        other = np.nan_to_num(scipy.stats.nct.cdf(-limit, freedom, shift))
        return float(beyond + other - POWER)

    return float(scipy.optimize.brentq(lacking, 0.0, 1.5 * limit + 3))


def sampling_error(accuracy: Any, images: Any) -> Values:
    """Standard error of an accuracy that is due to the finite number of test images.

    It is sqrt(p (1 - p) / N) for the accuracy p of one network on N images. For the mean accuracy
    of several networks on the same images it is an upper bound: the fraction of them that
    recognises an image lies in [0, 1], and no variable in [0, 1] of mean p has a larger variance.

    Returns
    -------
    Array in the unit of `accuracy`, a fraction; NaN where one of the two is missing.
    """
    accuracy, images = np.asarray(accuracy, dtype=float), np.asarray(images, dtype=float)
    # A mean of ones may be slightly above 1.
    variance = np.maximum(accuracy * (1 - accuracy), 0.0)
    error: Values = np.sqrt(variance / np.where(images > 0, images, np.nan))
    return error


def holm(p: pd.Series[float]) -> pd.Series[float]:
    """Holm's corrected p values: the familywise error rate is at most the level of the test.

    The family is all values that are not NaN (Holm 1979, Scandinavian Journal of Statistics 6).
    """
    known = p.dropna().sort_values(kind="stable")
    factors = np.arange(len(known), 0, -1)
    corrected = np.minimum(np.maximum.accumulate(known.to_numpy() * factors), 1.0)
    return pd.Series(corrected, index=known.index, dtype=float).reindex(p.index)
