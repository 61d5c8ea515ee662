"""A spec becomes its cells: how many, which, in what order, and what they share."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweep.errors import SpecError
from sweep.planning.grid import plan
from sweep.spec.conditions import conditions_of
from sweep.stages.data import split_of

AXES = {
    "seeds": [0, 3],
    "metrics": ["random", "output_l1", "entropy_gaussian"],
    "scopes": ["local", "global"],
    "ratios": [0.6, 0.3],
}


def test_cells_are_the_product_of_the_axes_in_the_order_of_the_spec(spec):
    cells = plan(spec(AXES)).cells
    points = [(c.baseline.seed, c.metric, c.budget.scope, c.ratio) for c in cells]
    assert points == list(product(*AXES.values()))
    assert len({cell.key for cell in cells}) == len(cells)
    assert len({cell.baseline.key for cell in cells}) == len(AXES["seeds"])


@pytest.mark.parametrize(
    "where",
    [
        {"ratio": 0.3, "metric": ["output_l1", "random"]},
        {"metric": ("random", "output_l1"), "ratio": np.float64(0.3)},
        ["ratio=[0.3]", "metric=[random, output_l1]"],
        ["metric=[ random, output_l1]", "seed=[0, 3]", " ratio = 3e-1"],
    ],
)
def test_a_part_has_the_cells_with_these_values_in_the_order_of_the_plan(where, spec):
    planned = plan(spec(AXES))
    part = planned.where(conditions_of(where))
    expected = [c for c in planned.cells if c.ratio == 0.3 and c.metric != "entropy_gaussian"]
    assert list(part.cells) == expected
    assert len(part.cells) == 2 * 2 * 2


def test_a_part_may_be_a_control_or_all_but_controls(spec):
    planned = plan(spec({"controls": {"widths_of": ["output_l1"]}, "seeds": [0]}))

    def labels(**where):
        return [cell.label for cell in planned.where(conditions_of(where)).cells]

    controls = [cell.label for cell in planned.cells if cell.budget.reference]
    assert labels(widths_of="output_l1") == labels(scope="widths_of") == controls
    others = [cell.label for cell in planned.cells if not cell.budget.reference]
    assert labels(widths_of=None) == others
    assert labels(scope="unpruned") == [cell.label for cell in planned.cells if cell.unpruned]


def test_options_of_a_metric_may_be_written_in_any_order(spec):
    written = "weighted_mutual_information(information=gaussian,  estimator=pixel)"
    planned = plan(spec({"metrics": ["random", written], "ratios": [0.3], "scopes": ["local"]}))
    (cell,) = planned.where(conditions_of({"metric": written})).cells
    assert cell.metric == "weighted_mutual_information(estimator=pixel, information=gaussian)"


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (["rato=0.3"], "--where rato: did you mean ratio? allowed: dataset, seed, metric"),
        (["metric=output-l1"], "--where metric=output-l1: no cell has it; did you mean output_l1?"),
        (["seed=1"], "--where seed=1: no cell has it; there are 0, 3"),
        (["seed=yes"], "--where seed=True: no cell has it"),
        ({"seed": {"0": 1}}, "--where seed={'0': 1}: no cell has it"),
        (["widths_of=output_l1"], "--where widths_of=output_l1: no cell has it; there are null"),
        (["ratio=[]"], "--where: no cell of small has ratio []"),
        (
            ["scope=local", "normalisation=layer_zscore"],
            "has scope local and normalisation layer_zs",
        ),
        (["ratio"], "--where 'ratio' must be AXIS=VALUE, such as ratio=0.3"),
        (["ratio=[0.3"], "the value of --where 'ratio=[0.3' is not valid YAML"),
        (["ratio=0.3", "ratio=0.6"], "--where ratio is given twice; write 'ratio=[VALUE, VALUE]'"),
    ],
)
def test_a_part_without_cells_is_refused(where, words, spec):
    planned = plan(spec({**AXES, "normalisations": ["none", "layer_zscore"]}))
    with pytest.raises(SpecError, match=re.escape(words)):
        planned.where(conditions_of(where))


def test_a_scope_may_have_ratios_of_its_own(spec):
    ratios = {"ratios": [0.6], "local_ratios": [0.3, 0.2], "metrics": ["output_l1"]}
    points = {"local": [0.3, 0.2], "global": [0.6]}

    def found(changes, scopes=("local", "global")):
        cells = plan(spec({**ratios, **changes})).cells
        return {name: [c.ratio for c in cells if c.budget.scope == name] for name in scopes}

    assert found({}) == points
    assert found({"global_ratios": [0.5]}) == {**points, "global": [0.5]}
    assert found({"controls": {"widths_of": ["random"]}}, ["widths_of"]) == {"widths_of": [0.6]}
    scratch = [c.ratio for c in plan(spec({**ratios, "controls": {"scratch": True}})).cells[3:5]]
    assert scratch == [0.3, 0.2]
    planned = {"metric": "random", "ratio": 0.6}
    with pytest.raises(SpecError, match=re.escape("comparisons[0].ratio is 0.6")):
        spec({**ratios, "metrics": ["random", "output_l1"], "comparisons": [planned]})
    spec({**ratios, "metrics": ["random", "output_l1"], "comparisons": [planned | {"ratio": 0.2}]})


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"scopes": ["local"], "normalisations": ["layer_mean"]}, "normalisations has no effect"),
        ({"controls.ratios": [0.3]}, "controls.ratios has no effect"),
        (
            {"metrics": ["random"], "controls.widths_of": ["random"]},
            "controls.widths_of random adds no cells",
        ),
    ],
)
def test_what_a_spec_asks_for_without_effect_is_said(changes, note, spec):
    changes = {"metrics": ["output_l1"], **changes}
    assert [one for one in plan(spec(changes)).notes if one.startswith(note)]
    used = {"scopes": ["local", "global"], "controls.scratch": True}
    assert not [one for one in plan(spec({**changes, **used})).notes if "no " in one]


def test_a_plan_is_the_same_every_time(spec):
    assert plan(spec(AXES)) == plan(spec(AXES))


def test_normalisations_multiply_global_cells_alone(spec):
    cells = plan(spec({"normalisations": ["none", "layer_mean"], "metrics": ["output_l1"]})).cells
    found = sorted((cell.budget.scope, cell.budget.normalisation) for cell in cells)
    assert found == sorted(2 * [("local", "none"), ("global", "none"), ("global", "layer_mean")])


def test_controls_are_cells_beside_the_grid(spec):
    controls = {"widths_of": ["output_l1"], "scratch": True, "ratios": [0.6]}
    cells = plan(spec({"controls": controls})).cells[8:]
    assert [(cell.metric, cell.budget.label, cell.ratio) for cell in cells] == [
        ("entropy_gaussian", "widths_of(output_l1)", 0.6),
        ("scratch", "uniform_parameters", 0.6),
        ("scratch", "widths_of(output_l1)", 0.6),
        ("unpruned", "unpruned", 1.0),
    ]


def test_the_unpruned_control_is_one_cell_per_seed_and_recipe(spec):
    def controls(changes):
        cells = plan(spec({"seeds": [0, 1], "controls.unpruned": True, **changes})).cells
        return {cell.key for cell in cells if cell.unpruned}

    assert len(controls({})) == 2
    # It depends on neither the metrics nor the limits of the widths.
    assert controls({"min_channels": 4, "metrics": ["random"], "ratios": [0.5]}) == controls({})
    assert not controls({"finetune.learning_rate": 0.01}) & controls({})
    assert controls({"finetune.epochs": 0}) == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"datasets.0.name": "another"},
        {"resources.cpus": 2},
        {"ratios": [0.6, 0.3]},
        {"datasets.0.source": "folder-independent", "datasets.0.name": "x"},
        {"metrics": ["entropy_gaussian", "output_l1"]},
        {"min_channels": 1},
        {"min_channels": {"channels": 1, "fraction": 0}},
        {"statistics_images": 100_000},
        {"recipe.flip": False},
    ],
    ids=str,
)
def test_what_changes_no_number_changes_no_key(changes, spec):
    changes = {k: "digits" if v == "folder-independent" else v for k, v in changes.items()}
    assert keys(spec(changes)) == keys(spec())


@pytest.mark.parametrize(
    "changes",
    [
        {"datasets.0.train_images": 301},
        {"datasets.0.test_images": 300},
        {"holdout": 0.2},
        {"recipe.learning_rate": 0.2},
        {"finetune.epochs": 2},
        {"min_channels": 2},
        {"round_to": 2},
        {"network.width": 0.25},
        {"seeds": [1]},
    ],
    ids=str,
)
def test_what_changes_numbers_changes_every_key(changes, spec):
    assert not keys(spec(changes)) & keys(spec())


def keys(spec) -> set[str]:
    return {cell.key for cell in plan(spec).cells}


def test_a_cut_that_takes_all_images_is_no_cut(spec, absent):
    whole = plan(spec({"datasets.0.train_images": absent})).cells
    dataset = whole[0].baseline.dataset
    total = dataset.train_images + dataset.validation_images
    assert keys(spec({"datasets.0.train_images": total})) == {cell.key for cell in whole}
    assert keys(spec({"datasets.0.train_images": total - 1})).isdisjoint(c.key for c in whole)


@pytest.mark.parametrize(
    ("changes", "images"),
    [
        ({}, None),
        ({"statistics_images": 50}, 50),
        ({"statistics_images": 100_000}, None),
        ({"metrics": ["entropy_gaussian(images=40)"], "statistics_images": 50}, 40),
        ({"metrics": ["entropy_gaussian(images=100000)"]}, None),
    ],
    ids=str,
)
def test_statistics_take_no_more_images_than_there_are(changes, images, spec):
    cell = plan(spec({"metrics": ["entropy_gaussian"], **changes})).cells[0]
    assert cell.importances[0].statistics.images == (images or cell.baseline.dataset.train_images)


def test_the_number_of_images_does_not_count_for_metrics_that_read_none(spec):
    few, all_images = (
        keys(spec({"metrics": ["output_l1"], "statistics_images": count})) for count in (50, None)
    )
    assert few == all_images
    assert plan(spec({"metrics": ["output_l1"]})).cells[0].importances[0].images == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"datasets": ["digits", {"source": "digits", "name": "again"}]},
        {"metrics": ["entropy_gaussian", "entropy_gaussian(images=100000)"]},
    ],
    ids=str,
)
def test_two_names_for_one_cell_are_refused(changes, spec):
    with pytest.raises(SpecError, match="same cell"):
        plan(spec(changes))


@pytest.mark.parametrize(
    "changes",
    [{"ratios": [0.5, 0.01]}, {"controls.ratios": [0.01], "controls.scratch": True}],
    ids=str,
)
def test_a_ratio_out_of_reach_names_the_lowest_one(changes, spec):
    with pytest.raises(
        SpecError, match=r"digits: ratio 0.01 .*lowest reachable ratio is"
    ) as caught:
        plan(spec({"min_channels": 4, "ratios": [0.5], **changes}))
    lowest = float(str(caught.value).partition("ratio is ")[2].partition(" of")[0])
    assert 0.01 < lowest < 1
    assert plan(spec({"min_channels": 4, "ratios": [lowest]})).cells


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"datasets.0.train_images": 2_000}, ["digits", "2,000", "1 to"]),
        ({"datasets.0.train_images": 3}, ["digits", "3", "classes"]),
        ({"datasets.0.test_images": 360}, ["digits", "360", "1 to"]),
        ({"datasets.0.test_images": 3}, ["digits", "3", "classes"]),
        ({"datasets": ["mnist"]}, ["mnist", "svhn", "digits", "parquet:FOLDER"]),
        ({"datasets": ["digits:."], "datasets.0": {"source": "digits:x", "name": "x"}}, ["digits"]),
        ({"datasets": ["parquet:nowhere"]}, ["nowhere", "no folder"]),
        ({"network.width": 0.001}, ["digits"]),
    ],
    ids=str,
)
def test_data_that_cannot_be_used_are_told(changes, words, spec, tmp_path: Path):
    with pytest.raises(SpecError) as caught:
        plan(spec(changes), tmp_path)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "0.3, 0.6 of the parameters"),
        (
            {"local_budgets": ["uniform_channels"], "scopes": ["local"]},
            "0.3, 0.6 of the channels",
        ),
        (
            {"local_budgets": ["uniform_channels"]},
            "0.3, 0.6 of the parameters, but of the channels for uniform_channels",
        ),
        ({"local_ratios": [0.4]}, "local 0.4; global 0.3, 0.6 of the parameters"),
    ],
    ids=str,
)
def test_the_plan_says_what_a_ratio_counts(changes, words, invoke, write_spec, tmp_path):
    done = invoke("plan", write_spec(changes), "--out", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    printed = " ".join(done.stdout.split())
    assert f" ratios {words} budgets " in printed
    product = "(1 local budget x 1 ratio + 1 global budget x 2 ratios)"
    assert (product in printed) == ("local_ratios" in changes)


def test_labels_are_distinct(spec):
    controls = {"widths_of": ["output_l1"], "scratch": True}
    more = {**AXES, "controls": controls, "normalisations": ["none", "layer_zscore"]}
    more |= {"local_budgets": ["uniform_parameters", "uniform_channels"]}
    cells = plan(spec(more)).cells
    assert len({cell.label for cell in cells}) == len({cell.key for cell in cells}) == len(cells)


def test_the_same_images_elsewhere_are_the_same_cells(spec):
    cell = plan(spec()).cells[0]
    moved = replace(cell.baseline, dataset=replace(cell.baseline.dataset, data="/elsewhere"))
    assert replace(cell, baseline=moved).key == cell.key


def test_a_relative_folder_is_the_same_one_for_a_worker_that_runs_elsewhere(
    spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for at, label in product(range(12), ("0", "1")):
        for part in ("train", "test"):
            folder = tmp_path / "here" / "images" / part / label
            folder.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([at, int(label), len(part)])
            pixels = noise.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{at}.png")
    (tmp_path / "elsewhere").mkdir()
    named = spec({"datasets": ["folder:images"]})
    monkeypatch.chdir(tmp_path / "here")
    planned = plan(named)
    dataset = planned.cells[0].baseline.dataset
    assert (dataset.source, dataset.data) == ("folder:images", str(tmp_path / "here"))
    assert [cell.key for cell in plan(named, Path()).cells] == [cell.key for cell in planned.cells]
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(split_of(dataset).test) == 24
    assert plan(spec()).cells[0].baseline.dataset.data is None
