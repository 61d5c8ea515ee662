"""An unknown name is answered with the one that was probably meant, before the whole list."""

import pytest

from prune_core.budgets import BUDGETS, BudgetChoice, BudgetError
from prune_core.compensation import COMPENSATIONS, Compensation, CompensationError
from prune_core.images.errors import ImagesError
from prune_core.images.sources import SOURCES, parse_source
from prune_core.metrics import METRICS, Choice, MetricError
from prune_core.networks import NETWORKS, Architecture, ArchitectureError
from prune_core.normalisation import NORMALISATIONS, check_normalisation
from prune_core.schedule import SCHEDULES, Schedule, ScheduleError
from prune_core.spelling import allowed, nearest


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ouput_l1", "output_l1"),
        ("Output_L1", "output_l1"),
        ("output-l1", "output_l1"),
        ("entropy_gausian", "entropy_gaussian"),
        ("apo", "apoz"),
        ("colour", None),
        ("", None),
        ("x", None),
    ],
)
def test_the_nearest_metric(name, meant):
    assert nearest(name, METRICS) == meant


def test_no_names_are_allowed():
    assert nearest("a", []) is None
    assert allowed("a", []) == "allowed: none"


CASES = {
    "metric": (METRICS, "ouput_l1", "output_l1", Choice.of, MetricError),
    "normalisation": (
        NORMALISATIONS,
        "layer-mean",
        "layer_mean",
        lambda name: check_normalisation(name, Choice.of("output_l1")),
        MetricError,
    ),
    "budget": (BUDGETS, "uniform_parameter", "uniform_parameters", BudgetChoice, BudgetError),
    "network": (
        NETWORKS,
        "ResNet-18",
        "resnet18",
        lambda name: Architecture.named(name, 10),
        ArchitectureError,
    ),
    "schedule": (SCHEDULES, "oneshot", "one_shot", Schedule.parse, ScheduleError),
    "compensation": (
        COMPENSATIONS,
        "least_square",
        "least_squares",
        Compensation.parse,
        CompensationError,
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_every_registry_names_the_nearest_first(kind):
    known, wrong, meant, use, error = CASES[kind]
    with pytest.raises(error) as caught:
        use(wrong)
    message = str(caught.value)
    assert f"did you mean {meant}? " in message
    others = [name for name in known if name != meant and f" {name}," in message]
    assert len(others) >= len(known) - 3
    assert all(message.index(meant) < message.index(f" {name},") for name in others)


def test_an_option_and_a_choice_of_an_option():
    with pytest.raises(MetricError, match="no option 'bin'; did you mean bins"):
        Choice.of("entropy_histogram", {"bin": 3})
    with pytest.raises(ScheduleError, match="did you mean geometric"):
        Schedule.parse("iterative(steps=3, spacing=geometrical)")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("cifar-10", "did you mean 'cifar10'?"),
        ("CIFAR10", "did you mean 'cifar10'?"),
        ("parqet:photos", "did you mean 'parquet:photos'?"),
        ("./photos", "folder:./photos"),
        ("~/photos", "folder:~/photos"),
        ("photos/birds", "folder:photos/birds"),
        ("pictures", "folder:pictures"),
    ],
)
def test_a_source_of_images_that_is_unknown(source, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ImagesError) as caught:
        parse_source(source)
    message = str(caught.value)
    assert words in message
    assert all(entry.pattern in message for entry in SOURCES.values())
