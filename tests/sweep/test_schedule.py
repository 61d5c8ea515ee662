"""Iterative pruning and several recipes of fine-tuning: cells, keys, rows and interruptions."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

import results
from prune_core.budgets import BUDGETS, top
from prune_core.layer import views
from prune_core.metrics import Choice
from prune_core.schedule import Schedule
from prune_core.seeds import derive
from prune_core.statistics import collect
from prune_core.surgery import prune
from prune_core.training import recalibrate, train
from sweep.errors import SpecError
from sweep.execution.run_task import run_task
from sweep.execution.tasks import missing_tasks
from sweep.planning.grid import plan
from sweep.planning.images_seen import images_seen
from sweep.spec.parsing import parse
from sweep.spec.writing import resolved
from sweep.stages import steps
from sweep.stages.artifacts import Artifacts
from sweep.stages.baseline import evaluated
from sweep.stages.data import split_of
from sweep.stages.observer import Observer
from sweep.stages.workspace import Workspace

RECIPES = [
    {"name": "short", "epochs": 1, "batch_size": 64, "learning_rate": 0.05, "images": 128},
    {"name": "nothing", "epochs": 0},
    {"name": "rate", "rewind": "learning_rate", "epochs": 1},
    {"name": "lottery", "rewind": "weights", "epochs": 1},
]
CHANGES = {
    "recipe.epochs": 2,
    "recipe.images": 128,
    "metrics": ["taylor"],
    "ratios": [0.3],
    "schedules": ["one_shot", "iterative(steps=2)"],
    "finetune": RECIPES,
    "controls": {"unpruned": True},
    "statistics_images": 64,
}


@pytest.fixture(scope="module")
def folder(run_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("schedules") / "runs"
    done = run_digits(folder, CHANGES)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def frame(folder):
    return results.load(folder)


def columns_that_count(row):
    """The columns of a row that do not say when, where or how fast it was computed."""
    passing = ("seconds", "latency", "_at", "host", "key", "sweep", "threads")
    return {
        name: str(value) for name, value in row.items() if not any(word in name for word in passing)
    }


def test_the_grid_has_every_schedule_and_recipe(spec):
    cells = plan(spec(CHANGES)).cells
    found = [(c.budget.scope, c.schedule.label, c.finetune_name) for c in cells if c.importance]
    assert found == [
        (scope, schedule, recipe["name"])
        for scope in ("local", "global")
        for schedule in CHANGES["schedules"]
        for recipe in RECIPES
    ]
    controls = [(c.finetune_name, c.schedule.steps) for c in cells if c.unpruned]
    assert controls == [("short", 1), ("rate", 1), ("lottery", 1)]
    assert len({c.key for c in cells}) == len({c.label for c in cells}) == len(cells)
    by_name = {c.finetune_name: c for c in cells}
    assert by_name["rate"].finetune == replace(
        by_name["rate"].baseline.recipe, epochs=1, epochs_before=1
    )
    assert by_name["lottery"].rewound.recipe.epochs_after == 1


def test_weights_that_are_rewound_have_no_compensation(spec):
    changes = CHANGES | {"compensations": ["none", "least_squares"], "schedules": ["one_shot"]}
    cells = [c for c in plan(spec(changes)).cells if c.importance and c.budget.scope == "local"]
    assert [(c.compensation.name, c.finetune_name) for c in cells] == [
        *(("none", recipe["name"]) for recipe in RECIPES),
        *(("least_squares", recipe["name"]) for recipe in RECIPES[:3]),
    ]


def test_keys_of_the_usual_protocol_are_those_of_a_spec_that_names_none(spec):
    usual = plan(spec({"finetune": {"epochs": 1}})).cells
    named = plan(
        spec({"finetune": [{"name": "short", "epochs": 1}], "schedules": ["one_shot"]})
    ).cells
    assert [c.key for c in named] == [c.key for c in usual]
    assert {"schedule", "rewound"}.isdisjoint(json.loads(usual[0].identity))
    assert set(json.loads(usual[0].identity)["finetune"]).isdisjoint(
        {"epochs_before", "epochs_after", "name"}
    )
    one_step = plan(spec({"finetune": {"epochs": 1}, "schedules": ["iterative(steps=1)"]})).cells
    assert [c.key for c in one_step] == [c.key for c in usual]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedules": ["slowly"]}, ["schedules[0]", "'slowly'", "one_shot, iterative"]),
        ({"finetune": [RECIPES[0], RECIPES[0]]}, ["finetune", "2 recipes named short"]),
        ({"finetune": {"epochs": 1, "name": "unpruned"}}, ["finetune", "names a control"]),
        ({"finetune": {"epochs": 5, "rewind": "weights"}}, ["finetune[0] rewinds 5 epochs"]),
        ({"finetune": {"epochs": 0, "rewind": "weights"}}, ["finetune", "at least 1 epoch"]),
        (
            {"finetune": {"epochs": 1, "rewind": "weights", "momentum": 0.5}},
            ["momentum cannot be given with rewind"],
        ),
        ({"finetune": {"epochs": 1, "learning_rate": -1}}, ["finetune.learning_rate"]),
        ({"finetune": [{"epochs": 1, "lr": 1}]}, ["finetune[0].lr", "learning_rate"]),
        (
            {
                "finetune": {"epochs": 1, "rewind": "weights"},
                "compensations": ["least_squares"],
            },
            ["finetune[0].rewind", "add none to compensations"],
        ),
        (
            {"comparisons": [{"metric": "entropy_gaussian", "ratio": 0.3, "finetune": "long"}]},
            ["comparisons[0].finetune is long"],
        ),
        (
            {
                "finetune": {"epochs": 1, "rewind": "weights"},
                "compensations": ["none", "least_squares"],
                "comparisons": [
                    {"metric": "entropy_gaussian", "ratio": 0.3, "compensation": "least_squares"}
                ],
            },
            ["comparisons[0].compensation is least_squares", "rewinds weights"],
        ),
    ],
)
def test_a_wrong_protocol_is_told(spec, changes, words):
    with pytest.raises(SpecError) as caught:
        spec(changes)
    for word in words:
        assert word in str(caught.value)


def test_a_spec_that_is_written_reads_as_the_same(spec):
    made = spec(CHANGES)
    assert parse(resolved(made), "spec.yaml") == made


def one_cell(spec, **changes):
    """A cell of the small sweep, by its global budget and its first recipe."""
    cells = plan(spec({**CHANGES, "scopes": ["global"], "finetune": RECIPES[:1], **changes})).cells
    return next(cell for cell in cells if cell.importance)


def ran(folder, cell, observer=None):
    """The row of a cell that runs in a folder, and the end of its task."""
    workspace = Workspace(folder, "small")
    workspace.store.create()
    for task in missing_tasks(workspace, [cell]):
        ended = run_task(workspace, task, observer or Observer())
    filters = [("key", "==", cell.key)]
    rows = results.load(folder, filters=filters).to_dict("records")
    return (rows[0] if rows else None), ended


def test_one_step_is_one_shot_bit_for_bit(spec, tmp_path):
    (once, _), (stepped, _) = (
        ran(tmp_path / name, one_cell(spec, schedules=[schedule]))
        for name, schedule in (("a", "one_shot"), ("b", "iterative(steps=1, spacing=linear)"))
    )
    assert stepped["schedule"] == "iterative(steps=1, spacing=linear)"
    for row in (once, stepped):
        del row["schedule"], row["schedule_options"]
    assert columns_that_count(once) == columns_that_count(stepped)


class Interrupted(Observer):
    """Ends a cell in the epoch of fine-tuning with this number, counted over its steps."""

    def __init__(self, after):
        self.left = after

    def epoch(self, stage, epoch):
        self.left -= stage == "finetune"
        if self.left == 0:
            raise RuntimeError("interrupted")


def test_an_interrupted_cell_goes_on_at_its_step(spec, tmp_path):
    cell = one_cell(spec, schedules=["iterative(steps=3)"])
    whole, _ = ran(tmp_path / "whole", cell)
    broken, _ = ran(tmp_path / "broken", cell, Interrupted(3))
    assert broken["status"] == "failed"
    # It ended in the fine-tuning of the last step; that of the step before is in `steps`.
    assert pd.isna(broken["finetuned_test_top1"])
    assert pd.notna(broken["recalibrated_test_top1"])
    workspace = Workspace(tmp_path / "broken", "small")
    stored = sorted(path.name for path in (tmp_path / "broken/artifacts/steps").iterdir())
    assert stored == [f"{cell.key}-1", f"{cell.key}-2"]
    seen = []

    class Count(Observer):
        def epoch(self, stage, epoch):
            seen.append(stage)

    (task,) = missing_tasks(workspace, [cell])
    run_task(workspace, task, Count())
    assert seen == ["finetune"]
    (row,) = results.load(tmp_path / "broken").to_dict("records")
    assert columns_that_count(row) == columns_that_count(whole)
    for load in (results.load_steps, results.load_history):
        found, expected = load(tmp_path / "broken"), load(tmp_path / "whole")
        kept = [name for name in found if "seconds" not in name]
        pd.testing.assert_frame_equal(found[kept], expected[kept])
        assert found["step"].dropna().tolist() == [1, 2, 3]
    assert not list((tmp_path / "broken/artifacts/steps").iterdir())


def test_stages_that_the_last_step_does_not_evaluate_are_missing(spec, tmp_path):
    ran(tmp_path, one_cell(spec, schedules=["iterative(steps=2)"]), Interrupted(2))
    row, _ = ran(tmp_path, one_cell(spec, schedules=["iterative(steps=2)"], evaluate=[]))
    assert row["status"] == "ok"
    assert pd.isna(row["pruned_test_loss"])
    assert pd.isna(row["recalibrated_test_top1"])
    assert pd.notna(row["finetuned_test_top1"])
    # The first step had them evaluated.
    assert results.load_steps(tmp_path)["pruned_test_top1"].notna().tolist() == [True, False]


def test_widths_of_another_metric_are_those_of_one_step(spec):
    changes = {"controls": {"widths_of": ["output_l1"]}, "metrics": ["output_l1", "random"]}
    found = plan(spec({**CHANGES, **changes}))
    borrowed = [cell for cell in found.cells if cell.budget.scope == "widths_of"]
    assert {cell.schedule.steps for cell in borrowed} == {1}
    assert "controls.widths_of has cells of the schedule one_shot alone" in found.notes


def test_a_step_of_another_baseline_or_a_damaged_one_is_not_used(spec, tmp_path):
    cell = one_cell(spec, schedules=["iterative(steps=2)"])
    ran(tmp_path, cell, Interrupted(2))
    folder = tmp_path / f"artifacts/steps/{cell.key}-1"
    workspace = Workspace(tmp_path, "small")
    checksum = results.load(tmp_path)["baseline_checksum"].iloc[0]
    assert steps.stored(workspace, cell, checksum).number == 1
    assert steps.stored(workspace, cell, "0" * 16) is None
    record = folder / "step.json"
    whole = record.read_text()
    # Another channel, another figure, and a record without its row.
    for before, after in (("[[0, ", "[[1, "), ("0.", "1."), (whole, '{"row": null}')):
        assert before in whole
        record.write_text(whole.replace(before, after, 1))
        assert steps.stored(workspace, cell, checksum) is None
    record.write_text(whole)
    assert steps.stored(workspace, cell, checksum) is not None
    tensors = folder / "network.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8])
    observer = Interrupted(2)
    _, ended = ran(tmp_path, cell, observer)
    assert ended.status == "failed"
    assert observer.left == 0  # the first step ran again, then the second
    row, ended = ran(tmp_path, cell)
    assert (row["status"], ended.status) == ("ok", "ok")


def test_each_step_scores_prunes_and_trains_what_the_last_one_left(frame, folder, spec):
    cells = plan(spec(CHANGES)).cells
    (cell,) = [
        c
        for c in cells
        if c.importance
        and (c.schedule.steps, c.finetune_name, c.budget.scope) == (2, "short", "local")
    ]
    (row,) = frame[frame["key"] == cell.key].to_dict("records")
    trained = Artifacts(folder / "artifacts").baseline(cell.baseline.key)
    split, scaling = split_of(cell.baseline.dataset), trained.preprocessing
    choice, net = Choice.of("taylor"), trained.net
    full = net.architecture
    last = BUDGETS["uniform_parameters"].widths(full, 0.3, cell.budget.floor, None)
    widths = Schedule(2).widths(full.widths, last)
    told = results.load_steps(folder, filters=[("key", "==", cell.key)])
    kept = [torch.arange(width) for width in full.widths]
    for number in (1, 2):
        later = [number] if number > 1 else []
        answers = collect(net, split.train.first(64), scaling, choice.needs())
        scores = choice(views(net, answers, derive(0, "metric", *later)))
        chosen = top(scores, widths[number - 1])
        kept = [before[now] for before, now in zip(kept, chosen, strict=True)]
        net = prune(net, chosen)
        drawn = derive(0, "recalibrated", *later)
        recalibrate(net, split.train, scaling, cell.baseline.recipe, drawn, False)
        order = derive(0, "finetune", *later)
        train(net, split.train, scaling, cell.finetune, order, False)
        _, test = evaluated(net, split, scaling)
        assert told["finetuned_test_top1"].iloc[number - 1] == test.top1
    assert row["finetuned_test_loss"] == test.loss
    assert list(row["widths"]) == list(last)
    channels = results.load_channels(folder, filters=[("key", "==", cell.key)])
    for layer, rows in channels[channels["kept"]].groupby("layer"):
        assert rows["channel"].tolist() == kept[layer].tolist()


def test_a_global_ranking_reaches_its_ratio_in_steps(frame):
    some = frame[(frame["scope"] == "global") & (frame["metric"] == "taylor")]
    assert len(some) == 8
    assert (some["parameter_ratio"] - 0.3).abs().max() < 0.03
    stepped = some[some["schedule"] != "one_shot"].set_index("finetune")
    once = some[some["schedule"] == "one_shot"].set_index("finetune")
    # The second step ranks a trained network anew, and so keeps other channels.
    assert (stepped["pruned_test_loss"] != once["pruned_test_loss"]).all()


def test_recipes_start_from_the_weights_that_they_name(frame, folder, spec):
    rows = frame[(frame["scope"] == "local") & (frame["schedule"] == "one_shot")]
    rows = rows[rows["metric"] == "taylor"].set_index("finetune")
    for stage in ("pruned", "recalibrated"):
        assert len(set(rows[f"{stage}_test_loss"])) == 1
    assert rows["finetuned_test_loss"].nunique() == 4
    nothing = rows.loc["nothing"]
    assert nothing["finetuned_test_loss"] == nothing["recalibrated_test_loss"]
    cell = next(
        c for c in plan(spec(CHANGES)).cells if c.finetune_name == "lottery" and c.importance
    )
    trained = Artifacts(folder / "artifacts").baseline(cell.rewound.key)
    split, scaling = split_of(cell.baseline.dataset), trained.preprocessing
    channels = results.load_channels(folder, filters=[("key", "==", cell.key)])
    kept = [
        torch.tensor(of["channel"].tolist())
        for _, of in channels[channels["kept"]].groupby("layer")
    ]
    net = prune(trained.net, kept)
    train(net, split.train, scaling, cell.finetune, derive(0, "finetune"), False)
    _, test = evaluated(net, split, scaling)
    assert rows.loc["lottery"]["finetuned_test_loss"] == test.loss


def test_time_is_estimated_for_all_steps(spec):
    once, thrice = (
        images_seen(one_cell(spec, schedules=[schedule]))
        for schedule in ("one_shot", "iterative(steps=3)")
    )
    assert thrice[0] == 3 * once[0]
    assert thrice[1] == 3 * once[1] + 2 * 64
