"""Cells that differ in more than the seed are separated or refused, never averaged."""

import pandas as pd
import pytest
from known_cells import cell, cells, failed, frame

import results
from results.analysis.study import STUDY, figures
from results.storage.plan_file import Comparison

PLANNED = (Comparison("random", 0.3),)
CALLS = {
    "accuracy_table": results.accuracy_table,
    "paired_difference": lambda table: results.paired_difference(table, None, "output_l1"),
    "claims": results.claims,
    "rank_metrics": results.rank_metrics,
    "pareto": results.pareto,
    "selection_against_allocation": results.selection_against_allocation,
    "conclusion": results.conclusion,
    "at_equal_macs": lambda table: results.at_equal_macs(table, None, "output_l1"),
    "planned_differences": lambda table: results.planned_differences(table, PLANNED),
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
        ([cell(precision="fp32"), cell(seed=1, precision="bf16")], "precision is fp32 and bf16"),
        ([cell(rule_version=1), cell("random", rule_version=2)], r"budget\.version is 1 and 2"),
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
        "precision",
        "budget",
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


def test_a_seed_that_was_trained_anew_is_not_paired_with_its_old_network():
    rows = cells({"output_l1": [0.5, 0.6, 0.6], "random": [0.4, 0.4]})
    rows.append(cell("random", 2, 0.1, baseline_checksum="weights of another training"))
    (found,) = results.paired_difference(frame(rows), "random", "output_l1").to_dict("records")
    assert found["difference_points"] == pytest.approx(-15)
    assert (found["seeds"], found["unpaired"]) == (2, 2)


def test_cells_that_failed_before_their_baseline_was_there_count_as_unpaired_once():
    rows = cells({"output_l1": [0.5, 0.6], "random": [0.4]})
    rows.append(failed("random", 1, baseline_checksum=None))
    (found,) = results.paired_difference(frame(rows), "random", "output_l1").to_dict("records")
    assert (found["seeds"], found["unpaired"]) == (1, 1)


def test_rows_without_checksums_are_paired_by_the_key_of_their_baseline():
    accuracies = {"output_l1": [0.5, 0.6], "random": [0.4, 0.4]}
    rows = cells(accuracies, baseline_checksum=None)
    (found,) = results.paired_difference(frame(rows), "random", "output_l1").to_dict("records")
    assert (found["seeds"], found["unpaired"]) == (2, 0)


OLD = (
    '{"baseline":"%s","budget":{"rule":"uniform_parameters"},"finetune":{"epochs":2},'
    '"ratio":0.3,"scores":{"baseline":"%s","metric":{"name":"%s"},"statistics":["%s"]},'
    '"version":{"training":2}}'
)


def old(metric: str, seed: int, accuracy: float, **changes) -> dict:
    """A cell of schema version 3, whose identity has hashes in place of the baseline."""
    identity = OLD % (seed, seed, metric, f"0{seed}")
    return cell(metric, seed, accuracy, identity=identity, baseline_checksum=None, **changes)


def test_rows_of_older_schemas_are_compared_with_one_another_but_not_with_new_ones():
    rows = [old("random", 0, 0.4), old("random", 1, 0.6)]
    assert results.accuracy_table(frame(rows))["seeds"].tolist() == [2]
    new = cell("random", 2, version={"budget": 1, "training": 3})
    with pytest.raises(ValueError, match=r"more than the seed: version\.budget is nothing and 1"):
        results.accuracy_table(frame([*rows, new]))
    # Studies that are kept apart need not agree.
    other = cell("random", 2, version={"training": 3}, dataset="svhn")
    assert len(results.accuracy_table(frame([*rows, other]))) == 2


@pytest.mark.parametrize("call", ["accuracy_table", "paired_difference", "pareto", "rank_metrics"])
def test_two_recipes_of_baselines_are_never_one_study(call):
    # Two seeds of one recipe and a third of another, as three seeds of a study.
    rows = [
        cell(metric, seed, 0.5 + 0.1 * seed, trained={"learning_rate": rate, "weight_decay": decay})
        for metric in ("output_l1", "random")
        for seed, rate, decay in ((0, 0.1, 5e-4), (1, 0.1, 5e-4), (2, 0.4, 0.0))
    ]
    with pytest.raises(ValueError, match=r"baseline\.recipe\.learning_rate is 0.1 and 0.4"):
        CALLS[call](frame(rows))
    chosen = frame(rows)
    values = results.identities(chosen)
    assert {"baseline.recipe.learning_rate", "baseline.recipe.weight_decay"} < set(values)
    assert set(values["baseline.recipe.epochs"]) == {4}
    CALLS[call](chosen[values["baseline.recipe.learning_rate"] == 0.1])


def test_studies_that_share_baselines_must_agree_on_their_recipe():
    # A floor is part of a study but not of the baseline, which both studies prune.
    rows = [cell(), cell(seed=1, min_channels=4, trained={"learning_rate": 0.4})]
    with pytest.raises(ValueError, match=r"recipe\.learning_rate"):
        results.pareto(frame(rows))


def test_identities_are_readable_columns():
    table = frame([cell(), cell("random", 1, identity=None), cell("random", 2)])
    found = results.identities(table.set_index("key"))
    assert found.index.tolist() == table["key"].tolist()
    assert found["scores.metric"].tolist()[::2] == ["output_l1", "random"]
    assert found["baseline.seed"].isna().tolist() == [False, True, False]
    assert results.identities(table.iloc[:0]).empty


@pytest.mark.parametrize(
    "unlike",
    [
        {"trained": {"learning_rate": 0.4}},
        {"trained": {"crop": 0}},
        {"recipe": {"epochs": 2, "lr": 0.1}},
        {"rule_version": 2},
        {"precision": "bf16"},
        {"metric_options": '{"bins": 9}'},
        {"scores": {"metric": "output_l1", "statistics": {"images": 9}}},
    ],
    ids=str,
)
def test_the_line_that_a_refusal_prints_selects_rows_that_agree(unlike):
    alike = {"precision": "fp32", "metric_options": "{}"}
    table = frame([cell(**alike), cell(seed=1, **(alike | unlike))])
    with pytest.raises(ValueError, match="such as frame") as caught:
        results.accuracy_table(table)
    line = str(caught.value).partition("such as ")[2]
    chosen = eval(line, {"frame": table, "results": results})
    assert len(chosen) == 1
    results.accuracy_table(chosen)
