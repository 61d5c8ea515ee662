"""The abstracts' claims, the rows that are compared with them, and the verdicts."""

import math

import numpy as np
import pandas as pd
import pytest
from known_cells import cell, cells, failed, frame
from statsmodels.stats.multitest import multipletests

import results
from results.analysis.claims import CLAIMS, RECIPE, VERDICTS, WEIGHTED_READINGS
from results.analysis.study import STUDY
from results.report.verdicts import judged_claims

WMI = "weighted_mutual_information"
ENTROPY = "entropy_gaussian"
ONE = {"dataset": "svhn", "ratio": 0.3}
THIRTEEN = {"dataset": "cifar10", "ratio": 0.3}
GLOBAL = {"dataset": "cifar10", "scope": "global", "ratio": 0.4}
REFERENCE = (0.5, 0.6, 0.55, 0.52, 0.57)


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


@pytest.mark.parametrize("told", [{}, {"compensation": "none"}], ids=["missing", "none"])
def test_only_cells_without_compensation_are_judged(told):
    values = {WMI: [0.9, 0.8, 0.85], "output_l1": REFERENCE[:3]}
    plain = cells(values, **ONE, **told)
    other = {WMI: [0.1, 0.2, 0.1], "output_l1": [0.9, 0.9, 0.8]}
    rows = plain + cells(other, compensation="least_squares", **ONE)
    assert len(rows) == 12
    pd.testing.assert_frame_equal(results.claims(frame(rows)), results.claims(frame(plain)))
    alone = results.claims(frame(rows[6:]))
    assert set(alone["verdict"]) == {"not run"}


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
    assert set(table["sign"]) == set(table["size"]) == {"cannot tell"}
    assert table["p_holm"].isna().all()
    primary = table[table["family"] == "primary"]
    assert primary["claim"].tolist() == [claim.text for claim in CLAIMS]
    assert set(primary["stage"]) == {"finetuned"}
    assert set(table["note"]) == {f"{WMI} was not run here", "entropy_gaussian was not run here"}


def ahead(points, metric=WMI, **where):
    """Cells of a metric and of the reference that differ by these points, one for each seed."""
    ours = [a + b / 100 for a, b in zip(REFERENCE, points, strict=False)]
    return cells({metric: ours, "output_l1": REFERENCE[: len(ours)]}, **where)


@pytest.mark.parametrize(
    ("points", "metric", "where", "sign", "size", "verdict"),
    [
        # +1.52 points are claimed.
        ([1.50, 1.52, 1.56], WMI, ONE, "confirmed", "agrees", "confirmed"),
        ([1.0, 1.5, 2.0], WMI, ONE, "confirmed", "cannot tell", "same sign, size open"),
        ([10.0, 10.1, 10.2], WMI, ONE, "confirmed", "refuted", "same sign, size refuted"),
        ([-1.0, -1.5, -2.0], WMI, ONE, "contradicted", "refuted", "contradicted"),
        ([-1.0, 1.5, 2.0], WMI, ONE, "cannot tell", "cannot tell", "cannot tell"),
        ([-0.1, 0.05, 0.1], WMI, ONE, "cannot tell", "refuted", "size refuted"),
        # +13.24 and +51 points are claimed; a hundredth and a thirtieth do not confirm them.
        ([0.14, 0.15, 0.16], WMI, THIRTEEN, "confirmed", "refuted", "same sign, size refuted"),
        ([1.84, 1.85, 1.86], ENTROPY, GLOBAL, "confirmed", "refuted", "same sign, size refuted"),
        # Within a factor of two, but not equal.
        ([10.0, 10.1, 10.2], WMI, THIRTEEN, "confirmed", "refuted", "same sign, size refuted"),
        # A claim of a negative difference, -5 points.
        ([-4.9, -5.0, -5.1], WMI, GLOBAL, "confirmed", "agrees", "confirmed"),
        ([-3.1, -5.0, -6.9], WMI, GLOBAL, "confirmed", "cannot tell", "same sign, size open"),
        ([5.0, 4.0, 6.0], WMI, GLOBAL, "contradicted", "refuted", "contradicted"),
        ([5.0, -4.0, -6.0], WMI, GLOBAL, "cannot tell", "cannot tell", "cannot tell"),
    ],
)
def test_verdicts_tell_the_sign_from_the_size(points, metric, where, sign, size, verdict):
    found = finetuned(ahead(points, metric, **where))
    assert (found["sign"], found["size"], found["verdict"]) == (sign, size, verdict)
    assert found["verdict"] in VERDICTS
    assert found["difference_points"] == pytest.approx(np.mean(points))
    assert found["note"] == ""


def test_an_interval_that_contains_all_sizes_agrees_with_none():
    found = finetuned(ahead([13.24, 33.24, -6.76], **THIRTEEN))
    assert found["difference_points"] == pytest.approx(13.24)
    assert found["low_points"] < 13.24 < found["high_points"]
    assert (found["size"], found["verdict"]) == ("cannot tell", "cannot tell")


def test_a_verdict_needs_the_corrected_p():
    # The p of each is 0.04. Corrected over the three data sets of one recipe, none is below 0.05.
    alone = finetuned(ahead([1.0, 1.5, 2.1], **ONE))
    assert (alone["verdict"], round(alone["p"], 2)) == ("same sign, size open", 0.04)
    rows = [
        row
        for dataset in ("svhn", "cifar10", "cifar100")
        for row in ahead([1.0, 1.5, 2.1], dataset=dataset, ratio=0.3)
    ]
    table = results.claims(frame(rows)).query("stage == 'finetuned' and verdict != 'not run'")
    assert table["low_points"].gt(0).all()
    assert table["p_holm"].to_numpy() == pytest.approx(3 * alone["p"])
    assert set(table["sign"]) == {"cannot tell"}


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
def test_without_an_interval_over_three_seeds_there_is_no_verdict(ours, reference, note):
    found = finetuned(cells({WMI: ours, "output_l1": reference}, **ONE))
    assert (found["verdict"], found["note"]) == ("cannot tell", note)
    assert (found["sign"], found["size"]) == ("cannot tell", "cannot tell")


def test_two_seeds_give_an_interval_but_no_verdict():
    found = finetuned(cells({WMI: [0.9, 0.901], "output_l1": [0.5, 0.5]}, **ONE))
    assert found["low_points"] < 40.05 < found["high_points"]
    assert found["p_size_holm"] < 0.05
    assert (found["sign"], found["size"]) == ("cannot tell", "cannot tell")


def test_a_claim_whose_reference_was_not_run_is_not_run():
    table = results.claims(frame(cells({WMI: [0.5, 0.6, 0.7]}, **ONE)))
    assert set(table["verdict"]) == {"not run"}
    (row,) = table[table["unpaired"] > 0].query("stage == 'finetuned'").to_dict("records")
    assert (row["note"], row["unpaired"]) == ("output_l1 was not run here", 3)


def test_cells_that_failed_give_no_verdict():
    rows = [failed(WMI, seed, **ONE) for seed in range(3)]
    table = results.claims(frame(rows + cells({"output_l1": [0.5] * 3}, **ONE)))
    verdicts = table[table["dataset"] == "svhn"].set_index("stage")["verdict"]
    assert verdicts["finetuned"] == "cannot tell"


def test_a_report_leaves_out_stages_at_which_no_cell_was_evaluated():
    values = {WMI: [0.9, 0.8, 0.85], "output_l1": REFERENCE[:3]}
    rows = cells(values, pruned_test_top1=None, **ONE)
    table = results.claims(frame(rows)).dropna(subset="budget").set_index("stage")
    assert table.loc["pruned", "note"] == "not evaluated at this stage"
    assert table.loc["pruned", "verdict"] == "cannot tell"
    titles = [made.title for made in judged_claims(frame(rows))[0]]
    assert titles == ["After fine-tuning", "After recalibration, before fine-tuning"]


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


def two_recipes():
    """Two data sets under one recipe, one of them also under another, in several variants."""
    chance = np.random.default_rng(1)

    def study(**where):
        names = [WMI, WEIGHTED_READINGS[1], f"{WMI}(bins=64)", "output_l1"]
        return cells({name: chance.random(4) for name in names}, **where)

    return [
        *study(**ONE),
        *study(budget="uniform_channels", **ONE),
        *study(**THIRTEEN, train_images=45_000, baseline_images=45_000),
        *study(**GLOBAL),
        *study(normalisation="layer_zscore", **GLOBAL),
        *study(finetune_epochs=9, **ONE),
    ]


def test_the_primary_family_is_one_test_for_each_claim_of_a_recipe():
    table = results.claims(frame(two_recipes()))
    run = table[table["p"].notna()]
    primary = run[run["family"] == "primary"]
    described = primary[["dataset", "metric", "budget", "normalisation", "stage"]]
    assert sorted(map(tuple, described[primary["finetune_epochs"] == 2].to_numpy())) == [
        ("cifar10", WMI, "global", "none", "finetuned"),
        ("cifar10", WMI, "uniform_parameters", "none", "finetuned"),
        ("svhn", WMI, "uniform_parameters", "none", "finetuned"),
    ]
    assert len(primary) == 4
    assert set(run["family"]) == {"primary", "exploratory"}
    assert set(STUDY) - set(RECIPE) >= {"dataset", "train_images", "test_images"}


def test_networks_that_are_not_fine_tuned_are_no_test_of_a_claim():
    rows = two_recipes()
    without = [
        row | {"finetune": "none", "finetune_epochs": 0}
        for row in rows
        if row["finetune_epochs"] == 2
    ]
    table = results.claims(frame(rows + without))
    tuned = table[table["stage"] == "finetuned"]
    assert not (tuned["finetune_epochs"] == 0).any()
    # Before fine-tuning they are the same networks, and their tests count once.
    for name in ("p_holm", "p_size_holm"):
        expected = results.claims(frame(rows)).dropna(subset="p")
        found = table[table["finetune_epochs"] != 0].dropna(subset="p")
        assert found[name].tolist() == pytest.approx(expected[name].tolist())


def test_weights_of_a_data_set_do_not_make_a_family_of_its_own():
    values = {WMI: [0.5, 0.6, 0.64], "output_l1": [0.4, 0.47, 0.5]}
    shared, own = (
        [*cells(values, weights=one, **ONE), *cells(values, weights=other, **THIRTEEN)]
        for one, other in ((None, None), ("a" * 8, "b" * 8))
    )
    found = [
        table.loc[(table["family"] == "primary") & table["p"].notna(), "p_holm"].tolist()
        for table in (results.claims(frame(shared)), results.claims(frame(own)))
    ]
    assert len(found[0]) == 2
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["p", "p_size"])
def test_holms_correction_goes_over_the_family(name):
    table = results.claims(frame(two_recipes()))
    primary = table["family"] == "primary"
    for epochs, count in ((2, 3), (9, 1)):
        family = table[primary & (table["finetune_epochs"] == epochs)].dropna(subset=name)
        assert len(family) == count
        expected = multipletests(family[name], method="holm")[1]
        np.testing.assert_allclose(family[f"{name}_holm"], expected)
    every = table.dropna(subset=name)
    expected = pd.Series(multipletests(every[name], method="holm")[1], index=every.index)
    explored = every.index[every["family"] == "exploratory"]
    assert len(explored) > 20
    np.testing.assert_allclose(table.loc[explored, f"{name}_holm"], expected[explored])


def test_permuted_rows_and_other_cells_change_nothing():
    rows = cells({WMI: [0.5, 0.7, 0.9], "output_l1": [0.4, 0.7, 0.6]}, **ONE)
    other = cells({"taylor": [0.5], "output_l1": [0.1]}, dataset="digits")
    expected = results.claims(frame(rows))
    pd.testing.assert_frame_equal(results.claims(frame(other + rows[::-1])), expected)


def test_without_an_interval_the_size_is_open():
    found = finetuned(cells({WMI: [0.5152], "output_l1": [0.5]}, **ONE))
    assert found["difference_points"] == pytest.approx(1.52)
    assert found["size"] == "cannot tell"
    assert math.isnan(found["low_points"])
