"""Accuracies over the seeds, with the interval of their mean."""

import math

import numpy as np
import pytest
from known_cells import cell, cells, failed, frame
from scipy import stats

import results


def test_interval_of_a_mean_agrees_with_scipy():
    values = [0.5, 0.7, 0.65]
    (row,) = results.accuracy_table(frame(cells({"random": values}))).to_dict("records")
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("values", [[0.5], [0.1, 0.1, 0.1]])
def test_equal_seeds_and_one_seed_have_no_interval(values):
    (row,) = results.accuracy_table(frame(cells({"random": values}))).to_dict("records")
    assert row["mean"] == pytest.approx(values[0])
    assert row["seeds"] == len(values)
    assert math.isnan(row["low"])
    assert math.isnan(row["high"])


def test_cells_that_did_not_reach_a_stage_do_not_count_as_seeds():
    rows = [cell("scratch", 0, 0.5, pruned_test_top1=None), cell("scratch", 1, 0.7), failed()]
    table = frame(rows)
    assert results.accuracy_table(table)["seeds"].tolist() == [2]
    assert results.accuracy_table(table, "pruned")["seeds"].tolist() == [1]


@pytest.mark.parametrize(("split", "images"), [("test", 400), ("validation", 25)])
def test_the_sampling_error_does_not_shrink_with_seeds(split, images):
    counts = {"test_images": 400, "validation_images": 25}
    for seeds in (1, 10):
        rows = cells({"random": [0.8] * seeds}, **counts)
        (row,) = results.accuracy_table(frame(rows), split=split).to_dict("records")
        assert row["test_error"] == pytest.approx((0.8 * 0.2 / images) ** 0.5)


def test_what_is_left_is_a_mean_over_the_seeds_that_are_ok():
    rows = [cell(seed=seed, macs=macs) for seed, macs in enumerate((1_000, 3_000))]
    rows.append(failed(seed=2, macs=9_000))
    (row,) = results.accuracy_table(frame(rows)).to_dict("records")
    assert (row["parameter_ratio"], row["macs_ratio"]) == (pytest.approx(0.3), pytest.approx(0.2))
