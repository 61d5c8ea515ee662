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
