"""Intervals and corrected p values agree with scipy and statsmodels."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats
from statsmodels.stats.multitest import multipletests

from results.analysis.intervals import holm, t_interval, t_test

fractions = some.floats(0, 1).map(lambda value: round(value, 4))
samples = some.lists(fractions, min_size=2, max_size=8).filter(lambda values: np.std(values) > 1e-6)


@given(samples)
def test_intervals_agree_with_scipy(values):
    found = t_interval(np.mean(values), np.std(values, ddof=1), len(values))
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@given(samples, samples)
def test_p_agrees_with_scipys_paired_test(one, other):
    size = min(len(one), len(other))
    one, other = np.array(one[:size]), np.array(other[:size])
    if np.std(one - other) < 1e-6:
        return
    difference = one - other
    p = t_test(difference.mean(), difference.std(ddof=1), size)
    assert p == pytest.approx(stats.ttest_rel(one, other).pvalue, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "why"),
    [([0.5], "one value"), ([0.5, 0.5, 0.5], "no spread"), ([0.1 + 0.2, 0.3, 0.3], "rounding")],
)
def test_without_a_spread_there_is_no_interval_and_no_p(values, why):
    summary = (np.mean(values), pd.Series(values).std(), len(values))
    assert np.isnan(t_interval(*summary)).all(), why
    assert np.isnan(t_test(*summary)), why


def test_the_smallest_real_spread_has_an_interval():
    # In one of three seeds, one more image of 100,000 is correct.
    values = np.array([0.5, 0.5, 0.50001])
    low, high = t_interval(values.mean(), values.std(ddof=1), 3)
    assert low < 0.5 < high < 0.50003


@pytest.mark.parametrize("size", [0, 1, 2, 7, 30])
def test_holm_agrees_with_statsmodels_and_ignores_missing_values(size):
    chance = np.random.default_rng(size)
    # Small, equal and missing values.
    p = pd.Series(chance.random(size) ** 4).round(3).mask(chance.random(size) < 0.3)
    p.index = [f"row {at}" for at in range(size)]
    found = holm(p)
    assert list(found.index) == list(p.index)
    assert (found.isna() == p.isna()).all()
    if p.notna().any():
        expected = multipletests(p.dropna().to_numpy(), method="holm")[1]
        np.testing.assert_allclose(found.dropna(), expected, rtol=1e-12)
