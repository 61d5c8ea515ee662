"""Differences at equal multiply-accumulates, interpolated between the networks of a metric."""

import numpy as np
import pandas as pd
import pytest
from known_cells import cell, failed, frame

import results

FULL = 10_000


def curve(metric, seed, points, **changes):
    """Cells of one metric and seed, one for each pair of MACs and accuracy."""
    return [
        cell(metric, seed, accuracy, ratio=(at + 1) / 10, macs=macs, **changes)
        for at, (macs, accuracy) in enumerate(points)
    ]


def compared(rows, ratios=(0.2,), **options):
    return results.at_equal_macs(frame(rows), "random", "output_l1", ratios, **options)


def only(table):
    (row,) = table.to_dict("records")
    return row


def test_accuracies_are_linear_in_the_logarithm_of_the_macs():
    rows = curve("random", 0, [(1_000, 0.40), (4_000, 0.60)], parameter_ratio=0.3)
    rows += curve("output_l1", 0, [(1_000, 0.50), (2_000, 0.55), (8_000, 0.70)])
    found = only(compared(rows))
    # 0.2 is halfway from 0.1 to 0.4 in the logarithm, and a network of the reference.
    assert found["accuracy"] == pytest.approx(0.50)
    assert found["accuracy_reference"] == pytest.approx(0.55)
    assert found["difference_points"] == pytest.approx(-5)
    assert (found["macs_ratio"], found["parameter_ratio"]) == (0.2, pytest.approx(0.3))
    assert (found["seeds"], found["unpaired"]) == (1, 0)


def test_metrics_that_need_other_macs_are_compared_at_their_own_parameters():
    # Equal at equal parameters, but random reaches this with a quarter of the MACs.
    rows = []
    for seed in range(3):
        shift = seed / 100
        rows += curve("random", seed, [(1_000, 0.5 + shift), (2_000, 0.6 + 2 * shift)])
        rows += curve("output_l1", seed, [(2_000, 0.4 + shift), (8_000, 0.6 + shift)])
    found = only(compared(rows))
    differences = 100 * np.array([0.2, 0.21, 0.22])
    assert found["difference_points"] == pytest.approx(differences.mean())
    assert found["deviation_points"] == pytest.approx(differences.std(ddof=1))
    assert found["seeds"] == 3
    assert found["low_points"] < 21 < found["high_points"]


@pytest.mark.parametrize("ratio", [0.05, 0.0999, 0.4001, 1.0])
def test_nothing_is_extrapolated(ratio):
    rows = curve("random", 0, [(1_000, 0.4), (4_000, 0.6)])
    rows += curve("output_l1", 0, [(100, 0.1), (FULL, 0.9)])
    found = only(compared(rows, [ratio]))
    assert np.isnan(found["difference_points"])
    assert (found["seeds"], found["unpaired"]) == (0, 1)
    assert found["note"] == "outside the MACs that both metrics cover"


def test_ranges_that_do_not_overlap_are_noted_at_every_ratio():
    rows = curve("random", 0, [(200, 0.4), (500, 0.6)])
    rows += curve("output_l1", 0, [(9_000, 0.1), (9_500, 0.9)])
    table = results.at_equal_macs(frame(rows), None, "output_l1")
    assert table["macs_ratio"].tolist() == [0.1, 0.2, 0.3, 0.5, 0.7]
    assert set(table["note"]) == {"outside the MACs that both metrics cover"}


def test_each_seed_has_its_own_range():
    rows = curve("random", 0, [(1_000, 0.4), (4_000, 0.6)])
    rows += curve("random", 1, [(3_000, 0.4), (4_000, 0.6)])
    for seed in (0, 1):
        rows += curve("output_l1", seed, [(1_000, 0.4), (4_000, 0.4)])
    found = only(compared(rows))
    assert (found["seeds"], found["unpaired"]) == (1, 1)
    assert found["difference_points"] == pytest.approx(10)


def test_a_failed_cell_is_not_bridged():
    rows = curve("random", 0, [(1_000, 0.4), (4_000, 0.6)])
    rows.append(failed("random", 0, ratio=0.9, macs=1_500))
    rows += curve("output_l1", 0, [(1_000, 0.4), (4_000, 0.6)])
    assert np.isnan(only(compared(rows))["difference_points"])


def test_pairs_beside_a_collapsed_network_are_counted():
    rows = curve("random", 0, [(1_000, 0.4)], collapsed=True)
    rows.append(cell("random", 0, 0.6, ratio=0.9, macs=4_000))
    rows += curve("output_l1", 0, [(1_000, 0.4), (4_000, 0.6)])
    found = only(compared(rows))
    assert (found["collapsed"], found["collapsed_reference"]) == (1, 0)


def test_budgets_and_studies_have_rows_of_their_own():
    rows = []
    for changes in ({}, {"scope": "global"}, {"width": 0.5}):
        for metric in ("random", "output_l1"):
            rows += curve(metric, 0, [(1_000, 0.4), (4_000, 0.6)], **changes)
    table = compared(rows)
    assert len(table) == 3
    assert list(table.columns) == [
        name if name != "ratio" else "macs_ratio"
        for name in results.paired_difference(frame(rows), "random", "output_l1").columns
        if name not in ("macs_ratio", "macs_ratio_reference")
    ]


def test_holms_family_is_the_table():
    chance = np.random.default_rng(0)
    rows = []
    for seed in range(4):
        for metric in ("random", "output_l1"):
            values = chance.random(3)
            rows += curve(metric, seed, zip((1_000, 2_000, 4_000), values, strict=True))
    table = compared(rows, (0.15, 0.2, 0.3))
    assert table["p"].notna().sum() == 3
    assert table["p_holm"].min() == pytest.approx(min(1, 3 * table["p"].min()))
    pd.testing.assert_frame_equal(compared(rows[::-1], (0.3, 0.2, 0.15)), table)


def test_a_missing_reference_is_noted():
    rows = curve("random", 0, [(1_000, 0.4), (4_000, 0.6)], scope="global")
    rows += curve("output_l1", 0, [(1_000, 0.4), (4_000, 0.6)])
    found = only(compared(rows))
    assert (found["scope"], found["note"]) == ("global", "output_l1 was not run here")


@pytest.mark.parametrize(
    ("metric", "reference", "ratios", "why"),
    [
        ("random", "output_l1", [0.0], "has 0.0; allowed: numbers above 0, at most 1"),
        ("random", "output_l1", ["a"], "macs_ratios has a; allowed: numbers above 0"),
        ("random", "output_l1", 0.3, r"macs_ratios is 0.3; give a list, such as \[0.3, 0.5\]"),
        ("random", "output_l1", [1.5], "1.5"),
        ("taylor", "output_l1", [0.5], "no cell of metric 'taylor'"),
        ("output_l1", "output_l1", [0.5], "both metric and reference"),
    ],
)
def test_what_cannot_be_compared_is_refused(metric, reference, ratios, why):
    rows = curve("random", 0, [(1_000, 0.4)]) + curve("output_l1", 0, [(1_000, 0.4)])
    with pytest.raises(ValueError, match=why):
        results.at_equal_macs(frame(rows), metric, reference, ratios)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        curve("output_l1", 0, [(1_000, 0.4)]),
        [failed("output_l1", macs=None), failed("random", macs=None)],
    ],
    ids=["none", "one metric", "failed"],
)
def test_without_two_metrics_there_is_no_row(rows):
    full = compared(curve("random", 0, [(1_000, 0.4)]) + curve("output_l1", 0, [(1_000, 0.4)]))
    empty = results.at_equal_macs(frame(rows), None, "output_l1")
    assert empty.empty
    assert list(empty.columns) == list(full.columns)


@pytest.mark.parametrize("known", [True, False], ids=["after its MACs were known", "before"])
def test_nothing_is_interpolated_across_a_failed_cell(known):
    rows = []
    for ratio, macs in ((0.3, 2_000), (0.5, 4_000), (0.7, 8_000)):
        for metric in ("random", "output_l1"):
            for seed in range(3):
                one = cell(metric, seed, ratio, ratio=ratio, macs=macs)
                if metric == "random" and ratio == 0.5:
                    one |= {"status": "timeout", "finetuned_test_top1": None}
                    one |= {} if known else {"macs": None, "macs_full": None}
                rows.append(one)
    table = results.at_equal_macs(frame(rows), "random", "output_l1", [0.3, 0.4, 0.6, 0.8])
    assert table["seeds"].tolist() == [0, 0, 0, 3]
