"""Intervals and corrected p values agree with scipy and statsmodels."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from results.analysis.intervals import detectable, holm, sampling_error, t_interval, t_test

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


@given(samples, some.floats(-1, 1))
def test_p_against_another_mean_agrees_with_scipy(values, mean):
    p = t_test(np.mean(values), np.std(values, ddof=1), len(values), mean)
    assert p == pytest.approx(stats.ttest_1samp(values, mean).pvalue, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 10, 30])
def test_detectable_differences_agree_with_statsmodels(count):
    effect = TTestPower().solve_power(nobs=count, alpha=0.05, power=0.8)
    assert detectable(2.5, count) == pytest.approx(2.5 * effect, rel=1e-6)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_a_detectable_difference_is_found_in_four_of_five_simulated_studies(count):
    studies = 20_000
    values = np.random.default_rng(count).normal(detectable(1.0, count), 1.0, (studies, count))
    found = t_test(values.mean(axis=1), values.std(axis=1, ddof=1), count) < 0.05
    # The standard error of the fraction found is 0.003.
    assert found.mean() == pytest.approx(0.8, abs=0.012)


@pytest.mark.parametrize(("deviation", "count"), [(0.0, 3), (np.nan, 1), (np.nan, 0)])
def test_without_a_spread_nothing_is_detectable(deviation, count):
    assert np.isnan(detectable(deviation, count))


def test_the_sampling_error_is_that_of_a_binomial_fraction():
    simulated = np.random.default_rng(0).binomial(400, 0.9, 50_000) / 400
    assert sampling_error(0.9, 400) == pytest.approx(simulated.std(), rel=0.02)
    assert sampling_error(0.9, 400) == pytest.approx(0.015)
    assert np.isnan(sampling_error([0.9, np.nan], [0, 400])).all()
    # The mean of three ones may be rounded up.
    assert sampling_error(1 + 2e-16, 400) == 0


@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_the_sampling_errors_of_two_arms_bound_that_of_their_difference(networks, shared):
    # Images differ in how hard they are, so networks are right on the same ones: `shared` of the
    # probability to be right depends on the image.
    chance = np.random.default_rng(networks)
    hard = chance.random((4_000, 100, 1)) < 0.7
    easy = shared * hard + (1 - shared) * 0.7
    arms = [(chance.random((4_000, 100, networks)) < easy).mean(axis=(1, 2)) for _ in range(2)]
    one, other = (sampling_error(arm.mean(), 100) for arm in arms)
    assert (arms[0] - arms[1]).std() <= 1.02 * np.hypot(one, other)


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
