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


def rows(start: str, recipe: dict, accuracies: tuple[float, ...], **changes) -> list[dict]:
    return [
        cell("output_l1", seed, accuracy, recipe=recipe, key=f"{start}{seed:015x}", **changes)
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
