"""The abstracts' claims, the rows that are compared with them, and the verdicts."""

import math

import numpy as np
import pandas as pd
import pytest
from known_cells import cell, cells, failed, frame

import results
from results.analysis.claims import CLAIMS, WEIGHTED_READINGS

WMI = "weighted_mutual_information"
ONE = {"dataset": "svhn", "ratio": 0.3}
FIVE_BELOW = {"dataset": "cifar10", "scope": "global", "ratio": 0.4}


def finetuned(rows, **where):
    table = results.claims(frame(rows))
    table = table[(table["stage"] == "finetuned") & (table["verdict"] != "not run")]
    (row,) = table.to_dict("records")
    return row


def test_the_claims_are_those_of_the_abstracts():
    assert [(c.dataset, c.scope, c.ratio, c.metrics[0], c.points, c.about) for c in CLAIMS] == [
        ("svhn", "local", 0.3, WMI, 1.52, False),
        ("cifar10", "local", 0.3, WMI, 13.24, False),
        ("cifar100", "local", 0.3, WMI, 7.90, False),
        ("svhn", "global", 0.45, WMI, 2, True),
        ("cifar100", "global", 0.53, WMI, 1.5, True),
        ("cifar10", "global", 0.4, WMI, -5, True),
        ("cifar10", "global", 0.4, "entropy_gaussian", 51, True),
    ]
    assert {claim.reference for claim in CLAIMS} == {"output_l1"}


def test_an_empty_frame_has_a_row_for_every_claim_and_stage():
    table = results.claims(frame([]))
    assert table["claim"].drop_duplicates().tolist() == [claim.text for claim in CLAIMS]
    assert table.groupby("claim")["stage"].agg(list).map(tuple).unique().tolist() == [
        ("pruned", "recalibrated", "finetuned")
    ]
    assert set(table["verdict"]) == {"not run"}
    assert set(table["metric"]) == {WMI, "entropy_gaussian"}
    assert table["difference_points"].isna().all()
    assert (table["seeds"] == 0).all()
    assert table["size_agrees"].isna().all()
    assert set(table["note"]) == {f"{WMI} was not run here", "entropy_gaussian was not run here"}


@pytest.mark.parametrize(
    ("differences", "where", "verdict", "agrees"),
    [
        ([0.01, 0.015, 0.02], ONE, "confirmed", True),
        ([0.10, 0.101, 0.102], ONE, "confirmed", False),
        ([-0.01, -0.015, -0.02], ONE, "contradicted", False),
        ([-0.01, 0.015, 0.02], ONE, "undecided", True),
        # A claim of a negative difference.
        ([-0.05, -0.04, -0.06], FIVE_BELOW, "confirmed", True),
        ([0.05, 0.04, 0.06], FIVE_BELOW, "contradicted", False),
        ([0.05, -0.04, -0.06], FIVE_BELOW, "undecided", True),
    ],
)
def test_verdicts_follow_the_interval(differences, where, verdict, agrees):
    reference = [0.5, 0.6, 0.55]
    ours = [a + b for a, b in zip(reference, differences, strict=True)]
    found = finetuned(cells({WMI: ours, "output_l1": reference}, **where))
    assert (found["verdict"], found["size_agrees"]) == (verdict, agrees)
    assert found["difference_points"] == pytest.approx(100 * np.mean(differences))
    assert found["note"] == ""


@pytest.mark.parametrize(
    ("ours", "reference", "note"),
    [
        ([0.9], [0.5], "one seed: no interval"),
        ([0.9, 0.901], [0.5, 0.5], "fewer than 3 seeds: no verdict"),
        ([0.9] * 3, [0.5] * 3, "the same difference in every seed: no interval"),
        ([0.5] * 3, [0.5] * 3, "no difference in any seed: no interval"),
        ([0.9, None], [None, 0.5], "no seed in which both cells are ok"),
    ],
)
def test_without_an_interval_over_three_seeds_a_claim_is_undecided(ours, reference, note):
    found = finetuned(cells({WMI: ours, "output_l1": reference}, **ONE))
    assert (found["verdict"], found["note"]) == ("undecided", note)


def test_two_seeds_give_an_interval_but_no_verdict():
    found = finetuned(cells({WMI: [0.9, 0.901], "output_l1": [0.5, 0.5]}, **ONE))
    assert found["low_points"] < 40.05 < found["high_points"]
    assert found["size_agrees"] is False


def test_a_claim_whose_reference_was_not_run_is_not_run():
    table = results.claims(frame(cells({WMI: [0.5, 0.6, 0.7]}, **ONE)))
    assert set(table["verdict"]) == {"not run"}
    (row,) = table[table["unpaired"] > 0].query("stage == 'finetuned'").to_dict("records")
    assert (row["note"], row["unpaired"]) == ("output_l1 was not run here", 3)


def test_cells_that_failed_leave_a_claim_undecided():
    rows = [failed(WMI, seed, **ONE) for seed in range(3)]
    table = results.claims(frame(rows + cells({"output_l1": [0.5] * 3}, **ONE)))
    verdicts = table[table["dataset"] == "svhn"].set_index("stage")["verdict"]
    assert verdicts["finetuned"] == "undecided"


@pytest.mark.parametrize(
    ("name", "source", "claimed"),
    [
        ("cifar10", "cifar10", "cifar10"),
        ("mine", "parquet:/data/cifar10", "cifar10"),
        ("mine", "parquet:/data/cifar10/plain_text", "cifar10"),
        ("mine", r"folder:C:\data\CIFAR-100", "cifar100"),
        ("CIFAR_10", "parquet:.", "cifar10"),
        ("svhn", "parquet:photos", "svhn"),
        ("cifar10", "parquet:cifar100", "cifar100"),
        ("cifar", "parquet:cifar", None),
        ("cifar10-small", "parquet:.", None),
        ("digits", "digits", None),
    ],
)
def test_data_sets_are_recognised_by_source_or_name(name, source, claimed):
    rows = cells({WMI: [0.5], "output_l1": [0.5]}, dataset=name, source=source, ratio=0.3)
    table = results.claims(frame(rows))
    assert set(table[table["dataset"].notna()]["claimed_dataset"]) == {claimed} - {None}


@pytest.mark.parametrize(("ratio", "there"), [(0.305, 1), (0.295, 1), (0.306, 0), (0.2, 0)])
def test_ratios_match_within_the_tolerance(ratio, there):
    rows = cells({WMI: [0.5], "output_l1": [0.5]}, dataset="svhn", ratio=ratio)
    table = results.claims(frame(rows))
    assert (table["stage"].eq("finetuned") & table["ratio"].notna()).sum() == there


def test_every_variant_that_was_run_has_its_row_for_each_stage():
    names = [*WEIGHTED_READINGS, f"{WMI}(bins=64)", "output_l1"]
    budgets = ["uniform_parameters", "uniform_channels"]
    rows = []
    for budget in budgets:
        for width in (0.5, 1.0):
            values = {name: [0.5, 0.6, 0.7] for name in names}
            rows += cells(values, budget=budget, width=width, **ONE)
    table = results.claims(frame(rows))
    table = table[table["claimed_dataset"].eq("svhn") & table["dataset"].notna()]
    assert len(table) == 3 * 4 * 2 * 2
    assert not table.duplicated(["stage", "metric", "budget", "width"]).any()
    assert set(table["metric"]) == set(names) - {"output_l1"}


def test_other_metrics_scopes_and_cells_with_widths_of_are_ignored():
    rows = cells({"weighted_entropy": [0.5], "output_l1": [0.4], "random": [0.1]}, **ONE)
    rows += cells({WMI: [0.5]}, scope="widths_of", budget="widths_of(output_l1)", **ONE)
    rows += cells({WMI: [0.5], "output_l1": [0.1]}, dataset="svhn", scope="global", ratio=0.3)
    assert set(results.claims(frame(rows))["verdict"]) == {"not run"}


def test_each_stage_has_its_own_difference_and_collapsed_cells_are_counted():
    changes = {"pruned_test_top1": 0.2, "recalibrated_test_top1": 0.3}
    rows = [cell(WMI, seed, 0.9, **ONE, **changes) for seed in range(3)]
    rows += [
        cell("output_l1", seed, 0.4 + seed / 100, collapsed=seed < 2, **ONE) for seed in range(3)
    ]
    table = results.claims(frame(rows))
    table = table[table["dataset"].notna()].set_index("stage")
    expected = {"pruned": -21, "recalibrated": -11, "finetuned": 49}
    assert table["difference_points"].round(6).to_dict() == expected
    assert table["collapsed"].tolist() == [0, 0, 0]
    assert table["collapsed_reference"].tolist() == [2, 2, 2]


def test_differences_agree_with_paired_difference():
    chance = np.random.default_rng(0)
    rows = cells({WMI: chance.random(4), "output_l1": chance.random(4)}, **ONE)
    found = finetuned(rows)
    (other,) = results.paired_difference(frame(rows), WMI, "output_l1").to_dict("records")
    for name in ("difference_points", "low_points", "high_points", "p", "seeds", "accuracy"):
        assert found[name] == other[name]


def test_holms_family_is_the_whole_table():
    chance = np.random.default_rng(1)
    rows = cells({WMI: chance.random(4), "output_l1": chance.random(4)}, **ONE)
    table = results.claims(frame(rows))
    p = table["p"].dropna().to_numpy()
    # The made-up cells have one accuracy at all three stages.
    assert len(p) == 3
    assert table["p_holm"].dropna().to_numpy() == pytest.approx(np.minimum(3 * p, 1))


def test_permuted_rows_and_other_cells_change_nothing():
    rows = cells({WMI: [0.5, 0.7, 0.9], "output_l1": [0.4, 0.7, 0.6]}, **ONE)
    other = cells({"taylor": [0.5], "output_l1": [0.1]}, dataset="digits")
    expected = results.claims(frame(rows))
    pd.testing.assert_frame_equal(results.claims(frame(other + rows[::-1])), expected)


def test_without_an_interval_size_agrees_is_missing():
    found = finetuned(cells({WMI: [0.5152], "output_l1": [0.5]}, **ONE))
    assert found["difference_points"] == pytest.approx(1.52)
    assert pd.isna(found["size_agrees"])
    assert math.isnan(found["low_points"])
