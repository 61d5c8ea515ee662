"""The lead of the best metric, chosen by some seeds and judged by another."""

import math

import numpy as np
import pytest
from known_cells import cell, cells, failed, frame, unpruned

from results.analysis.leads import leads

STUDIES, METRICS, SEEDS = 30, 8, 3


def noise():
    """Studies in which no metric is better than another; networks differ by one point.

    The accuracies on validation and on test images are those of one network and are equal.
    """
    chance = np.random.default_rng(0)
    values = 0.5 + 0.01 * chance.standard_normal((STUDIES, METRICS, SEEDS))
    rows = [
        row
        for study in range(STUDIES)
        for row in cells(
            {f"m{at:02}": values[study, at] for at in range(METRICS)}, dataset=f"d{study:02}"
        )
    ]
    return values, rows


def test_a_choice_among_equal_metrics_has_a_lead_around_zero():
    values, rows = noise()
    found = leads(frame(rows))
    assert len(found) == STUDIES
    # Where the seeds that choose also judge, the best of equal metrics always has a lead.
    means = np.sort(values.mean(axis=2), axis=1)
    assert (means[:, -1] - means[:, -2]).min() > 0
    points = np.array([lead.points for lead in found])
    assert abs(points.mean()) < 2 * points.std(ddof=1) / STUDIES**0.5
    assert 0.3 < (points > 0).mean() < 0.7
    # 95 % intervals contain the true difference, which is zero.
    assert np.mean([lead.low <= 0 <= lead.high for lead in found]) >= 0.9
    assert np.mean([lead.chosen < SEEDS for lead in found]) > 0.8


def test_each_fold_is_chosen_by_the_other_seeds():
    # Validation means without seed 0: b, a, c; without 1: a, c, b; without 2: a, b, c.
    validation = {"a": [0.5, 0.5, 0.5], "b": [0.1, 0.9, 0.3], "c": [0.4, 0.3, 0.4]}
    test = {"a": [0.50, 0.61, 0.72], "b": [0.53, 0.1, 0.70], "c": [0.1, 0.60, 0.1]}
    rows = [
        cell(name, seed, test[name][seed], finetuned_validation_top1=validation[name][seed])
        for name in "abc"
        for seed in range(3)
    ]
    (lead,) = leads(frame(rows))
    assert (lead.metric, lead.second, lead.seeds) == ("a", "b", 3)
    # Differences of 3, 1 and 2 points; t(2) at 0.975 is 4.302653.
    assert lead.points == pytest.approx(2)
    assert lead.high - lead.low == pytest.approx(2 * 4.302653 / 3**0.5, rel=1e-6)
    assert (lead.chosen, lead.second_chosen) == (2, 1)


def test_with_two_seeds_each_is_judged_by_the_choice_of_the_other():
    rows = [
        cell(name, seed, test, finetuned_validation_top1=validation)
        for name, seed, validation, test in [
            ("a", 0, 0.9, 0.5),
            ("b", 0, 0.5, 0.53),
            ("a", 1, 0.4, 0.5),
            ("b", 1, 0.5, 0.51),
        ]
    ]
    (lead,) = leads(frame(rows))
    # Seed 1 chooses b, which is 3 points ahead in seed 0. Seed 0 chooses a, 1 point behind.
    assert (lead.metric, lead.points, lead.chosen) == ("a", pytest.approx(1), 1)
    assert not math.isnan(lead.low)


def test_one_seed_chooses_but_has_no_estimate():
    (lead,) = leads(frame(cells({"a": [0.9], "b": [0.5]})))
    assert (lead.metric, lead.second, lead.seeds, lead.chosen) == ("a", "b", 1, 0)
    assert all(map(math.isnan, (lead.points, lead.low, lead.high)))
    assert lead.behind == 0


def test_a_metric_that_is_chosen_in_no_fold_is_not_ahead_by_its_own_choice():
    # b and c each win by a seed of luck; a is second everywhere, and so chosen by no fold.
    rows = cells({"a": [0.5, 0.5, 0.5], "b": [0.9, 0.1, 0.4], "c": [0.1, 0.9, 0.4]})
    (lead,) = leads(frame(rows))
    assert lead.points < 0
    assert lead.behind == 0


def test_the_macs_of_the_best_metrics_are_those_that_compete():
    rows = cells({"a": [0.5, 0.6]}, macs=9_000, ratio=0.3) + cells({"a": [0.5, 0.6]}, macs=9_500)
    rows = [row | {"ratio": 0.6} if row["macs"] == 9_500 else row for row in rows]
    rows += cells({"b": [0.4, 0.5]}, macs=1_000, ratio=0.3)
    rows += cells({"b": [0.4, 0.5]}, macs=2_000, ratio=0.6)
    (lead,) = leads(frame(rows))
    assert (lead.macs, lead.macs_second) == (pytest.approx(0.925), pytest.approx(0.15))


def test_controls_and_metrics_without_all_their_cells_do_not_compete():
    rows = cells({"a": [0.5, 0.6], "b": [0.4, 0.5], "lucky": [0.99, None], "scratch": [0.99] * 2})
    rows += [failed("lucky", 1), unpruned(0), unpruned(1)]
    (lead,) = leads(frame(rows))
    assert (lead.metric, lead.metrics) == ("a", 2)


def test_each_compensation_has_its_best_metric():
    rows = cells({"a": [0.9, 0.8], "b": [0.6, 0.55]})
    rows += cells({"a": [0.6, 0.55], "b": [0.9, 0.8]}, compensation="least_squares")
    found = {lead.place: lead.metric for lead in leads(frame(rows))}
    assert found == {
        "digits (local, uniform_parameters, no compensation)": "a",
        "digits (local, uniform_parameters, least_squares)": "b",
    }
    # Where it is the only one, it is named all the same.
    (alone,) = leads(frame(rows[4:]))
    assert alone.place == "digits (local, uniform_parameters, least_squares)"


def test_images_of_an_epoch_are_named_where_they_are_not_all():
    rows = cells({"a": [0.5], "b": [0.4]})
    half = {"train_images": 500, "baseline_images": 500, "finetune_images": 250}
    rows += cells({"a": [0.5], "b": [0.4]}, **half)
    assert sorted(lead.place for lead in leads(frame(rows))) == [
        "digits (local, uniform_parameters, train_images 500, finetune_images 250)",
        "digits (local, uniform_parameters, train_images 900)",
    ]


def test_what_differs_only_between_data_sets_is_not_named():
    values = {"a": [0.5], "b": [0.4]}
    rows = cells(values) + cells(values, dataset="d1", train_images=500)
    assert sorted(lead.place for lead in leads(frame(rows))) == [
        "d1 (local, uniform_parameters)",
        "digits (local, uniform_parameters)",
    ]


def test_networks_and_channel_groups_that_vary_are_in_the_words_of_a_setting():
    values = {"a": [0.9, 0.8], "b": [0.6, 0.55]}
    option = {"variant": "resnet20", "network_options": '{"shortcut": "B"}'}
    rows = cells(values) + cells(values, **option) + cells(values, groups="inner", **option)
    rows += cells(values, groups="inner", combine="max", weights="0123456789", **option)
    places = sorted(lead.place for lead in leads(frame(rows)))
    start = "digits (local, uniform_parameters, variant"
    assert places == [
        f"{start} resnet20, shortcut B, all groups, mean over producers)",
        f"{start} resnet20, shortcut B, inner groups, mean over producers)",
        f"{start} resnet20, shortcut B, weights 01234567, inner groups, max over producers)",
        f"{start} simplenet_310k, all groups, mean over producers)",
    ]


def test_metrics_that_lack_a_ratio_or_a_seed_are_counted():
    rows = [
        *cells({"a": [0.9, 0.8], "b": [0.5, 0.6], "c": [0.7, 0.7]}, ratio=0.3),
        *cells({"a": [0.9, 0.8], "b": [0.5, 0.6], "d": [0.7]}, ratio=0.5),
    ]
    (lead,) = leads(frame(rows))
    assert (lead.metric, lead.metrics, lead.left_out) == ("a", 2, 2)


TRAINED_TWICE = [
    cell(name, seed, accuracy + 0.01 * seed + ratio / 10, ratio=ratio, baseline_checksum=network)
    for name, values in {"a": (0.9, 0.8, 0.85), "b": (0.6, 0.55, 0.62), "c": (0.5,) * 3}.items()
    for seed, accuracy in enumerate(values)
    for ratio in (0.3, 0.5)
    # Each part of the grid ran on a machine that trained the network itself.
    for network in [f"seed {seed} for {ratio}"]
]


def test_a_seed_whose_network_was_trained_anew_at_another_ratio_is_one_seed():
    once = [row | {"baseline_checksum": str(row["seed"])} for row in TRAINED_TWICE]
    (lead,), (expected,) = leads(frame(TRAINED_TWICE)), leads(frame(once))
    assert lead == expected
    assert (lead.seeds, lead.ratios) == (3, 2)
    # One seed cannot both choose and judge, however often it was trained.
    (alone,) = leads(frame([row for row in TRAINED_TWICE if row["seed"] == 0]))
    assert (alone.seeds, math.isnan(alone.points)) == (1, True)


def test_a_seed_whose_metrics_prune_different_networks_is_left_out():
    rows = [
        row | {"baseline_checksum": "another"} if (row["metric"], row["seed"]) == ("b", 2) else row
        for row in TRAINED_TWICE
    ]
    (lead,) = leads(frame(rows))
    (expected,) = leads(frame([row for row in TRAINED_TWICE if row["seed"] != 2]))
    assert (lead.seeds, lead.points, lead.metrics) == (2, expected.points, 3)


def test_a_ratio_that_some_seeds_lack_drops_no_metric():
    rows = cells({"a": [0.9, 0.8, 0.85], "b": [0.6, 0.5, 0.4]}, ratio=0.3)
    (expected,) = leads(frame(rows))
    # One seed has gone on to another ratio, with one metric so far.
    (lead,) = leads(frame([*rows, cell("b", 0, 0.1, ratio=0.1)]))
    assert lead == expected
    assert (lead.metric, lead.ratios, lead.left_out) == ("a", 1, 0)


@pytest.mark.parametrize(("accuracy", "ahead"), [(0.95, 1), (0.1, 0)])
def test_a_metric_that_lacks_a_cell_but_leads_elsewhere_is_counted(accuracy, ahead):
    rows = [
        row
        for ratio in (0.3, 0.5)
        for row in cells({"a": [0.9, 0.8, 0.85], "b": [0.6, 0.5, 0.4]}, ratio=ratio)
    ]
    rows += [cell("lost", seed, accuracy, ratio=ratio) for seed in range(3) for ratio in (0.3, 0.5)]
    rows[-1] = failed("lost", 2, ratio=0.5)
    (lead,) = leads(frame(rows))
    assert (lead.metric, lead.left_out, lead.left_out_ahead) == ("a", 1, ahead)
