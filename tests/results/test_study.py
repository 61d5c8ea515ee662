"""Cells that differ in more than the seed are separated or refused, never averaged."""

import pandas as pd
import pytest
from known_cells import cell, cells, failed, frame

import results
from results.analysis.networks import network_name, network_names, same_weights
from results.analysis.study import STUDY, figures
from results.figures.panels import comparable
from results.storage.plan_file import Comparison

PLANNED = (
    Comparison("random", 0.3),
    Comparison("random", 0.3, compensation="least_squares"),
)
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
    "standing": lambda table: results.standing(
        table, {"metric": "output_l1", "compensation": "none"}
    ),
}

RESIDUAL = {"variant": "resnet56", "network_options": '{"shortcut": "A"}'}

OTHER = {
    "dataset": "svhn",
    "variant": "simplenet_460k",
    "width": 0.5,
    "network_options": '{"shortcut": "B"}',
    "image_height": 64,
    "image_width": 48,
    "weights": "0123456789abcdef",
    "groups": "inner",
    "combine": "max",
    "train_images": 90,
    "test_images": 90,
    "epochs": 40,
    "baseline_images": 90,
    "finetune": "low_rate",
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
    assert differences[column].nunique(dropna=False) == 2
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
        (
            [cell(**RESIDUAL), cell("random", groups_version=2, **RESIDUAL)],
            r"groups\.version is 1 and 2",
        ),
        (
            [cell(**RESIDUAL), cell(groups_version=2, **RESIDUAL)],
            r"groups\.version is 1 and 2",
        ),
        (
            [cell(**RESIDUAL), cell("random", 1, network={"version": 2}, **RESIDUAL)],
            r"baseline\.architecture\.network\.version is 1 and 2",
        ),
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
        "channel groups",
        "channel groups of one seed",
        "network",
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
        with pytest.raises(ValueError, match=f"no column {column}") as error:
            call(table.drop(columns=column))
        assert str(error.value).count(column) == 1


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
    assert (found["seeds"], found["unpaired"]) == (2, 1)


def test_a_recipe_that_was_given_up_leaves_no_cells_behind():
    accuracies = {"output_l1": [0.5, 0.6], "random": [0.4, 0.4]}
    rows = cells(accuracies)
    for trained, recipe in (({"learning_rate": 9}, {"epochs": 2}), ({}, {"learning_rate": 9})):
        rows += [
            failed("random", 0, ratio=0.3, trained=trained, recipe=recipe, baseline_key="other"),
            # The new recipe has no cell of this seed, and none at this ratio.
            failed("random", 2, ratio=0.3, trained=trained, recipe=recipe, baseline_key="other"),
            failed("random", 0, ratio=0.5, trained=trained, recipe=recipe, baseline_key="other"),
        ]
    (found,) = results.paired_difference(frame(rows), "random", "output_l1").to_dict("records")
    assert (found["ratio"], found["seeds"], found["unpaired"]) == (0.3, 2, 0)
    # Without a good cell of any recipe, all of them are what the study has.
    none = [failed("output_l1", 0), *(row for row in rows if row["status"] != "ok")]
    found = results.paired_difference(frame(none), "random", "output_l1")
    assert dict(zip(found["ratio"], found["unpaired"], strict=True)) == {0.3: 2, 0.5: 1}


def test_an_ok_cell_counts_beside_a_failed_one_of_its_seed():
    rows = cells({"output_l1": [0.5, 0.6], "random": [0.4, 0.4]})
    rows.append(failed("random", 0, baseline_key="of another version"))
    (found,) = results.paired_difference(frame(rows), "random", "output_l1").to_dict("records")
    assert (found["seeds"], found["unpaired"]) == (2, 0)


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


SWEEP = {"weighted_mutual_information": [0.4, 0.5], "random": [0.3, 0.35], "output_l1": [0.2, 0.3]}
CHANGED = {"groups": "inner", "combine": "max", "compensation": "least_squares"}


def residual(shift=0.0, metrics=SWEEP, **changes):
    """Cells of a ResNet-56 on SVHN: two metrics and the reference, two seeds, two ratios."""
    values = {name: [value + shift for value in metrics[name]] for name in metrics}
    shared = {"dataset": "svhn", "source": "svhn", **RESIDUAL, **changes}
    return [
        row | {"macs": macs}
        for ratio, macs in ((0.3, 2000), (0.6, 6000))
        for row in cells(values, ratio=ratio, **shared)
    ]


def whole(shift=0.0, **changes):
    """The same cells with a global ranking, and random channels at the widths of the reference."""
    borrowed = {"scope": "widths_of", "budget": "widths_of(output_l1)"}
    rows = residual(shift, **changes) + residual(shift + 0.1, scope="global", **changes)
    return rows + residual(shift, {"random": [0.1, 0.25]}, **borrowed, **changes)


@pytest.mark.parametrize("column", CHANGED)
@pytest.mark.parametrize("name", [name for name in CALLS if name != "conclusion"])
def test_two_sweeps_that_share_their_baselines_are_not_pooled(name, column):
    if (name, column) == ("claims", "compensation"):
        pytest.skip("claims are judged without compensation; see test_claims.py")
    if (name, column) == ("standing", "compensation"):
        pytest.skip("compensations compete with each other; see test_standing.py")
    one, other = whole(), whole(0.25, **{column: CHANGED[column]})
    assert {row["baseline_key"] for row in one} == {row["baseline_key"] for row in other}
    both = CALLS[name](frame([*one, *other]))
    for rows in (one, other):
        alone = CALLS[name](frame(rows))
        # Corrections depend on how many comparisons there are.
        shown = [name for name in alone if "holm" not in name]
        value = rows[0].get(column, "none")
        found, expected = (
            table.loc[table[column] == value, shown].reset_index(drop=True)
            for table in (both, alone)
        )
        assert len(expected)
        pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("column", CHANGED)
def test_a_metric_of_one_sweep_is_not_compared_with_the_reference_of_another(column):
    wanted, reference = (
        {name: SWEEP[name]} for name in ("weighted_mutual_information", "output_l1")
    )
    rows = residual(0.0, wanted) + residual(0.0, reference, **{column: CHANGED[column]})
    table = frame(rows)
    for name in ("paired_difference", "at_equal_macs", "claims"):
        made = CALLS[name](table)
        assert len(made)
        assert made["difference_points"].isna().all()
    assert set(CALLS["paired_difference"](table)["note"]) == {"output_l1 was not run here"}
    assert "No setting has two metrics" in results.conclusion(table)[0]


def test_groups_of_the_identity_count_where_no_column_says_them():
    rows = residual(metrics={"random": [0.5]})
    rows += residual(metrics={"output_l1": [0.5]}, groups="inner")
    table = frame(row | {"groups": None} for row in rows)
    with pytest.raises(ValueError, match=r"groups\.which is (all and inner|inner and all)") as told:
        results.accuracy_table(table)
    line = str(told.value).partition("such as ")[2]
    chosen = eval(line, {"frame": table, "results": results})
    assert len(results.accuracy_table(chosen)) == 2


def test_weights_of_one_file_with_another_scaling_are_refused():
    one = residual(metrics={"random": [0.5]}, weights="f" * 8)
    other = residual(metrics={"output_l1": [0.4]}, weights="f" * 8)
    other = [
        row | {"identity": row["identity"].replace('"ffffffff"', '"ffffffff", "mean": [0.5]')}
        for row in other
    ]
    with pytest.raises(ValueError, match=r"baseline\.weights\.mean is nothing and \[0\.5\]"):
        results.accuracy_table(frame(one + other))


SCRATCH = {"scratch": [0.1, 0.2]}


@pytest.mark.parametrize("known", [lambda table: table, comparable], ids=["rows", "report"])
def test_a_network_trained_from_scratch_counts_once_in_each_study(known):
    # A report adds them before the functions that it calls do.
    rows = residual() + residual(0.1, finetune_epochs=9) + residual(0.2, combine="max")
    rows += residual(0.0, SCRATCH, finetune_epochs=4)
    table = results.paired_difference(known(frame(rows)), "scratch", "output_l1")
    # Two ratios of three studies. The control's widths do not depend on how scores are combined.
    assert table.groupby(["combine", "finetune_epochs"]).size().to_dict() == {
        ("max", 2): 2,
        ("mean", 2): 2,
        ("mean", 9): 2,
    }
    assert set(table["seeds"]) == {2}
    assert set(table["unpaired"]) == {0}


@pytest.mark.parametrize("known", [lambda table: table, comparable], ids=["rows", "report"])
def test_widths_of_a_ranking_depend_on_how_scores_are_combined(known):
    borrowed = {"scope": "widths_of", "budget": "widths_of(output_l1)"}
    rows = whole() + whole(0.2, combine="max")
    rows += residual(0.0, SCRATCH, finetune_epochs=4)
    for combine, gain in (("mean", 0.0), ("max", 0.3)):
        own = {"combine": combine, "finetune_epochs": 4}
        rows += residual(gain, SCRATCH, **own, **borrowed)
    means = results.accuracy_table(known(frame(rows)))
    effects = results.selection_against_allocation(known(frame(rows)))
    assert means.loc[means["metric"] == "scratch", "seeds"].tolist() == [2] * len(
        means[means["metric"] == "scratch"]
    )
    found = effects[effects["effect"] == "scratch"].set_index(["combine", "ratio"])
    # The lender's global cells are 0.3 and 0.4, and 0.2 above that where the maximum counts.
    assert found["difference_points"].round(6).to_dict() == {
        ("mean", 0.3): -20,
        ("mean", 0.6): -20,
        ("max", 0.3): -10,
        ("max", 0.6): -10,
    }
    assert set(found["seeds"]) == {2}


def test_networks_trained_from_scratch_stand_beside_their_own_groups():
    rows = residual(groups="inner") + residual()
    rows += residual(0.5, {"scratch": [0.1, 0.2]}, groups="inner", finetune_epochs=9)
    table = results.paired_difference(frame(rows), "scratch", "output_l1")
    assert table["groups"].tolist() == ["inner", "inner"]
    assert table["seeds"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "simplenet_310k"),
        ({"width": 0.5}, "simplenet_310k (width 0.5)"),
        (RESIDUAL, "resnet56 (shortcut A)"),
        (RESIDUAL | {"width": 2.0}, "resnet56 (shortcut A, width 2)"),
        ({"variant": "mine.py:build", "network_options": "not JSON"}, "mine.py:build (not JSON)"),
        ({"variant": "x", "network_options": None, "width": None}, "x"),
        ({"variant": None}, ""),
    ],
    ids=str,
)
def test_a_network_is_called_by_its_name_and_options(changes, name):
    rows = frame([cell() | changes, cell("random", 1)])
    assert network_name(rows.iloc[0]) == name
    assert network_names(rows).tolist() == [name, "simplenet_310k"]


def test_seeds_of_one_file_are_said_to_share_its_weights():
    shared, trained = residual(weights="f" * 8), residual()
    assert same_weights(frame(trained)) == ""
    assert same_weights(frame(shared)).startswith("All seeds start from the same weights")
    assert same_weights(frame([*shared, *trained])).startswith("Where baselines start from")
    *three, fourth = results.conclusion(frame(shared))
    assert len(three) == 3
    assert "not how much networks vary" in fourth
    assert len(results.conclusion(frame(trained))) == 3
    # A cell that failed is in no interval.
    bad = [row | {"status": "failed"} for row in shared]
    assert len(results.conclusion(frame([*bad, *trained]))) == 3
