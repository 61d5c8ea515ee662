"""Compensation as an axis of a sweep: its cells, keys, rows, and what they share."""

import json

import pandas as pd
import pytest
import torch
import yaml

import results
import sweep.stages.importance as scoring
from prune_core.compensation import Compensation, compensated
from prune_core.metrics import Choice
from prune_core.seeds import derive
from prune_core.training import recalibrate
from sweep.errors import SpecError
from sweep.planning.grid import plan
from sweep.spec.parsing import parse
from sweep.spec.writing import resolved
from sweep.stages.artifacts import Artifacts
from sweep.stages.baseline import evaluated
from sweep.stages.data import split_of
from sweep.stages.importance import importance
from sweep.stages.workspace import Workspace

SEQUENTIAL = "least_squares_sequential(images=64)"
CHANGES = {
    "metrics": ["output_l1", "surgeon"],
    "ratios": [0.3, 0.5],
    "scopes": ["local"],
    "compensations": ["none", "least_squares", SEQUENTIAL],
    "controls": {"unpruned": True, "widths_of": ["output_l1"], "scratch": True, "ratios": [0.5]},
    "finetune.images": 64,
}


@pytest.fixture(scope="module")
def folder(run_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compensation") / "runs"
    done = run_digits(folder, CHANGES)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def frame(folder):
    return results.load(folder)


def test_the_grid_has_every_compensation_and_controls_have_none(spec):
    cells = plan(spec(CHANGES)).cells
    found = [(c.metric, c.ratio, c.compensation.label) for c in cells if c.budget.scope == "local"]
    grid = [
        (metric, ratio, compensation)
        for metric in ("output_l1", "surgeon")
        for ratio in (0.3, 0.5)
        for compensation in CHANGES["compensations"]
    ]
    assert [one for one in found if one[0] != "scratch"] == grid
    controls = {c.compensation.name for c in cells if c.importance is None}
    assert controls == {"none"}
    borrowed = [c.compensation.label for c in cells if c.budget.scope == "widths_of"]
    assert [label for label in borrowed if label != "none"] == ["least_squares", SEQUENTIAL]


def test_keys_of_cells_without_compensation_are_those_of_a_spec_that_never_heard_of_it(spec):
    asked = plan(spec(CHANGES)).cells
    silent = plan(spec({k: v for k, v in CHANGES.items() if k != "compensations"})).cells
    assert [c.key for c in asked if c.compensation.name == "none"] == [c.key for c in silent]
    assert "compensation" not in json.loads(silent[0].identity)
    assert len({c.key for c in asked}) == len(asked)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("least_squares", "least_squares(images=1024)", True),
        ("least_squares", "least_squares_sequential", False),
        ("least_squares", "least_squares(images=128)", False),
        ("least_squares", "least_squares(positions=23)", False),
        ("least_squares", "least_squares(ridge=0.01)", False),
        # The small data set has 270 training images.
        ("least_squares", "least_squares(images=270)", True),
        ("least_squares", "least_squares(images=271)", True),
    ],
)
def test_everything_that_changes_numbers_is_in_the_key(spec, one, other, same):
    keys = {
        plan(spec({"metrics": ["random"], "ratios": [0.5], "compensations": [each]})).cells[0].key
        for each in (one, other)
    }
    assert (len(keys) == 1) is same


def test_the_same_compensation_twice_is_refused(spec):
    with pytest.raises(SpecError, match="least_squares"):
        spec({"compensations": ["least_squares", "least_squares(images=1024)"]})
    with pytest.raises(SpecError, match="are the same cell"):
        plan(spec({"compensations": ["least_squares", "least_squares(images=900)"]}))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("least_square", "compensation 'least_square' is unknown; did you mean least_squares"),
        ("least_squares(image=3)", "has no option 'image'; did you mean images"),
        ("least_squares(images=0)", "option 'images' is 0; it must be above 0"),
        ("least_squares(ridge=0)", "option 'ridge' is 0.0; it must be above 0"),
        ("least_squares(positions=2.5)", "must be of type int"),
        ("none(images=3)", "'none'"),
        (None, "the entry is empty; write none for no compensation"),
        (3, "3 is not a compensation; write a name such as least_squares"),
    ],
)
def test_a_wrong_compensation_is_refused_by_name(spec, wrong, words):
    with pytest.raises(SpecError) as refused:
        spec({"compensations": [wrong]})
    assert words in str(refused.value)


def test_a_kept_spec_reads_as_the_same(spec):
    asked = spec(
        CHANGES
        | {
            "comparisons": [
                {"metric": "surgeon", "ratio": 0.3, "compensation": "least_squares"},
            ]
        }
    )
    text = resolved(asked)
    assert parse(text, "kept.yaml") == asked
    written = yaml.safe_load(text)
    assert written["compensations"][0] == "none"
    assert written["compensations"][2] == {
        "least_squares_sequential": {"images": 64, "positions": 24, "ridge": 0.001}
    }


def test_a_comparison_with_a_compensation_that_is_not_run_is_refused(spec):
    with pytest.raises(SpecError, match=r"compensation is least_squares.*it has none"):
        spec(
            {
                "comparisons": [
                    {
                        "metric": "entropy_gaussian",
                        "ratio": 0.3,
                        "compensation": "least_squares",
                    }
                ]
            }
        )


def test_rows_have_the_compensated_network_as_a_stage(frame):
    pruned = frame[frame["scores_key"].notna()]
    assert pruned["status"].eq("ok").all()
    without = pruned["compensation"] == "none"
    assert pruned.loc[without, "compensated_test_top1"].isna().all()
    assert pruned.loc[~without, "compensated_test_top1"].notna().all()
    assert pruned.loc[~without, "seconds_compensate"].gt(0).all()
    plain = pruned["compensation"] == "least_squares"
    assert pruned.loc[plain, "seconds_moments"].gt(0).all()
    assert pruned.loc[~plain, "seconds_moments"].isna().all()
    assert set(
        pruned.loc[plain, "compensation_options"].map(lambda text: json.loads(text)["images"])
    )
    assert json.loads(pruned.loc[plain, "compensation_options"].iloc[0]) == {
        "images": 269,
        "positions": 24,
        "ridge": 0.001,
    }
    # Removal itself does not depend on what follows.
    for _, cells in pruned.groupby(["metric", "budget", "ratio"]):
        assert len(set(cells["pruned_test_loss"])) == 1
        assert cells["compensated_test_loss"].dropna().nunique() == 2
        assert cells["recalibrated_test_loss"].nunique() == 3
        assert len(set(cells["parameters"])) == 1


@pytest.mark.parametrize("how", ["least_squares", SEQUENTIAL])
def test_a_row_is_what_the_core_computes(frame, folder, spec, how):
    (cell,) = [
        one
        for one in plan(spec(CHANGES)).cells
        if (one.metric, one.ratio, one.compensation.label) == ("surgeon", 0.3, how)
    ]
    (row,) = frame[frame["key"] == cell.key].to_dict("records")
    trained = Artifacts(folder / "artifacts").baseline(cell.baseline.key)
    split = split_of(cell.baseline.dataset)
    kept = [torch.tensor(each) for each in results.Store(folder).row(cell.key, ("kept",))["kept"]]
    net = compensated(
        trained.net, kept, Compensation.parse(how), split.train, trained.preprocessing
    )
    _, test = evaluated(net, split, trained.preprocessing)
    assert (test.top1, test.loss) == (
        row["compensated_test_top1"],
        pytest.approx(row["compensated_test_loss"], rel=1e-9),
    )
    recipe, drawn = cell.baseline.recipe, derive(0, "recalibrated")
    flip = cell.baseline.dataset.flip_keeps_label
    recalibrate(net, split.train, trained.preprocessing, recipe, drawn, flip)
    _, test = evaluated(net, split, trained.preprocessing)
    assert test.loss == pytest.approx(row["recalibrated_test_loss"], rel=1e-9)


def test_second_moments_and_surgeon_scores_are_computed_once(folder, spec, monkeypatch):
    cells = [one for one in plan(spec(CHANGES)).cells if one.metric == "surgeon"]
    moments = {
        statistics.key(request)
        for cell in cells
        for statistics in cell.statistics
        for request in statistics.requests
    }
    # The metric and least squares read the same ones.
    assert len(moments) == 1
    workspace = Workspace(folder, "small")
    trained = Artifacts(folder / "artifacts").baseline(cells[0].baseline.key)
    known = importance(workspace, cells[0].importance, trained)

    def refuse(*_):
        raise AssertionError("statistics are read again")

    monkeypatch.setattr(scoring, "statistics", refuse)
    again = importance(workspace, cells[0].importance, trained)
    assert again.costs == known.costs
    assert again.costs["seconds_statistics"] > 0
    for one, two in zip(again.scores, known.scores, strict=True):
        assert torch.equal(one, two)


def test_scores_of_another_baseline_are_not_taken(folder, spec, monkeypatch):
    (cell, *_) = [one for one in plan(spec(CHANGES)).cells if one.metric == "surgeon"]
    trained = Artifacts(folder / "artifacts").baseline(cell.baseline.key)
    workspace = Workspace(folder, "small")
    layers = len(cell.baseline.architecture.groups.producers)
    stored = workspace.artifacts.statistic(cell.importance.key, trained.checksum, layers)
    assert stored is not None
    workspace.artifacts.put_statistic(cell.importance.key, trained.checksum, stored)
    with pytest.warns(UserWarning, match="another baseline"):
        assert workspace.artifacts.statistic(cell.importance.key, "another", layers) is None
    # It is computed anew, and stored again.
    found = importance(workspace, cell.importance, trained)
    for one, answer in zip(found.scores, stored.answers, strict=True):
        torch.testing.assert_close(one, answer["scores"])


def test_the_surgeon_is_the_same_however_producers_are_combined(spec):
    surgeon, other = Choice.of("surgeon"), Choice.of("output_l1")
    for how in ("mean", "sum", "max"):
        assert surgeon.combine(how) == "mean"
        assert other.combine(how) == how


def test_a_residual_network_compensates_both_ways(run_digits, tmp_path):
    changes = {
        "network": {"variant": "resnet20", "width": 0.25, "shortcut": "B", "combine": "sum"},
        "metrics": ["surgeon"],
        "ratios": [0.5],
        "scopes": ["global"],
        "compensations": ["least_squares", SEQUENTIAL],
        "finetune.epochs": 0,
    }
    done = run_digits(tmp_path / "runs", changes)
    assert done.exit_code == 0, done.output
    frame = results.load(tmp_path / "runs")
    assert len(frame) == 2
    assert frame["combine"].eq("sum").all()
    assert (frame["compensated_test_loss"] < frame["pruned_test_loss"]).all()
    assert not pd.isna(frame["finetuned_test_top1"]).any()
