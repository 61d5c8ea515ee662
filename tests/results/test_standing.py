"""How one method stands among all others at the same ratio."""

import numpy as np
import pytest
from known_cells import cell, cells, failed, frame
from scipy import stats

import results

SURGEON = {"metric": "surgeon"}


def contest(**accuracies):
    """Three methods over four seeds; `surgeon` is far ahead of `random` unless said otherwise."""
    usual = {
        "surgeon": [0.70, 0.72, 0.71, 0.705],
        "output_l1": [0.69, 0.70, 0.715, 0.70],
        "random": [0.50, 0.51, 0.52, 0.505],
    }
    return cells(usual | accuracies)


def stand(rows, method=SURGEON, **options):
    (row,) = results.standing(frame(rows), method, **options).to_dict("records")
    return row


def test_a_contest_computed_by_hand():
    row = stand(contest())
    ours, theirs = np.array([0.70, 0.72, 0.71, 0.705]), np.array([0.69, 0.70, 0.715, 0.70])
    test = stats.ttest_1samp(100 * (ours - theirs), 0)
    low, high = test.confidence_interval(0.95)
    assert (row["entries"], row["ahead"], row["behind"], row["untested"]) == (3, 1, 0, 0)
    assert (row["verdict"], row["stage"]) == ("tied first", "finetuned")
    assert (row["metric"], row["rival_metric"]) == ("surgeon", "output_l1")
    assert row["difference_points"] == pytest.approx(0.75)
    assert (row["low_points"], row["high_points"]) == (pytest.approx(low), pytest.approx(high))
    # The smaller p of the two, that of random, is doubled; this one stays.
    assert row["p"] == row["p_holm"] == pytest.approx(test.pvalue)
    assert (row["accuracy"], row["accuracy_rival"]) == (0.70875, 0.70125)
    assert row["seeds"] == 4


@pytest.mark.parametrize(
    ("output_l1", "verdict", "ahead", "behind"),
    [
        ([0.60, 0.61, 0.62, 0.60], "first", 2, 0),
        ([0.80, 0.81, 0.82, 0.80], "behind", 1, 1),
    ],
)
def test_the_verdict_follows_the_corrected_tests(output_l1, verdict, ahead, behind):
    row = stand(contest(output_l1=output_l1))
    assert (row["verdict"], row["ahead"], row["behind"]) == (verdict, ahead, behind)


def test_p_values_are_corrected_within_a_contest():
    # One rival is better with p = 0.03: of one rival that is significant, of three it is not.
    rival = np.array([0.70, 0.72, 0.71, 0.705]) + np.array([0.010, 0.022, 0.030, 0.014])
    found = stats.ttest_1samp(rival - np.array([0.70, 0.72, 0.71, 0.705]), 0).pvalue
    assert 0.05 / 3 < found < 0.05
    alone = [row for row in contest(output_l1=rival) if row["metric"] != "random"]
    assert stand(alone)["verdict"] == "behind"
    noisy = {name: [0.6, 0.8, 0.65, 0.75] for name in ("random", "taylor", "fpgm")}
    row = stand(contest(output_l1=rival, **noisy))
    assert (row["verdict"], row["p_holm"]) == ("tied first", pytest.approx(4 * found))
    # Rivals of another contest do not count.
    other = [row | {"ratio": 0.5} for row in contest(**noisy)]
    table = results.standing(frame(alone + other), SURGEON)
    assert table["verdict"].tolist() == ["behind", "tied first"]


def test_every_allocation_and_compensation_at_the_ratio_is_a_rival():
    rows = contest() + contest(surgeon=[0.8, 0.82, 0.81, 0.815])[:4]
    for row in rows[-4:]:
        row["compensation"] = "least_squares"
    rows += [row | {"budget": "erk"} for row in contest()]
    rows += [row | {"scope": "global", "budget": "global"} for row in contest()]
    row = stand(rows, SURGEON | {"budget": "uniform_parameters", "compensation": "least_squares"})
    assert (row["entries"], row["verdict"], row["scope"]) == (7, "first", "local")
    assert (row["rival_metric"], row["rival_compensation"]) == ("surgeon", "none")


def test_other_costs_ratios_and_recipes_are_other_contests():
    rows = contest() + [row | {"ratio": 0.5} for row in contest()]
    rows += [row | {"ratio_of": "macs", "budget": "uniform_macs"} for row in contest()]
    table = frame(rows + [row | {"finetune": "low_rate"} for row in contest()])
    assert len(results.standing(table, SURGEON)) == 4


def test_one_seed_is_no_test_and_no_tie():
    row = stand([row for row in contest() if row["seed"] == 0])
    assert (row["verdict"], row["untested"], row["seeds"]) == ("not tested", 2, 1)
    assert np.isnan(row["low_points"])


def test_a_rival_that_is_ahead_by_the_same_in_every_seed_is_no_tie():
    row = stand(contest(output_l1=[0.75, 0.77, 0.76, 0.755]))
    assert (row["verdict"], row["untested"], row["behind"]) == ("not tested", 1, 0)
    same = stand(contest(output_l1=[0.70, 0.72, 0.71, 0.705]))
    assert (same["verdict"], same["untested"], same["ahead"]) == ("tied first", 1, 1)


def test_controls_and_methods_without_a_pair_win_nothing():
    rows = [*contest(), *cells({"scratch": [0.99, 0.98, 0.99, 0.97]})]
    rows += cells({"random": [0.9] * 4}, scope="widths_of", budget="widths_of(output_l1)")
    rows += [failed("taylor", seed) for seed in range(4)]
    row = stand(rows)
    assert (row["rival_metric"], row["entries"], row["untested"]) == ("output_l1", 4, 1)


def test_validation_images_may_choose():
    rows = contest()
    for row in rows:
        row["finetuned_validation_top1"] = row["finetuned_test_top1"] / 2
    assert stand(rows, split="validation")["accuracy"] == pytest.approx(0.70875 / 2)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"ratio": "0.3"}, "'ratio' is no part of a method; allowed: metric, budget"),
        ({}, "^method is {}; give a dict that names it, such as {'metric': 'surgeon'}"),
        ("surgeon", "^method is 'surgeon'; give a dict"),
        ({"metric": "taylor"}, "no cell has metric taylor"),
        (
            {"metric": "surgeon"},
            "metric surgeon is several methods: name the compensation too, one of least_squares, "
            "none",
        ),
    ],
)
def test_a_method_that_is_none_or_several_is_refused(method, said):
    rows = [*contest(), cell("surgeon", compensation="least_squares")]
    with pytest.raises(ValueError, match=said):
        results.standing(frame(rows), method)


def test_a_method_alone_has_no_contest():
    alone = results.standing(frame(cells({"surgeon": [0.7, 0.71]})), SURGEON)
    assert alone.empty
    assert list(alone.columns) == list(results.standing(frame(contest()), SURGEON).columns)
