"""What compensation adds: known answers, and nothing of different compensations is pooled."""

import math

import numpy as np
import pandas as pd
import pytest
from known_cells import cell, cells, failed, frame, unpruned
from scipy import stats

import results
from results.analysis.compensation import REFERENCE_STAGE
from results.analysis.study import BASELINE, POINT, STUDY, figures
from results.figures.panels import comparable

LS = {"compensation": "least_squares", "compensation_options": '{"images": 1024}'}
SEQUENTIAL = {"compensation": "least_squares_sequential(images=2048)"}
NONE = {"compensation": "none", "compensation_options": "{}"}

# By stage: accuracies of three seeds.
WITHOUT = {
    "pruned": (0.10, 0.20, 0.15),
    "compensated": (None, None, None),
    "recalibrated": (0.40, 0.50, 0.42),
    "finetuned": (0.80, 0.82, 0.81),
}
WITH = {
    "pruned": (0.10, 0.20, 0.15),
    "compensated": (0.60, 0.66, 0.63),
    "recalibrated": (0.70, 0.72, 0.71),
    "finetuned": (0.81, 0.85, 0.83),
}
# Differences in points of the three seeds, by the stages with and without compensation.
GAINS = {
    ("compensated", "pruned"): (50, 46, 48),
    ("compensated", "recalibrated"): (20, 16, 21),
    ("recalibrated", "recalibrated"): (30, 22, 29),
    ("finetuned", "finetuned"): (1, 3, 2),
}


def staged(accuracies, metric="random", **changes):
    """A cell for each seed, with an accuracy for each stage."""
    return [
        cell(
            metric,
            seed,
            **{
                f"{stage}_{split}_top1": values[seed] if split == "test" else 0.5
                for stage, values in accuracies.items()
                for split in ("test", "validation")
            },
            **changes,
        )
        for seed in range(3)
    ]


def pair(metric="random", **changes):
    return staged(WITHOUT, metric, **NONE, **changes) + staged(WITH, metric, **LS, **changes)


@pytest.mark.parametrize(("at", "reference_at"), GAINS)
def test_the_gain_of_each_pair_of_stages_computed_by_hand(at, reference_at):
    table = results.compensation_gain(frame(pair()), at, reference_at)
    (row,) = table.to_dict("records")
    points = np.array(GAINS[at, reference_at], float)
    test = stats.ttest_1samp(points, 0)
    low, high = test.confidence_interval(0.95)
    assert row["difference_points"] == pytest.approx(points.mean())
    assert row["deviation_points"] == pytest.approx(points.std(ddof=1))
    assert (row["low_points"], row["high_points"]) == (pytest.approx(low), pytest.approx(high))
    assert row["p"] == row["p_holm"] == pytest.approx(test.pvalue)
    assert (row["seeds"], row["unpaired"], row["note"]) == (3, 0, "")
    assert (row["metric"], row["compensation"]) == ("random", "least_squares")
    assert (row["stage"], row["reference_stage"]) == (at, reference_at)
    assert row["accuracy"] == pytest.approx(np.mean(WITH[at]))
    assert row["accuracy_reference"] == pytest.approx(np.mean(WITHOUT[reference_at]))
    # The mean over a single metric is its own gain.
    (mean,) = results.mean_compensation_gain(frame(pair()), at, reference_at).to_dict("records")
    for name in ("difference_points", "deviation_points", "low_points", "high_points", "seeds"):
        assert mean[name] == pytest.approx(row[name])
    for name in ("accuracy", "accuracy_reference"):
        assert mean[name] == pytest.approx(row[name])
    assert (mean["metrics"], mean["left_out"]) == (1, 0)


def test_the_stage_without_compensation_is_the_same_one_unless_named():
    table = frame(pair())
    for at, reference_at in REFERENCE_STAGE.items():
        for gain in (results.compensation_gain, results.mean_compensation_gain):
            pd.testing.assert_frame_equal(gain(table, at), gain(table, at, reference_at))
    assert results.compensation_gain(table)["stage"].tolist() == ["recalibrated"]
    validated = results.compensation_gain(table, split="validation")
    assert validated["difference_points"].tolist() == [0]


@pytest.mark.parametrize("gain", [results.compensation_gain, results.mean_compensation_gain])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pruned",), "at='pruned' is before compensation; allowed: compensated, recalibrated"),
        (("later",), "at='later' is unknown; allowed: baseline, pruned, compensated"),
        (("finetuned", "compensated"), "reference_at='compensated' is unknown; allowed: pruned"),
        (("finetuned", None, "train"), "split='train' is unknown; allowed: validation, test"),
    ],
    ids=str,
)
def test_stages_that_cannot_be_compared_are_refused(gain, arguments, said):
    with pytest.raises(ValueError, match=said):
        gain(frame(pair()), *arguments)


def test_each_setting_metric_and_compensation_has_its_row():
    rows = pair() + pair("taylor") + pair(ratio=0.6) + pair(scope="global")
    rows += pair(normalisation="mean", scope="global") + pair(groups="inner")
    rows += staged(WITH, **SEQUENTIAL)
    table = results.compensation_gain(frame(rows))
    assert len(table) == 7
    assert not table.duplicated([*STUDY, *POINT, "metric"]).any()
    assert (table["difference_points"] - 27).abs().max() < 1e-9
    assert (table["seeds"] == 3).all()
    assert list(table.columns[: len(STUDY)]) == list(STUDY)
    # Two metrics at one point give one mean.
    assert len(results.mean_compensation_gain(frame(rows))) == 6


def test_a_cell_is_paired_with_the_one_of_its_own_baseline_alone():
    rows = pair()
    rows[2] = failed("random", 2, **NONE)
    rows[4] |= {"baseline_checksum": "weights of another training"}
    (row,) = results.compensation_gain(frame(rows)).to_dict("records")
    # Only seed 0 has both. Seed 1 was trained twice, and a cell of seed 2 failed.
    assert (row["seeds"], row["unpaired"], row["difference_points"]) == (1, 2, pytest.approx(30))
    assert row["note"] == "one seed: no interval"
    (mean,) = results.mean_compensation_gain(frame(rows)).to_dict("records")
    assert (mean["seeds"], mean["difference_points"]) == (1, pytest.approx(30))
    assert math.isnan(mean["low_points"])


def test_where_one_of_the_two_was_not_run_there_is_no_gain():
    (row,) = results.compensation_gain(frame(staged(WITH, **LS))).to_dict("records")
    assert row["note"] == "the network without compensation was not run here"
    assert (row["seeds"], row["unpaired"]) == (0, 3)
    assert math.isnan(row["difference_points"])
    assert results.mean_compensation_gain(frame(staged(WITH, **LS))).empty
    assert results.compensation_gain(frame(staged(WITHOUT))).empty


def test_without_cells_the_columns_are_the_same():
    for gain in (results.compensation_gain, results.mean_compensation_gain):
        full = gain(frame(pair()))
        for rows in ([], staged(WITHOUT, **NONE)):
            assert list(gain(frame(rows)).columns) == list(full.columns)
            assert gain(frame(rows)).empty


def test_networks_that_are_not_fine_tuned_have_no_gain_after_it():
    rows = pair(finetune_epochs=0)
    for gain in (results.compensation_gain, results.mean_compensation_gain):
        assert len(gain(frame(rows), "recalibrated")) == 1
        assert gain(frame(rows), "finetuned").empty


def test_controls_have_no_gain():
    rows = [*pair(), unpruned(), *cells({"scratch": [0.9, 0.9]})]
    for gain in (results.compensation_gain, results.mean_compensation_gain):
        pd.testing.assert_frame_equal(gain(frame(rows)), gain(frame(pair())))


def test_the_mean_is_over_the_metrics_that_every_seed_has():
    rows = []
    # Gains of metric a: 10, 20, 30 points; of b: 20, 40, 30; of c: 90 in one seed alone.
    several = {"a": (10, 20, 30), "b": (20, 40, 30), "c": (90, None, None), "d": (None,) * 3}
    for metric, gains in several.items():
        for seed, gain in enumerate(gains):
            rows.append(cell(metric, seed, 0.1, **NONE))
            if gain is not None:
                rows.append(cell(metric, seed, 0.1 + gain / 100, **LS))
            elif metric == "d":
                rows.append(failed(metric, seed, **LS))
    (row,) = results.mean_compensation_gain(frame(rows)).to_dict("records")
    points = np.array([15, 30, 30], float)
    low, high = stats.ttest_1samp(points, 0).confidence_interval(0.95)
    assert row["difference_points"] == pytest.approx(25)
    assert row["deviation_points"] == pytest.approx(points.std(ddof=1))
    assert (row["low_points"], row["high_points"]) == (pytest.approx(low), pytest.approx(high))
    assert (row["seeds"], row["metrics"], row["left_out"]) == (3, 2, 2)
    assert (row["accuracy_reference"], row["accuracy"]) == (pytest.approx(0.1), pytest.approx(0.35))


def test_the_mean_is_that_of_the_metrics_own_gains():
    chance = np.random.default_rng(0)
    rows = [
        cell(f"m{at}", seed, float(chance.random()), ratio=ratio, **own)
        for at in range(5)
        for seed in range(4)
        for ratio in (0.3, 0.6)
        for own in (NONE, LS, SEQUENTIAL)
    ]
    each = results.compensation_gain(frame(rows))
    expected = each.groupby(["compensation", "ratio"])["difference_points"].mean()
    found = results.mean_compensation_gain(frame(rows)).set_index(["compensation", "ratio"])
    assert len(found) == 4
    pd.testing.assert_series_equal(found["difference_points"], expected, check_index_type=False)
    assert set(found["metrics"]) == {5}


def versioned(version, **changes):
    """A cell with compensation, and the version of its code in its identity."""
    made = cell(**LS, **changes)
    part = f'"compensation": {{"name": "least_squares", "version": {version}}}, '
    return made | {"identity": made["identity"].replace("{", "{" + part, 1)}


def test_two_versions_of_a_compensation_are_not_compared():
    # The metrics differ, and so do the ratios: one study has one version.
    rows = [versioned(1), versioned(2, metric="random", seed=1, ratio=0.6), cell(**NONE)]
    for call in (results.accuracy_table, results.compensation_gain, results.rank_metrics):
        with pytest.raises(ValueError, match=r"compensation\.version is 1 and 2") as told:
            call(frame(rows))
    line = str(told.value).partition("such as ")[2]
    chosen = eval(line, {"frame": frame(rows), "results": results})
    assert chosen["compensation"].tolist() == ["least_squares"]
    results.accuracy_table(chosen)
    # Another compensation, another study, and cells without one need not agree.
    rows = [versioned(1), cell(**NONE), versioned(2, dataset="svhn")]
    assert len(results.accuracy_table(frame(rows))) == 3


def test_a_message_names_the_compensation():
    rows = [cell(**LS), cell(**LS)]
    with pytest.raises(ValueError, match=r"none, least_squares, ratio 0\.3, seed 0"):
        results.accuracy_table(frame(rows))


def test_the_identity_is_readable():
    found = results.identities(frame([versioned(1), cell()]))
    assert found["compensation.name"].tolist()[:1] == ["least_squares"]
    assert found["compensation.version"].isna().tolist() == [False, True]


def test_at_compensated_there_are_no_cells_without():
    table = results.accuracy_table(frame(pair()), "compensated")
    assert table["compensation"].tolist() == ["least_squares"]
    assert table["mean"].tolist() == [pytest.approx(0.63)]


def test_a_row_that_says_nothing_has_no_compensation():
    # SQL over files of two schema versions gives such rows.
    rows = cells({"random": [0.5]}) + cells({"random": [None, 0.7]}, **NONE)
    (row,) = results.accuracy_table(frame(rows)).to_dict("records")
    assert (row["compensation"], row["seeds"], row["mean"]) == ("none", 2, pytest.approx(0.6))
    assert set(comparable(frame(rows))["compensation"]) == {"none"}


SCRATCH = {"scratch": [0.1, 0.2]}


def compared(**changes):
    return cells({"random": [0.3, 0.45], "output_l1": [0.5, 0.6]}, **changes)


@pytest.mark.parametrize("known", [lambda table: table, comparable], ids=["rows", "report"])
def test_a_network_trained_from_scratch_stands_beside_every_compensation(known):
    rows = compared() + compared(**LS, finetune_epochs=9) + compared(**SEQUENTIAL)
    rows += cells(SCRATCH, finetune_epochs=4)
    table = results.paired_difference(known(frame(rows)), "scratch", "output_l1")
    assert table[["finetune_epochs", "compensation"]].to_numpy().tolist() == [
        [2, "least_squares_sequential(images=2048)"],
        [2, "none"],
        [9, "least_squares"],
    ]
    assert (table["seeds"] == 2).all()
    assert (table["unpaired"] == 0).all()
    assert (table["difference_points"] + 40).abs().max() < 1e-9


@pytest.mark.parametrize("known", [lambda table: table, comparable], ids=["rows", "report"])
def test_it_is_not_lent_to_a_budget_without_that_compensation(known):
    rows = compared() + compared(**LS, scope="global") + cells(SCRATCH)
    table = results.paired_difference(known(frame(rows)), "scratch", "output_l1")
    assert table[["scope", "compensation"]].to_numpy().tolist() == [["local", "none"]]


def test_cells_of_other_compensations_are_ranked_apart():
    values = {"a": [0.9, 0.8], "b": [0.5, 0.4], "c": [0.1, 0.2]}
    other = {"a": [0.1, 0.2], "b": [0.5, 0.4], "c": [0.9, 0.8]}
    table = results.rank_metrics(frame(cells(values) + cells(other, **LS)))
    first = table[table["mean_rank"] == 1].set_index("compensation")
    assert first["metric"].to_dict() == {"none": "a", "least_squares": "c"}
    assert (table["blocks"] == 2).all()


def test_fronts_of_other_compensations_are_apart():
    rows = cells({"a": [0.5, 0.6]}, parameters=100, baseline_test_top1=0.9)
    rows += cells({"a": [0.7, 0.8]}, parameters=100, baseline_test_top1=0.9, **LS)
    rows += cells({"scratch": [0.75, 0.75]}, parameters=100, baseline_test_top1=0.9)
    table = results.pareto(frame(rows))
    shown = table[table["on_front"]].groupby("compensation")["metric"].apply(sorted).to_dict()
    tie = ["a", "scratch", "unpruned"]
    assert shown == {"none": ["scratch", "unpruned"], "least_squares": tie}
    assert len(table) == 6
    rows = [row | {"compensated_test_top1": row["finetuned_test_top1"]} for row in rows]
    (early,) = results.pareto(frame(rows), at="compensated")["compensation"].unique()
    assert early == "least_squares"


def test_every_baseline_is_one_row_of_each_compensation():
    rows = pair() + staged(WITH, **SEQUENTIAL)
    found = figures(frame(rows))
    assert found.groupby("compensation").size().to_dict() == {
        "none": 3,
        "least_squares": 3,
        SEQUENTIAL["compensation"]: 3,
    }
    assert not found.duplicated([*STUDY, *POINT, "metric", *BASELINE]).any()
