"""Three sentences that the confidence intervals support."""

import numpy as np
import pytest
from known_cells import cell, cells, failed, frame, unpruned

import results
from results.analysis.claims import CLAIMS
from results.analysis.leads import leads
from results.report.verdicts import judged_claims

BASELINES = 4


def study(**changes):
    """Four seeds: taylor is far ahead of output_l1, which is hardly ahead of random."""
    rows = []
    for ratio, gain in ((0.3, 0.0), (0.6, 0.1)):
        values = {
            "taylor": [0.7, 0.71, 0.72, 0.705],
            "output_l1": [0.5, 0.52, 0.51, 0.505],
            "random": [0.5, 0.51, 0.52, 0.5],
        }
        for name, accuracies in values.items():
            rows += cells({name: [a + gain for a in accuracies]}, ratio=ratio, **changes)
    return rows


def test_the_best_metric_is_reported_with_its_lead_and_interval():
    (lead,) = leads(frame(study()))
    assert (lead.metric, lead.second, lead.metrics, lead.ratios) == ("taylor", "output_l1", 3, 2)
    # Without seed 1, random is the second.
    differences = np.array([0.2, 0.2, 0.21, 0.2]) * 100
    half = 3.182446 * differences.std(ddof=1) / 2
    assert lead.points == pytest.approx(20.25)
    assert (lead.low, lead.high) == (pytest.approx(20.25 - half), pytest.approx(20.25 + half))
    assert (lead.seeds, lead.behind) == (BASELINES, 2)
    best, _, _ = results.conclusion(frame(study()))
    assert best == (
        "On digits (local, uniform_parameters) taylor has the highest validation accuracy of 3 "
        "metrics, averaged over 2 ratios, and output_l1 the second; chosen by the other seeds "
        "(output_l1 is the second in 3 of 4 folds) and judged by the test images of the seed left "
        "out, the lead is +20.25 points (95 % interval +19.45 to +21.05, 4 seeds), and after "
        "Holm's correction it is ahead of 2 of the 2 others."
    )


def test_many_settings_are_counted_by_all_that_tells_them_apart():
    rows = study() + study(scope="global")
    both = [*rows, *(row | {"compensation": "least_squares"} for row in rows)]
    assert results.conclusion(frame(both))[0].startswith(
        "Of 4 combinations of study, budget, normalisation and compensation, the highest "
        "validation accuracy is that of taylor in 4;"
    )
    plain = rows + study(dataset="svhn") + study(dataset="svhn", scope="global")
    assert results.conclusion(frame(plain))[0].startswith(
        "Of 4 combinations of study, budget and normalisation, the highest validation accuracy"
    )


def test_seeds_are_missing_where_one_compensation_lacks_them():
    rows = study(compensation="none") + study(compensation="least_squares")
    assert "3 seeds or more in every study" not in results.conclusion(frame(rows))[2]
    few = [row for row in rows if row["compensation"] == "none" or row["seed"] < 2]
    assert "3 seeds or more in every study" in results.conclusion(frame(few))[2]


def test_the_best_metric_is_said_to_depend_on_the_fold():
    rows = cells({"a": [0.9, 0.5, 0.5], "b": [0.6, 0.55, 0.56], "c": [0.1, 0.2, 0.1]})
    best = results.conclusion(frame(rows))[0]
    assert "a has the highest validation accuracy of 3 metrics, and b the second" in best
    assert "(a is chosen in 2 of 3 folds and b is the second in 2 of 3 folds)" in best


def test_two_seeds_choose_for_one_another():
    best = results.conclusion(frame(cells({"a": [0.9, 0.8], "b": [0.6, 0.55]})))[0]
    assert "chosen by the one other seed and judged by the test images of the seed left out" in best


def test_the_macs_are_told_where_they_differ():
    rows = cells({"a": [0.9, 0.8]}, macs=9_400) + cells({"b": [0.6, 0.5]}, macs=200)
    best = results.conclusion(frame(rows))[0]
    assert "b the second (0.94 and 0.02 of the multiply-accumulates are left)" in best


def test_being_ahead_is_decided_after_holms_correction():
    # Each of the two others has p of about 0.03, which Holm's correction makes insignificant.
    ahead = [0.5, 0.6, 0.7]
    rows = cells({"a": ahead, "b": [0.478, 0.567, 0.658], "c": [0.480, 0.570, 0.660]})
    (lead,) = leads(frame(rows))
    assert lead.low > 0
    assert (lead.metric, lead.second, lead.behind) == ("a", "c", 0)


def test_metrics_are_chosen_on_validation_images_and_compared_on_test_images():
    rows = [
        cell(name, seed, test, finetuned_validation_top1=validation)
        for name, validation, test in (("taylor", 0.9, 0.4), ("random", 0.8, 0.5))
        for seed, test in enumerate((test, test + 0.01, test + 0.03 * (name == "random")))
    ]
    (lead,) = leads(frame(rows))
    assert (lead.metric, lead.behind) == ("taylor", 0)
    assert lead.high < 0
    best = results.conclusion(frame(rows))[0]
    assert "the lead is -11.00 points" in best
    assert "open" not in best


def test_an_interval_around_zero_leaves_the_order_open():
    rows = cells({"output_l1": [0.5, 0.52, 0.51], "random": [0.5, 0.51, 0.52]})
    assert "so which of the two is better is open" in results.conclusion(frame(rows))[0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"a": [0.9], "b": [0.5]},
            "(one seed cannot both choose and judge, so the lead is unknown)",
        ),
        (
            {"a": [0.9] * 3, "b": [0.5] * 3},
            "(the same in all 3 seeds: no interval, so nothing is sure)",
        ),
    ],
)
def test_without_an_interval_nothing_is_sure(values, said):
    best = results.conclusion(frame(cells(values)))[0]
    assert best.endswith(f"{said}.")
    assert "ahead" not in best


def test_metrics_that_lack_a_cell_are_not_compared():
    rows = [*study(), *cells({"lucky": [0.99, None, 0.99, 0.99]}), failed("lucky", 1)]
    (lead,) = leads(frame(rows))
    assert (lead.metric, lead.metrics, lead.seeds) == ("taylor", 3, BASELINES)


def test_networks_from_scratch_and_cells_with_widths_of_are_not_compared():
    rows = study() + cells({"scratch": [0.99] * 4})
    rows += cells({"random": [0.99] * 4, "a": [0.1] * 4}, scope="widths_of", budget="widths_of(a)")
    assert [lead.metric for lead in leads(frame(rows))] == ["taylor"]


def test_settings_are_named_by_the_columns_that_differ():
    rows = study() + study(scope="global", normalisation="layer_mean", width=0.5)
    assert sorted(lead.place for lead in leads(frame(rows))) == [
        "digits (global, layer_mean, width 0.5)",
        "digits (local, uniform_parameters, width 1.0)",
    ]
    assert results.conclusion(frame(rows))[0].count("highest validation accuracy") == 2


def test_many_settings_are_counted():
    rows = study(dataset="a") + study(dataset="b") + study(dataset="c")
    rows += cells({"random": [0.9], "taylor": [0.5]}, dataset="d")
    assert results.conclusion(frame(rows))[0] == (
        "Of 4 combinations of study, budget and normalisation, the highest validation accuracy is "
        "that of taylor in 3 and random in 1; chosen by all seeds but one and judged by the test "
        "images of that one, the 95 % interval of the lead over the second lies above zero in 3; "
        "1 has one seed and so no estimate."
    )


def test_settings_whose_choice_depends_on_the_fold_are_counted():
    rows = study(dataset="a") + study(dataset="b") + study(dataset="c")
    rows += cells({"x": [0.9, 0.5, 0.5], "y": [0.6, 0.55, 0.56]}, dataset="d")
    best = results.conclusion(frame(rows))[0]
    assert best.endswith("in 1 the choice depends on the seed that is left out.")


def test_verdicts_and_failures_are_counted():
    wmi = {"dataset": "svhn", "source": "svhn"}
    ours = [0.5, 0.62, 0.7]
    rows = cells({"weighted_mutual_information": ours, "output_l1": [0.4, 0.5, 0.6]}, **wmi)
    rows += [failed("random"), failed("taylor"), cell("apoz", status="timeout")]
    end = "3 of 9 cells failed (2 diverged and 1 timeout)."
    assert results.conclusion(frame(rows))[1] == (
        'Of 1 primary comparison with the abstracts\' claims, 1 "same sign, size refuted"; ' + end
    )
    rows += cells({"weighted_mutual_information_kernel": ours}, **wmi)
    rows += cells({"weighted_mutual_information": ours, "output_l1": ours}, width=0.5, **wmi)
    assert results.conclusion(frame(rows))[1] == (
        'Of 2 primary comparisons with the abstracts\' claims, 1 "same sign, size refuted" and 1 '
        '"cannot tell"; 1 more is exploratory; 3 of 18 cells failed (2 diverged and 1 timeout).'
    )


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ([0.771, 0.770, 0.772], "lowers the unpruned network on digits by 4.7 points: the recipe"),
        ([0.771], "by 4.7 points (one seed: no interval): the recipe may hide differences of"),
        # The mean is lower, but the interval contains zero.
        ([0.771, 0.90, 0.772], None),
        ([0.85, 0.86, 0.85], None),
    ],
)
def test_a_recipe_that_lowers_the_unpruned_network_is_reported(after, said):
    rows = [unpruned(seed, 0.818, value) for seed, value in enumerate(after)]
    sentence = results.conclusion(frame(rows + cells({"random": [0.5] * 3})))[1]
    assert ("ine-tuning alone" in sentence) == (said is not None)
    assert said is None or said in sentence


def test_recipes_of_several_networks_are_told_apart():
    rows = [
        unpruned(seed, 0.818, 0.77 + 0.001 * seed + gain, variant=name)
        for name, gain in (("resnet20", 0.0), ("resnet56", 0.02))
        for seed in range(3)
    ]
    rows += [row for name in ("resnet20", "resnet56") for row in cells({"a": [0.5]}, variant=name)]
    said = "network on digits (resnet20) by 4.7 points and on digits (resnet56) by 2.7 points"
    assert said in results.conclusion(frame(rows))[1]


def test_what_is_missing_is_listed():
    missing = results.conclusion(frame(cells({"random": [0.5, 0.6], "taylor": [0.5, 0.6]})))[2]
    assert missing == (
        "A full comparison would also have 3 seeds or more in every study, 5 ratios or more in "
        "every study, the controls input_l1 and output_l1, networks trained from scratch, the "
        "control that fine-tunes the unpruned network and measured latencies."
    )


def test_claims_count_where_their_data_set_was_run():
    rows = cells({"random": [0.5], "taylor": [0.5]}, dataset="cifar10")
    on_cifar10 = [claim for claim in CLAIMS if claim.dataset == "cifar10"]
    found = results.conclusion(frame(rows))
    assert f"cells for 3 of the abstracts' {len(on_cifar10)} claims on these data sets" in found[2]
    assert "no claim of the abstracts was put to the test" in found[1].lower()
    own = results.conclusion(frame(cells({"random": [0.5], "taylor": [0.5]}, dataset="birds")))
    assert "abstracts" not in " ".join(own)
    assert "None of 2 cells failed." in own


def test_a_report_lists_no_claims_on_other_data_sets():
    rows = cells({"random": [0.5], "taylor": [0.5]}, dataset="birds")
    assert judged_claims(frame(rows)) == ([], [])
    rows += cells({"random": [0.5]}, dataset="svhn")
    told = judged_claims(frame(rows))[1]
    assert told == [claim.text for claim in CLAIMS if claim.dataset == "svhn"]


def test_a_study_without_the_control_of_its_fine_tuning_is_missing_it():
    rows = cells({"random": [0.5]}) + cells({"random": [0.5]}, finetune_epochs=9)
    only_one = results.conclusion(frame([*rows, unpruned()]))[2]
    assert "the control that fine-tunes the unpruned network in every study" in only_one
    both = [*rows, unpruned(), unpruned(finetune_epochs=9)]
    # Networks that are not fine-tuned need no control.
    both += cells({"random": [0.5]}, finetune_epochs=0)
    assert "unpruned" not in results.conclusion(frame(both))[2]


def test_nothing_is_missing_from_a_complete_study():
    names = ["random", "input_l1", "output_l1", "entropy_gaussian", "weighted_mutual_information"]
    rows = []
    for dataset in ("svhn", "cifar10", "cifar100"):
        for scope in ("local", "global"):
            for ratio in (0.3, 0.4, 0.45, 0.53, 0.9):
                changes = {"dataset": dataset, "scope": scope, "ratio": ratio, "latency_1_ms": 1.0}
                rows += cells({name: [0.5, 0.6, 0.7] for name in names}, **changes)
        # These have the baseline's recipe, and two ratios are enough for a control.
        for ratio in (0.3, 0.4):
            changes = {"dataset": dataset, "ratio": ratio, "finetune_epochs": 15}
            rows += cells({"scratch": [0.5, 0.6, 0.7]}, **changes)
        rows += [unpruned(seed, dataset=dataset) for seed in range(3)]
    assert results.conclusion(frame(rows))[2] == "Nothing that the method asks for is missing."


def test_no_cells_or_only_failed_cells_also_give_three_sentences():
    nothing = "No setting has two metrics with all their cells, so there is nothing to compare."
    assert results.conclusion(frame([]))[:2] == [
        nothing,
        "No cell was run.",
    ]
    sentences = results.conclusion(frame([failed("a"), failed("b")]))
    assert sentences[0] == nothing
    assert sentences[1].endswith("2 of 2 cells failed (2 diverged).")
    assert len(sentences) == 3


def test_a_claim_that_one_budget_tests_is_not_missing():
    ours = "weighted_mutual_information"
    rows = cells({ours: [0.5] * 3, "output_l1": [0.4] * 3}, dataset="cifar10", ratio=0.3)
    missing = results.conclusion(frame(rows))[2]
    assert "cells for 2 of the abstracts' 3 claims" in missing
    rows += cells({ours: [0.5] * 3}, dataset="cifar10", ratio=0.3, budget="uniform_channels")
    assert results.conclusion(frame(rows))[2] == missing
