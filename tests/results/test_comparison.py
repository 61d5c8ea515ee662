"""Paired differences: known answers, agreement with scipy and statsmodels, and invariances."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from known_cells import cell, cells, failed, frame
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

import results

FIGURES = ["difference_points", "deviation_points", "low_points", "high_points", "p", "p_holm"]
FIGURES += ["accuracy", "accuracy_reference"]


def only(table):
    (row,) = table.to_dict("records")
    return row


def test_a_difference_computed_by_hand():
    rows = cells({"output_l1": [0.50, 0.60, 0.70], "random": [0.51, 0.63, 0.72]})
    found = only(results.paired_difference(frame(rows), "random", "output_l1"))
    # Differences of 1, 3 and 2 points; t(2) at 0.975 is 4.302653.
    assert found["difference_points"] == pytest.approx(2)
    assert found["deviation_points"] == pytest.approx(1)
    assert found["low_points"] == pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-5)
    assert found["high_points"] == pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-5)
    assert (found["seeds"], found["unpaired"], found["note"]) == (3, 0, "")
    assert found["p"] == pytest.approx(0.0741799, abs=1e-6)
    assert found["p_holm"] == found["p"]
    effect = TTestPower().solve_power(nobs=3, alpha=0.05, power=0.8)
    assert found["detectable_points"] == pytest.approx(effect, rel=1e-6)
    # 100 test images; accuracies of 0.62 and 0.6.
    error = 100 * ((0.62 * 0.38 + 0.6 * 0.4) / 100) ** 0.5
    assert found["test_error_points"] == pytest.approx(error)
    assert found["accuracy"] == pytest.approx(0.62)
    assert found["accuracy_reference"] == pytest.approx(0.6)
    assert (found["metric"], found["reference"]) == ("random", "output_l1")


def test_every_row_agrees_with_scipy_and_statsmodels():
    values = np.random.default_rng(0).random((4, 2, 5)).round(3)
    names = ["output_l1", "random", "taylor", "apoz"]
    rows = [
        cell(name, seed, values[at, side, seed], ratio=ratio)
        for at, name in enumerate(names)
        for side, ratio in enumerate((0.3, 0.6))
        for seed in range(5)
    ]
    found = results.paired_difference(frame(rows), None, "output_l1")
    assert len(found) == 6
    for _, row in found.iterrows():
        side = int(row["ratio"] == 0.6)
        one, other = values[names.index(row["metric"]), side], values[0, side]
        test = stats.ttest_rel(one, other)
        low, high = test.confidence_interval(0.95)
        assert row["p"] == pytest.approx(test.pvalue)
        assert row["low_points"] == pytest.approx(100 * low)
        assert row["high_points"] == pytest.approx(100 * high)
    np.testing.assert_allclose(found["p_holm"], multipletests(found["p"], method="holm")[1])


def test_unpaired_cells_do_not_count_and_are_reported():
    values = {"output_l1": [0.5, 0.6, None, 0.9], "random": [0.4, 0.7, 0.1, None]}
    rows = [*cells(values), failed("random", 4), cell("output_l1", 4, 0.2)]
    found = only(results.paired_difference(frame(rows), "random", "output_l1"))
    assert found["difference_points"] == pytest.approx(0)
    assert found["accuracy"] == pytest.approx(0.55)
    assert (found["seeds"], found["unpaired"]) == (2, 3)


def test_the_same_seed_of_another_baseline_is_not_paired():
    rows = [cell(baseline_key="one"), cell("random", baseline_key="other")]
    found = only(results.paired_difference(frame(rows), "random", "output_l1"))
    assert (found["seeds"], found["unpaired"]) == (0, 1)
    assert np.isnan(found["difference_points"])
    assert found["note"] == "no seed in which both cells are ok"


@pytest.mark.parametrize("compare", [results.paired_difference, results.at_equal_macs])
def test_cells_that_were_not_evaluated_are_not_called_failed(compare):
    changes = {"recalibrated_test_top1": None}
    rows = [
        row
        for ratio, macs in ((0.3, 500), (0.6, 5_000))
        for row in cells(
            {"output_l1": [0.5, 0.6], "random": [0.4, 0.5]}, ratio=ratio, macs=macs, **changes
        )
    ]
    found = compare(frame(rows), None, "output_l1", at="recalibrated")
    assert set(found["note"]) == {"not evaluated at this stage"}
    rows = [failed("random", 0, **changes), cell("output_l1", 0), cell("random", 1, **changes)]
    found = only(results.paired_difference(frame(rows), None, "output_l1"))
    assert found["note"] == "no seed in which both cells are ok"


@pytest.mark.parametrize(
    ("values", "reference", "points", "note"),
    [
        ([0.5], [0.4], 10, "one seed: no interval"),
        ([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], 10, "the same difference in every seed: no interval"),
        ([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], 0, "no difference in any seed: no interval"),
        ([0.3, 0.1 + 0.2], [0.3, 0.3], 0, "no difference in any seed: no interval"),
    ],
)
def test_without_a_spread_there_is_neither_interval_nor_p(values, reference, points, note):
    rows = cells({"random": values, "output_l1": reference})
    found = only(results.paired_difference(frame(rows), "random", "output_l1"))
    assert found["difference_points"] == pytest.approx(points)
    assert found["note"] == note
    missing = ["low_points", "high_points", "p", "p_holm", "detectable_points"]
    assert np.isnan([found[name] for name in missing]).all()
    # The test images are as few as with a spread.
    assert found["test_error_points"] > 3


def test_rows_without_p_are_not_in_holms_family():
    rows = cells({"output_l1": [0.5, 0.6], "random": [0.4, 0.55], "apoz": [0.4, 0.5]})
    found = results.paired_difference(frame(rows), None, "output_l1").set_index("metric")
    assert np.isnan(found.loc["apoz", "p_holm"])
    assert found.loc["random", "p_holm"] == found.loc["random", "p"]


def test_a_missing_reference_is_noted():
    rows = cells({"random": [0.5, 0.6]}, scope="global") + cells({"output_l1": [0.5, 0.6]})
    found = only(results.paired_difference(frame(rows), None, "output_l1"))
    assert (found["scope"], found["seeds"], found["unpaired"]) == ("global", 0, 2)
    assert found["note"] == "output_l1 was not run here"


def test_collapsed_cells_and_achieved_ratios_are_those_of_the_pairs():
    rows = [
        cell("random", 0, 0.5, collapsed=True, parameter_ratio=0.29),
        cell("random", 1, 0.6, collapsed=True, parameter_ratio=0.31),
        cell("random", 2, 0.6, collapsed=True, parameter_ratio=0.9),
        cell("output_l1", 0, 0.5, collapsed=True),
        cell("output_l1", 1, 0.5),
    ]
    found = only(results.paired_difference(frame(rows), "random", "output_l1"))
    assert (found["collapsed"], found["collapsed_reference"]) == (2, 1)
    assert found["parameter_ratio"] == pytest.approx(0.3)


def test_the_macs_that_are_left_are_those_of_the_pairs():
    rows = [cell("random", seed, 0.5, macs=macs) for seed, macs in enumerate((200, 400, 9_000))]
    rows += [cell("output_l1", seed, 0.5, macs=9_400) for seed in (0, 1)]
    found = only(results.paired_difference(frame(rows), "random", "output_l1"))
    assert found["parameter_ratio"] == found["parameter_ratio_reference"]
    assert (found["macs_ratio"], found["macs_ratio_reference"]) == (
        pytest.approx(0.03),
        pytest.approx(0.94),
    )


@pytest.mark.parametrize(("split", "images"), [("test", 400), ("validation", 25)])
def test_the_sampling_error_is_that_of_the_images_of_the_split(split, images):
    counts = {"test_images": 400, "validation_images": 25}
    rows = cells({"random": [0.5, 0.5], "output_l1": [0.5, 0.5]}, **counts)
    found = only(results.paired_difference(frame(rows), "random", "output_l1", split=split))
    assert found["test_error_points"] == pytest.approx(100 * (0.5 / images) ** 0.5)


def test_without_a_count_of_images_the_sampling_error_is_missing():
    rows = cells({"random": [0.5, 0.6], "output_l1": [0.5, 0.5]}, test_images=None)
    found = only(results.paired_difference(frame(rows), "random", "output_l1"))
    assert np.isnan(found["test_error_points"])
    assert found["difference_points"] == pytest.approx(5)


def test_stage_and_split_choose_the_column():
    rows = [cell(accuracy=0.5), cell("random", accuracy=0.5, pruned_validation_top1=0.25)]
    table = frame(rows)
    assert only(results.paired_difference(table, None, "output_l1"))["difference_points"] == 0
    found = only(results.paired_difference(table, None, "output_l1", "pruned", "validation"))
    assert found["difference_points"] == pytest.approx(-25)


def test_networks_from_scratch_are_compared_with_every_length_of_fine_tuning():
    # They are trained for the baseline's epochs, which differ from those of fine-tuning.
    rows = cells({"scratch": [0.8, 0.7]}, finetune_epochs=4, recipe={"epochs": 4})
    rows += cells({"output_l1": [0.5, 0.6]}) + cells({"output_l1": [0.9, 0.9]}, finetune_epochs=3)
    found = results.paired_difference(frame(rows), "scratch", "output_l1")
    found = found.set_index("finetune_epochs")["difference_points"].round(6)
    assert found.to_dict() == {2: 20, 3: -15}
    back = results.paired_difference(frame(rows), "output_l1", "scratch")
    assert sorted(back["difference_points"].round(6)) == [-20, 15]


@pytest.mark.parametrize(
    ("metric", "reference", "why"),
    [
        ("taylor", "output_l1", "no cell of metric 'taylor'; there are output_l1, random"),
        (["random"], "taylor", "no cell of metric 'taylor'"),
        (["random", "output_l1"], "output_l1", "both metric and reference"),
    ],
)
def test_metrics_that_cannot_be_compared_are_refused(metric, reference, why):
    table = frame(cells({"output_l1": [0.5], "random": [0.4]}))
    with pytest.raises(ValueError, match=why):
        results.paired_difference(table, metric, reference)


accuracies = some.lists(some.integers(0, 100).map(lambda n: n / 100), min_size=4, max_size=4)


@settings(max_examples=8, deadline=None)
@given(accuracies, accuracies, accuracies, some.randoms(use_true_random=False))
def test_neither_order_nor_other_rows_change_a_difference(one, other, third, chance):
    def difference(rows):
        table = results.paired_difference(frame(rows), "random", "output_l1")
        return table[[*FIGURES, "seeds", "note"]]

    rows = cells({"random": one, "output_l1": other})
    expected = difference(rows)
    shuffled = [*rows]
    chance.shuffle(shuffled)
    pd.testing.assert_frame_equal(difference(shuffled), expected)
    more = [*cells({"taylor": third}), cell("random", 9, 0.1), failed("output_l1", 9)]
    more += [failed(metric, seed) for metric in ("random", "output_l1") for seed in (0, 7)]
    pd.testing.assert_frame_equal(difference(more + rows), expected)


def test_swapping_metric_and_reference_changes_the_sign():
    table = frame(cells({"output_l1": [0.5, 0.6, 0.1], "random": [0.4, 0.55, 0.3]}))
    there = only(results.paired_difference(table, "random", "output_l1"))
    back = only(results.paired_difference(table, "output_l1", "random"))
    assert back["difference_points"] == pytest.approx(-there["difference_points"])
    assert back["low_points"] == pytest.approx(-there["high_points"])
    assert back["p"] == pytest.approx(there["p"])


def test_a_test_before_fine_tuning_counts_once_beside_every_recipe():
    chance = np.random.default_rng(0)
    values = {name: list(chance.random(4)) for name in ("output_l1", "random", "taylor")}
    one = cells(values, finetune="high")
    other = [row | {"finetune": "low", "finetuned_test_top1": 0.5} for row in reversed(one)]
    for at, once in (("recalibrated", True), ("finetuned", False)):
        alone = results.paired_difference(frame(one), None, "output_l1", at)
        both = results.paired_difference(frame(one + other), None, "output_l1", at)
        high = both[both["finetune"] == "high"]
        assert high["p"].tolist() == alone["p"].tolist()
        if once:
            assert both["p_holm"].tolist() == pytest.approx([*alone["p_holm"], *alone["p_holm"]])
        else:
            assert both["p_holm"].isna().sum() == 2
