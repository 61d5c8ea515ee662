"""Comparisons that a study names before the run."""

import json

import numpy as np
import pandas as pd
import pytest
from known_cells import cells, failed, frame
from statsmodels.stats.multitest import multipletests

import results
from results.storage.locations import folder_of
from results.storage.plan_file import Comparison, PlanError, PlannedCells, read_plan, write_plan

CHANCE = np.random.default_rng(0)
VALUES = {name: CHANCE.random(4) for name in ("output_l1", "taylor", "apoz", "random")}


def grid(**changes):
    return [row for ratio in (0.3, 0.6) for row in cells(VALUES, ratio=ratio, **changes)] + cells(
        VALUES, scope="global", ratio=0.3, **changes
    )


def test_exactly_the_planned_rows_are_those_of_paired_difference():
    planned = [Comparison("taylor", 0.3), Comparison("apoz", 0.6, reference="random")]
    table = results.planned_differences(frame(grid()), planned)
    assert table[["metric", "reference", "scope", "budget", "ratio"]].to_numpy().tolist() == [
        ["taylor", "output_l1", "local", "uniform_parameters", 0.3],
        ["apoz", "random", "local", "uniform_parameters", 0.6],
    ]
    for _, row in table.iterrows():
        every = results.paired_difference(frame(grid()), row["metric"], row["reference"])
        (same,) = every.query(f"scope == 'local' and ratio == {row['ratio']}").to_dict("records")
        for name in ("difference_points", "low_points", "p", "seeds", "detectable_points"):
            assert row[name] == same[name]
    assert set(every.columns) == set(table.columns)


def test_holms_family_is_the_planned_comparisons_alone():
    planned = [Comparison("taylor", 0.3), Comparison("apoz", 0.3), Comparison("random", 0.6)]
    table = results.planned_differences(frame(grid()), [*planned, planned[0]])
    assert len(table) == 3
    expected = multipletests(table["p"], method="holm")[1]
    np.testing.assert_allclose(table["p_holm"], expected)
    (alone,) = results.planned_differences(frame(grid()), planned[:1]).to_dict("records")
    assert alone["p_holm"] == alone["p"]


def test_each_data_set_and_study_has_its_row():
    rows = grid() + grid(dataset="svhn") + grid(dataset="svhn", width=0.5)
    table = results.planned_differences(frame(rows), [Comparison("taylor", 0.3)])
    assert sorted(zip(table["dataset"], table["width"], strict=True)) == [
        ("digits", 1.0),
        ("svhn", 0.5),
        ("svhn", 1.0),
    ]
    named = Comparison("taylor", 0.3, scope="global", dataset="digits")
    (row,) = results.planned_differences(frame(rows), [named]).to_dict("records")
    assert (row["dataset"], row["budget"]) == ("digits", "global")


@pytest.mark.parametrize(
    ("planned", "note"),
    [
        (Comparison("fpgm", 0.3), "fpgm was not run here"),
        (Comparison("taylor", 0.3, reference="fpgm"), "fpgm was not run here"),
        (Comparison("taylor", 0.45), "taylor was not run here"),
        (Comparison("taylor", 0.3, budget="uniform_channels"), "taylor was not run here"),
        (Comparison("taylor", 0.3, "output_l1", "global", None, "layer_mean"), "taylor was not"),
        (Comparison("taylor", 0.3, dataset="svhn"), "taylor was not run here"),
    ],
)
def test_what_was_not_run_has_a_row_that_says_so(planned, note):
    (row,) = results.planned_differences(frame(grid()), [planned]).to_dict("records")
    assert row["note"].startswith(note)
    assert (row["metric"], row["reference"]) == (planned.metric, planned.reference)
    assert row["dataset"] == (planned.dataset or "digits")
    assert row["seeds"] == 0
    assert (row["width"] == 1.0) == (planned.dataset is None)
    assert np.isnan(row["difference_points"])


def test_cells_that_failed_are_not_called_not_run():
    rows = [failed("taylor", seed) for seed in range(3)] + cells({"output_l1": [0.5] * 3})
    (row,) = results.planned_differences(frame(rows), [Comparison("taylor", 0.3)]).to_dict(
        "records"
    )
    assert (row["note"], row["unpaired"]) == ("no seed in which both cells are ok", 3)


@pytest.mark.parametrize("planned", [[], [Comparison("taylor", 0.3)]])
def test_without_cells_or_comparisons_the_columns_are_the_same(planned):
    full = results.planned_differences(frame(grid()), [Comparison("taylor", 0.3)])
    table = results.planned_differences(frame([]), planned)
    assert list(table.columns) == list(full.columns)
    assert len(table) == len(planned)


def test_a_scope_without_a_default_budget_needs_one():
    lent = {"scope": "widths_of", "budget": "widths_of(apoz)"}
    rows = grid() + cells(VALUES, **lent)
    with pytest.raises(ValueError, match="names no budget; only the scopes local, global"):
        results.planned_differences(frame(rows), [Comparison("taylor", 0.3, scope="widths_of")])
    (row,) = results.planned_differences(frame(rows), [Comparison("taylor", 0.3, **lent)]).to_dict(
        "records"
    )
    assert row["seeds"] == 4


def test_a_plan_keeps_its_comparisons(tmp_path):
    folder = folder_of(tmp_path)
    first = ("a(b=1)", 0.4, "c", "global", "x", "y", "z")
    full = Comparison(*first, "least_squares", "low_rate", "iterative(steps=3)", False)
    assert (full.dataset, full.compensation, full.finetune) == ("z", "least_squares", "low_rate")
    assert (full.schedule, full.in_advance) == ("iterative(steps=3)", False)
    planned = (Comparison("taylor", 0.3), full)
    write_plan(folder, PlannedCells("mine", {"k": "label"}, planned))
    assert read_plan(folder) == PlannedCells("mine", {"k": "label"}, planned)


def test_comparisons_of_an_older_plan_have_the_usual_compensation_recipe_and_schedule(tmp_path):
    old = {"metric": "taylor", "ratio": 0.3, "scope": "local", "in_advance": True}
    content = {"name": "mine", "cells": {}, "comparisons": [old]}
    (tmp_path / "plan.json").write_text(json.dumps(content))
    assert read_plan(folder_of(tmp_path)).comparisons == (Comparison("taylor", 0.3),)


def test_both_metrics_of_a_comparison_have_its_compensation():
    own = {"compensation": "least_squares"}
    other = {name: values + 0.1 * len(name) for name, values in VALUES.items()}
    rows = grid() + cells(other, **own)
    planned = [Comparison("taylor", 0.3, **own), Comparison("taylor", 0.3)]
    table = results.planned_differences(frame(rows), planned)
    assert table["compensation"].tolist() == ["least_squares", "none"]
    for values, (_, row) in zip((other, VALUES), table.iterrows(), strict=True):
        points = 100 * (values["taylor"] - values["output_l1"])
        assert row["difference_points"] == pytest.approx(points.mean())
    # Where it was not run, cells without it do not stand in.
    (absent,) = results.planned_differences(frame(grid()), planned[:1]).to_dict("records")
    assert (absent["note"], absent["seeds"]) == ("taylor was not run here", 0)


def test_a_plan_of_an_older_version_has_no_comparisons(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"name": "mine", "cells": {"k": "label"}}))
    assert read_plan(folder_of(tmp_path)).comparisons == ()


@pytest.mark.parametrize("damaged", [[{"ratio": 0.3}], [3], [{"metric": "a", "colour": "red"}]])
def test_a_plan_with_damaged_comparisons_is_refused_by_its_name(damaged, tmp_path):
    content = {"name": "mine", "cells": {}, "comparisons": damaged}
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(PlanError, match=r"plan\.json cannot be read"):
        read_plan(folder_of(tmp_path))


def test_a_comparison_that_was_named_late_says_so():
    table = frame(cells({"random": [0.4, 0.5, 0.7], "output_l1": [0.5, 0.6, 0.6]}))
    late = Comparison("random", 0.3, in_advance=False)
    (row,) = results.planned_differences(table, [late]).to_dict("records")
    assert row["note"] == "named when results could already be seen"
    assert row["seeds"] == 3


def test_a_comparison_of_a_nearby_ratio_is_another_one():
    accuracies = {"random": [0.4, 0.5, 0.7], "output_l1": [0.5, 0.6, 0.6]}
    table = frame(cells(accuracies) + cells(accuracies, ratio=0.300002))
    (row,) = results.planned_differences(table, [Comparison("random", 0.3)]).to_dict("records")
    assert row["seeds"] == 3


def test_the_same_test_named_twice_counts_once():
    table = frame(cells({"random": [0.4, 0.5, 0.7], "output_l1": [0.5, 0.6, 0.6]}))
    one = Comparison("random", 0.3)
    same = [
        one,
        Comparison("random", 0.3, budget="uniform_parameters"),
        Comparison("random", 0.3, dataset="digits"),
        Comparison("output_l1", 0.3, reference="random"),
    ]
    pd.testing.assert_frame_equal(
        results.planned_differences(table, same), results.planned_differences(table, [one])
    )


def test_a_metric_compared_with_itself_is_left_out():
    planned = [Comparison("taylor", 0.3), Comparison("output_l1", 0.3)]
    table = results.planned_differences(frame(grid()), planned)
    assert table["metric"].tolist() == ["taylor"]
