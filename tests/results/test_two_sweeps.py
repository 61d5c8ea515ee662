"""Comparing two sweeps: shared cells, what differs in their identities, and pairs."""

import json
from pathlib import Path

import pytest
from known_cells import cell, frame
from typer.testing import CliRunner

import results
from results import Store
from sweep.commands.cli import app

OTHER_RECIPE = {"epochs": 2, "learning_rate": 0.5}
RECIPE = {"epochs": 2, "learning_rate": 0.1}


def rows(
    start: str, recipe: dict, accuracies: tuple[float, ...], metric: str = "output_l1", **changes
) -> list[dict]:
    return [
        cell(metric, seed, accuracy, recipe=recipe, key=f"{start}{seed:015x}", **changes)
        for seed, accuracy in enumerate(accuracies)
    ]


def test_shared_cells_must_agree_and_the_columns_that_do_not_are_named():
    mine = rows("a", RECIPE, (0.5, 0.6, 0.7))
    theirs = [row | {"device": "a GPU", "seconds": 9.0} for row in mine[:2]]
    found = results.compare(frame(mine), frame(theirs))
    assert found.agree
    assert found.cells["held_by"].value_counts().to_dict() == {"both": 2, "first": 1}
    assert found.provenance.values.tolist() == [["device", "a processor", "a GPU"]]
    assert found.fields["field"].tolist() == ["baseline.seed"]
    theirs[1] |= {"finetuned_test_top1": 0.625, "status": "diverged"}
    found = results.compare(frame(mine), frame(theirs))
    assert not found.agree
    unlike = found.values.set_index("column")
    assert set(unlike.index) == {"status", "finetuned_test_top1"}
    assert unlike.loc["finetuned_test_top1", "difference"] == pytest.approx(0.025)


@pytest.mark.parametrize(
    "unlike",
    [
        {"finetune_recipe": None, "own_validation": None},
        {"pruned_test_top1": None, "recalibrated_test_top1": None},
        {"finetune": "low", "dataset": "c10"},
    ],
    ids=["an earlier version", "evaluate: []", "other names"],
)
def test_cells_that_record_less_or_have_other_names_agree(unlike):
    told = {"finetune_recipe": "{}", "own_validation": False, "finetune": "finetune"}
    mine = rows("a", RECIPE, (0.5, 0.6), **told)
    theirs = [row | unlike for row in mine]
    assert results.compare(frame(mine), frame(theirs)).agree
    # A failed cell has no accuracy, and that is a difference.
    theirs[1] |= {"status": "failed", "finetuned_test_top1": None}
    assert set(results.compare(frame(mine), frame(theirs)).values["column"]) >= {
        "status",
        "finetuned_test_top1",
    }


def test_the_error_of_each_sweep_is_that_of_its_own_test_images():
    few = rows("a", RECIPE, (0.5, 0.6, 0.7), test_images=100)
    many = rows("b", OTHER_RECIPE, (0.53, 0.62, 0.71), test_images=10_000)
    for one, other in ((few, many), (many, few)):
        (pair,) = results.compare(frame(one), frame(other)).paired.to_dict("records")
        assert pair["test_error_points"] == pytest.approx(
            100 * (0.6 * 0.4 / 100 + 0.62 * 0.38 / 10_000) ** 0.5
        )


def test_the_lists_of_a_row_are_compared_as_well(tmp_path: Path):
    # As a sweep writes them: pandas holds an array of several numbers in each row.
    shape = {"widths": [35, 17], "widths_full": [64, 32], "group_names": ["a", "b"]}
    mine = rows("a", RECIPE, (0.5, 0.6), **shape)
    theirs = [mine[0], mine[1] | {"widths": [34, 17]}]
    folders = tmp_path / "mine", tmp_path / "theirs"
    for folder, content in zip(folders, (mine, theirs), strict=True):
        Store(folder).create()
        for row in content:
            Store(folder).write(row)
    loaded = [results.load(folder) for folder in folders]
    assert results.compare(loaded[0], loaded[0]).agree
    unlike = results.compare(*loaded).values
    told = [(row["column"], row["first"], row["second"]) for row in unlike.to_dict("records")]
    assert told == [("widths", (35, 17), (34, 17))]
    for form, words in (("text", ["1 of the 2 cells in both differ"]), ("json", ["34", "35"])):
        said = CliRunner().invoke(app, ["compare", *map(str, folders), "--format", form])
        assert said.exit_code == 1, said.output
        assert all(word in said.output for word in words)


@pytest.mark.parametrize("baselines", ["same", "other"])
def test_cells_that_differ_only_in_a_field_of_the_sweeps_are_paired_by_seed(baselines):
    mine = rows("a", RECIPE, (0.5, 0.6, 0.7))
    changes = {"trained": {"epochs": 9}} if baselines == "other" else {}
    theirs = rows("b", OTHER_RECIPE, (0.53, 0.62, 0.71), **changes)
    if baselines == "other":
        theirs = [row | {"baseline_checksum": "others"} for row in theirs]
    # A ratio that only one sweep has is not paired with another ratio.
    theirs += rows("c", OTHER_RECIPE, (0.9,), ratio=0.7, **changes)
    found = results.compare(frame(mine), frame(theirs))
    assert found.agree
    assert "finetune.learning_rate" in set(found.fields["field"])
    (pair,) = found.paired.to_dict("records")
    assert (pair["baselines"], pair["seeds"], pair["unpaired"]) == (baselines, 3, 0)
    assert pair["difference_points"] == pytest.approx(2.0)
    # t of 2 degrees of freedom is 4.303; the deviation is 1 point.
    assert pair["high_points"] == pytest.approx(2.0 + 4.3027 / 3**0.5, abs=1e-3)


@pytest.mark.parametrize("shared", [True, False])
def test_networks_from_scratch_have_their_own_recipe(shared):
    """The other recipe of fine-tuning is no value of theirs; that of the unpruned networks is."""
    trained = {} if shared else {"learning_rate": 0.7}
    mine = rows("a", RECIPE, (0.5, 0.6, 0.7))
    theirs = rows("b", OTHER_RECIPE, (0.53, 0.62, 0.71), trained=trained)
    scratch = {"metric": "scratch", "recipe": {"epochs": 4, "learning_rate": 0.1}}
    mine += rows("c", **scratch, accuracies=(0.4, 0.4, 0.5))
    scratch["recipe"] |= trained
    start = "c" if shared else "d"
    theirs += rows(start, **scratch, accuracies=(0.4, 0.4, 0.5), trained=trained)
    found = results.compare(frame(mine), frame(theirs))
    pairs = found.paired.set_index("metric")["difference_points"].to_dict()
    assert pairs == pytest.approx({"output_l1": 2.0} | ({} if shared else {"scratch": 0.0}))


def test_cells_with_several_partners_are_counted_and_not_paired():
    mine = rows("a", RECIPE, (0.5,))
    theirs = rows("b", OTHER_RECIPE, (0.5,)) + rows(
        "c", OTHER_RECIPE | {"learning_rate": 1}, (0.6,)
    )
    found = results.compare(frame(mine), frame(theirs))
    assert (len(found.paired), found.ambiguous) == (0, 3)


def test_the_command_says_it_in_the_exit_code_and_fits_80_columns(tmp_path: Path):
    mine = rows("a", RECIPE, (0.5, 0.6)) + rows("b", RECIPE, (0.1,), ratio=0.5)
    folders = [tmp_path / name for name in ("mine", "theirs", "wrong")]
    contents = mine, rows("c", OTHER_RECIPE, (0.53, 0.62)), [mine[0] | {"finetuned_test_top1": 0.9}]
    for folder, content in zip(folders, contents, strict=True):
        Store(folder).create()
        for row in content:
            Store(folder).write(row)
    one, two, wrong = map(str, folders)
    told = CliRunner().invoke(app, ["compare", one, two], env={"COLUMNS": "80"})
    assert told.exit_code == 0, told.output
    assert "finetune.learning_rate" in told.output
    assert "+2.5" in told.output
    assert max(map(len, told.output.replace(str(tmp_path), "").splitlines())) <= 80
    told = CliRunner().invoke(app, ["compare", one, wrong, "--format", "json"])
    assert told.exit_code == 1, told.output
    (pair,) = json.loads(told.stdout)
    assert pair["values"][0]["column"] == "finetuned_test_top1"
    assert pair["cells"] == {"both": 1, "first": 2, "second": 0}
    assert CliRunner().invoke(app, ["compare", one]).exit_code == 2
    assert CliRunner().invoke(app, ["compare", one, str(tmp_path / "none")]).exit_code == 2


def test_the_command_shows_every_column_that_tells_pairs_apart(tmp_path: Path):
    folders = [tmp_path / name for name in ("mine", "theirs")]
    for folder, recipe, start in zip(folders, (RECIPE, OTHER_RECIPE), "ab", strict=True):
        Store(folder).create()
        for at, normalisation in enumerate(("none", "layer_zscore")):
            where = {"scope": "global", "normalisation": normalisation}
            for row in rows(f"{start}{at}", recipe, (0.5 + at / 100, 0.6), **where):
                Store(folder).write(row | {"key": row["key"][:2] + row["key"][3:]})
    told = CliRunner().invoke(app, ["compare", *map(str, folders)], env={"COLUMNS": "80"})
    assert "layer_zscore" in told.output, told.output
    assert "normalisation" in told.output
