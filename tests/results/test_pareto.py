"""Pareto fronts of accuracy and cost, compared with the definition."""

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some
from known_cells import cell, cells, failed, frame

import results
from results.report import tables

points = some.lists(some.tuples(some.integers(1, 6), some.integers(0, 6)), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(points)
@example([(1, 0)] * 3)  # with rounding, the mean of three 0.35 is slightly less
def test_a_point_is_on_the_front_if_no_other_dominates_it(values):
    rows = [
        cell(f"m{at:02}", 0, accuracy / 10, parameters=100 * cost, baseline_test_top1=0.35)
        for at, (cost, accuracy) in enumerate(values)
    ]
    table = results.pareto(frame(rows))
    every = [*((100 * cost, accuracy / 10) for cost, accuracy in values), (1000, 0.35)]

    def dominated(cost, accuracy):
        return any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in every)

    assert len(table) == len(every)
    for row in table.itertuples():
        assert row.on_front is not dominated(row.parameters, row.accuracy)


def test_means_over_the_seeds_with_their_interval():
    rows = [
        cell("a", seed, accuracy, parameters=parameters)
        for seed, (accuracy, parameters) in enumerate([(0.5, 100), (0.7, 120), (0.6, 110)])
    ]
    table = results.pareto(frame(rows)).set_index("metric")
    assert table.loc["a", "accuracy"] == pytest.approx(0.6)
    assert table.loc["a", "parameters"] == pytest.approx(110)
    assert table.loc["a", "low"] == pytest.approx(0.6 - 4.302653 * 0.1 / 3**0.5, abs=1e-6)
    assert table.loc["a", "seeds"] == 3
    assert table.loc["unpruned", "parameters"] == 1000
    assert table.loc["unpruned", "ratio"] == 1
    assert table.loc["unpruned", "accuracy"] == pytest.approx(0.6)


def test_sweeps_with_other_channel_groups_have_a_front_each():
    network = {"variant": "resnet20", "baseline_test_top1": 0.9}
    rows = cells({"a": [0.5, 0.6]}, parameters=100, **network)
    rows += cells({"a": [0.7, 0.8]}, parameters=100, groups="inner", **network)
    table = results.pareto(frame(rows))
    assert table["on_front"].all()
    assert table.groupby("groups")["metric"].apply(sorted).to_dict() == {
        "all": ["a", "unpruned"],
        "inner": ["a", "unpruned"],
    }
    assert (table["seeds"] == 2).all()


def test_a_metric_that_lacks_a_seed_is_not_compared():
    rows = cells({"a": [0.5, 0.6], "b": [0.99, None]}, parameters=100)
    table = results.pareto(frame(rows)).set_index("metric")
    assert table["on_front"].to_dict() == {"a": True, "b": False, "unpruned": True}
    assert table.loc["b", "note"] == "1 of 2 seeds: not compared"
    assert table.loc["a", "note"] == ""


def test_a_seed_that_failed_for_all_metrics_is_ignored():
    rows = cells({"a": [0.5, 0.6], "b": [0.3, 0.4]}, parameters=100, baseline_test_top1=0.9)
    rows += [failed("a", 2), failed("b", 2), cell("c", 2, 0.1, status="timeout")]
    table = results.pareto(frame(rows)).set_index("metric")
    assert table["on_front"].to_dict() == {"a": True, "b": False, "unpruned": True}


def test_data_sets_networks_and_trainings_have_separate_fronts_but_floors_do_not():
    rows = cells({"good": [0.9]})
    apart = [{"dataset": "svhn"}, {"variant": "simplenet_460k"}, {"width": 0.5}, {"epochs": 9}]
    apart += [{"train_images": 90}, {"test_images": 90}, {"finetune_epochs": 9}]
    for changes in apart:
        rows += cells({"bad": [0.1]}, **changes)
    rows += cells({"floored": [0.2]}, min_channels=4)
    table = results.pareto(frame(rows))
    assert table.loc[table["metric"] == "bad", "on_front"].tolist() == [True] * len(apart)
    assert table.loc[table["metric"] == "floored", "on_front"].tolist() == [False]


@pytest.mark.parametrize("cost", ["macs", "latency_1_ms", "latency_256_ms"])
def test_each_cost_has_its_own_front(cost):
    full = cost.replace("latency", "latency_full") if cost != "macs" else "macs_full"
    rows = [
        cell("a", 0, 0.5, parameters=1, **{cost: 9, full: 10}),
        cell("b", 0, 0.6, parameters=2, **{cost: 5, full: 12}),
    ]
    table = results.pareto(frame(rows), cost).set_index("metric")
    assert table["on_front"].to_dict() == {"b": True, "a": False, "unpruned": False}
    assert table[cost].to_dict() == {"b": 5, "a": 9, "unpruned": 11}


def test_latencies_of_machines_are_never_mixed():
    def on(device, threads, metric, seed, milliseconds):
        alike = {"latency_full_1_ms": 10.0, "baseline_test_top1": 0.9}
        where = {"device": device, "threads": threads, "latency_1_ms": milliseconds}
        return cell(metric, seed, 0.5 + 0.1 * (metric == "b"), **where, **alike)

    rows = [on("fast", 1, "a", 0, 1.0), on("slow", 1, "a", 1, 9.0), on("slow", 2, "b", 1, 8.5)]
    table = results.pareto(frame(rows), "latency_1_ms")
    ours = table[table["metric"] != "unpruned"].set_index(["device", "threads"])
    assert ours["latency_1_ms"].to_dict() == {("fast", 1): 1, ("slow", 1): 9, ("slow", 2): 8.5}
    assert ours["on_front"].all()
    assert len(table) == 6


def test_cells_without_a_measured_cost_are_left_out():
    table = results.pareto(frame(cells({"a": [0.5]})), "latency_1_ms")
    assert table.empty
    assert "latency_1_ms" in table.columns


def test_networks_from_scratch_join_the_front_of_the_study_they_control():
    trained = {"finetune_epochs": 4, "recipe": {"epochs": 4}}
    rows = [cell("a", 0, 0.5), cell("scratch", 0, 0.6, **trained)]
    table = results.pareto(frame([row | {"baseline_test_top1": 0.4} for row in rows]))
    assert set(table["finetune_epochs"]) == {2}
    on_front = table.set_index("metric")["on_front"].to_dict()
    assert on_front == {"scratch": True, "a": False, "unpruned": False}


@pytest.mark.parametrize(
    ("words", "why"), [({"cost": "seconds"}, "allowed: parameters"), ({"at": "baseline"}, "pruned")]
)
def test_an_unknown_cost_or_stage_is_refused(words, why):
    with pytest.raises(ValueError, match=why):
        results.pareto(frame(cells({"a": [0.5]})), **words)


def test_permuted_rows_and_failed_ones_change_nothing():
    rows = cells({"a": [0.5, 0.6], "b": [0.7, 0.8]}, parameters=100)
    expected = results.pareto(frame(rows))
    changed = frame([failed("a", 0), *rows[::-1]])
    pd.testing.assert_frame_equal(results.pareto(changed), expected)


def test_points_say_what_is_left_of_both_parameters_and_macs():
    rows = [cell("a", seed, 0.5 + seed / 10, macs=macs) for seed, macs in ((0, 200), (1, 600))]
    table = results.pareto(frame(rows)).set_index("metric")
    assert table["parameter_ratio"].round(9).to_dict() == {"a": 0.3, "unpruned": 1}
    assert table["macs_ratio"].round(9).to_dict() == {"a": 0.04, "unpruned": 1}


def test_a_seed_that_was_trained_twice_counts_once_among_the_unpruned_networks():
    rows = [
        *cells({"a": [0.5, 0.6]}, ratio=0.3, baseline_test_top1=0.8),
        *cells({"a": [0.5, 0.6]}, ratio=0.5, baseline_test_top1=0.9, baseline_checksum="another"),
    ]
    unpruned = results.pareto(frame(rows)).set_index("metric").loc["unpruned"]
    assert (unpruned["seeds"], unpruned["accuracy"]) == (2, pytest.approx(0.85))


def test_the_table_of_a_front_tells_floors_apart():
    rows = [
        cell(metric, min_channels=floor, parameters=count, baseline_test_top1=0.9, accuracy=own)
        for floor, count, best in ((1, 200, 0.5), (8, 300, 0.7))
        for metric, own in (("taylor", best), ("output_l1", best - 0.1))
    ]
    table = tables.front(frame(rows))
    assert [(row[1].text, row[2].text) for row in table.rows] == [
        ("taylor", "local, at least 1 channels"),
        ("taylor", "local, at least 8 channels"),
        ("unpruned", ""),
    ]
    alone = tables.front(frame(rows[:2]))
    assert [row[2].text for row in alone.rows] == ["local", ""]


def test_a_front_of_unpruned_networks_alone_is_left_out():
    rows = [cell("taylor", 0, 0.5, parameters=200, baseline_test_top1=0.9)]
    rows.append(failed("taylor", dataset="svhn", baseline_test_top1=0.9))
    rows.append(cell("output_l1", 0, 0.95, dataset="svhn", parameters=1_200))
    table = tables.front(frame(rows))
    assert {row[0].text for row in table.rows} == {"digits"}
