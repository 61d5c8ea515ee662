"""A key changes with everything that changes a cell's numbers, and with nothing else."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from prune_core.budgets import BudgetChoice, Floor
from prune_core.compensation import Compensation
from prune_core.metrics import Choice
from prune_core.networks import Architecture
from prune_core.schedule import Schedule
from prune_core.training import Recipe
from sweep.planning import baselines, cells, scores
from sweep.planning.baselines import Baseline, Dataset
from sweep.planning.cells import Budget, Cell
from sweep.planning.keys import canonical, key_of
from sweep.planning.scores import Importance

DATASET = Dataset(
    name="digits",
    source="digits",
    data=None,
    image_size=(32, 32),
    fingerprint="0123456789abcdef",
    classes=10,
    train_images=1_294,
    validation_images=143,
    test_images=360,
    cut=None,
    test_cut=None,
    holdout=0.1,
    flip_keeps_label=True,
)
PARTS: dict[str, Any] = {
    "dataset": DATASET,
    "architecture": Architecture.named("simplenet_310k", 10, 0.5),
    "recipe": Recipe(epochs=12, batch_size=64),
    "finetune": Recipe(epochs=1, batch_size=64, learning_rate=0.05),
    "floor": Floor(),
    "variant": "simplenet_310k",
    "width": 0.5,
    "seed": 0,
    "metric": "mutual_information",
    "images": 1_294,
    "rule": "global",
    "normalisation": "none",
    "reference": None,
    "ratio": 0.5,
    "compensation": "none",
    "schedule": "one_shot",
    "finetune_name": "finetune",
    "rewound": None,
}


def cell(**changes: Any) -> Cell:
    """A cell from its parts."""
    part = PARTS | changes
    baseline = Baseline(
        part["dataset"],
        part["variant"],
        part["width"],
        part["architecture"],
        part["recipe"],
        part["seed"],
    )
    metric, reference = part["metric"], part["reference"]
    score = Importance(baseline, Choice.parse(metric), part["images"]) if metric else None
    widths_of = Importance(baseline, Choice.parse(reference), 0) if reference else None
    rule = BudgetChoice.parse(part["rule"])
    budget = Budget(rule, part["normalisation"], part["floor"], widths_of)
    how, schedule = Compensation.parse(part["compensation"]), Schedule.parse(part["schedule"])
    rewound = part["rewound"] and replace(baseline, recipe=baseline.recipe.all_but(part["rewound"]))
    return Cell(
        baseline,
        score,
        budget,
        part["ratio"],
        part["finetune"],
        how,
        schedule,
        part["finetune_name"],
        rewound,
    )


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return (other(value[0]), *value[1:])
    if isinstance(value, int | float):
        return {3: 1}.get(value, value / 2 if isinstance(value, float) else value + 1)
    return {"auto": "fp32", None: 7}.get(value, f"{value}0")


FIELDS = [
    (part, field.name)
    for part in ("dataset", "architecture", "recipe", "finetune", "floor")
    for field in fields(PARTS[part])
]
# What a data set's pixels, cut and split bring with them says nothing more about the numbers.
WITHOUT_EFFECT = {
    ("dataset", "name"),
    ("dataset", "source"),
    ("dataset", "data"),
    ("dataset", "image_size"),
    ("dataset", "classes"),
    ("dataset", "train_images"),
    ("dataset", "validation_images"),
    ("dataset", "test_images"),
    ("dataset", "own_validation"),
    ("dataset", "skipped"),
    ("dataset", "copies"),
}
# Of the floor's fields 0.0 has no half.
SPECIAL = {"fraction": 0.25, "label_smoothing": 0.1}


@pytest.mark.parametrize(("part", "field"), FIELDS, ids=map(".".join, FIELDS))
def test_every_field_counts_or_is_known_not_to(part, field):
    value = SPECIAL.get(field) or other(getattr(PARTS[part], field))
    changed = cell(**{part: replace(PARTS[part], **{field: value})})
    assert (changed.key == cell().key) == ((part, field) in WITHOUT_EFFECT)
    assert (changed.family == cell().family) == (changed.key == cell().key)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"seed": 1}, False),
        ({"ratio": 0.50001}, False),
        ({"rule": "uniform_parameters"}, False),
        ({"rule": "uniform_channels"}, False),
        ({"normalisation": "layer_mean"}, False),
        ({"rule": "widths_of", "reference": "output_l1"}, False),
        ({"metric": "weighted_mutual_information"}, False),
        ({"metric": "mutual_information(bins=21)"}, False),
        ({"metric": "mutual_information(bins=20)"}, True),
        ({"metric": {"mutual_information": {"bins": 20}}}, True),
        ({"metric": None}, False),
        ({"images": 1_000}, False),
        ({"compensation": "least_squares"}, False),
        ({"compensation": {"none": {}}}, True),
        ({"rule": "global(of=macs)"}, False),
        ({"rule": "global(of=parameters)"}, True),
        ({"schedule": "iterative(steps=2)"}, False),
        ({"schedule": "iterative(steps=1)"}, True),
        ({"finetune_name": "short"}, True),
        ({"rewound": 1}, False),
        ({"rewound": 12}, False),
        ({"variant": "another name of it"}, True),
        ({"width": 1.0}, True),
    ],
    ids=str,
)
def test_the_point_of_the_grid_counts(changes, same):
    assert (cell(**changes).key == cell().key) == same
    assert (cell(**changes).family == cell().family) == (same or changes == {"seed": 1})


def test_the_metric_that_lends_its_widths_counts():
    lent = [cell(rule="widths_of", reference=name).key for name in ("output_l1", "input_l1")]
    assert lent[0] != lent[1]
    first, second = (cell(rule="widths_of", reference=name) for name in ("output_l1", "input_l1"))
    assert first.family != second.family
    assert first.family == cell(rule="widths_of", reference="output_l1", seed=3).family


def test_flips_that_the_data_forbid_do_not_count():
    mirrored = replace(DATASET, flip_keeps_label=False)
    never = replace(PARTS["recipe"], flip=False)
    keys = {
        cell(dataset=data, recipe=recipe, finetune=replace(never, epochs=1)).key
        for data, recipe in ((mirrored, PARTS["recipe"]), (mirrored, never), (DATASET, never))
    }
    assert len(keys) == 1


VERSIONS = [
    f"{module.__name__}.{name}"
    for module in (baselines, scores, cells)
    for name in vars(module)
    if name.endswith("_VERSION")
]


def test_every_stage_has_a_version():
    stages = {version.rpartition(".")[2].removesuffix("_VERSION") for version in VERSIONS}
    assert stages == {
        *("SPLIT", "PREPROCESSING", "TRAINING", "EVALUATION"),
        *("STATISTICS", "BUDGET", "SURGERY", "NORMALISATION"),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_the_versions_of_the_stages_count(version, monkeypatch):
    compensated = {"compensation": "least_squares"}
    before = cell(**compensated).key
    monkeypatch.setattr(version, 1_000)
    assert cell(**compensated).key != before


PINNED: dict[str, tuple[Callable[[], str], str]] = {
    "baseline": (lambda: cell().baseline.key, "90fc009615c75b3e"),
    "statistics": (lambda: _statistics_key(), "2370ab2754d9ac4f"),
    "scores": (lambda: cell().importances[0].key, "354a683a656e5562"),
    "global": (lambda: cell().key, "9666de3d2c7cf567"),
    "local": (lambda: cell(rule="uniform_parameters").key, "9c28ff702c1fd53a"),
    "weights alone": (lambda: cell(metric="output_l1", images=0).key, "9ecc5a8425f93b37"),
    "scratch": (lambda: cell(metric=None, rule="uniform_parameters").key, "a9aa96d6f7f02a5e"),
    "widths of": (lambda: cell(rule="widths_of", reference="output_l1").key, "99261bcdda95a056"),
}


def _statistics_key() -> str:
    statistics = cell().importances[0].statistics
    assert statistics is not None
    (request,) = statistics.requests
    return statistics.key(request)


@pytest.mark.parametrize(("made", "pinned"), PINNED.values(), ids=PINNED.keys())
def test_keys_do_not_change_unnoticed(made, pinned):
    assert made() == pinned, (
        "results that exist would be run again, or those of other numbers taken for these; if "
        "that is meant, raise the version of the stage that changed and pin the new key"
    )


def test_equal_identities_have_one_text():
    assert canonical({"b": 1, "a": [1.5, None, True]}) == '{"a":[1.5,null,true],"b":1}'
    assert key_of({"b": 1, "a": 2}) == key_of({"a": 2, "b": 1}) == "d3626ac30a87e6f7"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_without_json_are_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical({"ratio": value})
