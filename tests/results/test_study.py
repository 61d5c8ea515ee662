"""Cells that differ in more than the seed are separated or refused, never averaged."""

import pandas as pd
import pytest
from known_cells import cell, cells, failed, frame

import results
from results.analysis.study import STUDY, figures

CALLS = {
    "accuracy_table": results.accuracy_table,
    "paired_difference": lambda table: results.paired_difference(table, None, "output_l1"),
    "claims": results.claims,
    "rank_metrics": results.rank_metrics,
    "pareto": results.pareto,
    "selection_against_allocation": results.selection_against_allocation,
    "conclusion": results.conclusion,
}

OTHER = {
    "dataset": "svhn",
    "variant": "simplenet_460k",
    "width": 0.5,
    "train_images": 90,
    "test_images": 90,
    "epochs": 40,
    "baseline_images": 90,
    "finetune_epochs": 20,
    "finetune_images": 90,
    "min_channels": 4,
    "min_channels_fraction": 0.1,
    "round_to": 8,
}


def test_every_column_of_a_study_is_tested():
    assert set(OTHER) == set(STUDY)


@pytest.mark.parametrize("column", STUDY)
def test_studies_have_separate_rows(column):
    def study(accuracy, **changes):
        return cells({"random": [accuracy] * 2, "output_l1": [0.5, 0.6]}, **changes)

    table = frame(study(0.4) + study(0.8, **{column: OTHER[column]}))
    means = results.accuracy_table(table)
    assert sorted(means.loc[means["metric"] == "random", "mean"]) == [0.4, 0.8]
    differences = results.paired_difference(table, "random", "output_l1")
    assert sorted(differences["difference_points"].round(6)) == [-15, 25]
    assert differences[column].nunique() == 2
    assert differences["seeds"].tolist() == [2, 2]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("rows", "named"),
    [
        # The test turns these into cells of a claim, since `claims` reads no others.
        ([cell(recipe={"lr": 1}), cell("random", recipe={"lr": 2})], "finetune.lr is 1 and 2"),
        (
            [cell(version={"training": 1}), cell("random", version={"training": 2})],
            "version.training is 1 and",
        ),
        (
            [cell(), cell(seed=1, trained={"learning_rate": 0.4})],
            "recipe.learning_rate is 0.1 and 0.4",
        ),
        ([cell(), cell("random", 1, trained={"crop": 0})], "baseline.recipe.crop is nothing and 0"),
        ([cell(), cell("random", 1, dataset_fingerprint="others")], "fingerprint"),
        ([cell(), cell(seed=1, metric_options='{"images": 5}')], "metric_options"),
        ([cell(), cell(baseline_key="trained longer")], "two cells.*output_l1.*baseline_key"),
        ([cell(), cell()], "two cells.*digits, output_l1.*seed 0.*key"),
    ],
    ids=[
        "recipe",
        "version",
        "baseline recipe",
        "other seed and metric",
        "images",
        "options",
        "baseline",
        "key",
    ],
)
def test_cells_that_no_column_separates_are_refused(call, rows, named):
    claimed = [row | {"dataset": "svhn", "source": "svhn"} for row in rows]
    claimed = [
        row | {"metric": row["metric"].replace("random", "weighted_mutual_information")}
        for row in claimed
    ]
    named = named.replace("digits", "svhn")
    with pytest.raises(ValueError, match=named):
        call(frame(claimed))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_same_cell_twice_is_refused(call):
    table = frame([cell(dataset="svhn"), cell("random", dataset="svhn")])
    with pytest.raises(ValueError, match="the same one twice"):
        call(pd.concat([table, table]))


def test_metrics_may_have_different_options():
    rows = [cell(metric_options='{"bins": 9}'), cell("random", metric_options="{}")]
    assert len(results.accuracy_table(frame(rows))) == 2


def test_rows_of_older_versions_without_an_identity_are_compared():
    rows = cells({"output_l1": [0.5, 0.6], "random": [0.4, 0.4]}, identity=None, collapsed=None)
    (difference,) = results.paired_difference(frame(rows), None, "output_l1").to_dict("records")
    assert difference["difference_points"] == pytest.approx(-15)
    assert difference["collapsed"] == 0


def test_a_failed_cell_beside_one_that_is_ok_changes_nothing():
    good = cells({"output_l1": [0.5, 0.6], "random": [0.4, 0.4]})
    bad = [failed("random", 0), failed("output_l1", 1)]
    for name, call in CALLS.items():
        if name != "conclusion":
            pd.testing.assert_frame_equal(call(frame(good + bad)), call(frame(good)), obj=name)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_frame_that_lacks_a_column_is_refused_by_its_name(call):
    table = frame(cells({"output_l1": [0.5], "random": [0.4]}))
    for column in ("metric", "finetuned_test_top1"):
        with pytest.raises(ValueError, match=f"no column {column}"):
            call(table.drop(columns=column))


@pytest.mark.parametrize(("at", "split"), [("finetune", "test"), ("finetuned", "train")])
def test_unknown_stages_and_splits_are_refused(at, split):
    with pytest.raises(ValueError, match="allowed: "):
        figures(frame([cell()]), at, split)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_failed_cells_alone_give_a_table_without_numbers(call):
    made = call(frame([failed(), failed("random", 1)]))
    if isinstance(made, pd.DataFrame):
        numbers = made.filter(regex="points$|^mean|^p$|accuracy").drop(
            columns="claimed_points", errors="ignore"
        )
        assert numbers.isna().all(axis=None)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_empty_frame_has_the_columns_of_a_full_one(call):
    rows = cells({"output_l1": [0.5, 0.6], "random": [0.4, 0.4]}, scope="global")
    rows += cells({"random": [0.4, 0.4]}, scope="widths_of", budget="widths_of(output_l1)")
    full, empty = call(frame(rows)), call(frame([]))
    if isinstance(full, pd.DataFrame):
        assert len(full)
        assert list(empty.columns) == list(full.columns)
