"""What is delivered with the code: packaged specs, the lock file and the import rules."""

import re
import tomllib
from pathlib import Path

import pytest

from prune_core.metrics.registry import METRICS
from sweep.spec.packaged import packaged
from sweep.spec.parsing import read

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_the_specs_of_the_first_run_and_of_the_study_are_packaged():
    study = {"thesis", "cifar10-cpu", "cifar100-cpu", "cifar10-5m-oneshot"}
    assert {"digits", "cifar10-small"} | study <= set(packaged())


def test_the_thesis_has_every_metric_and_the_papers_ratios():
    spec = read("thesis")
    # Other tests add metrics of their own.
    ours = {n for n, m in METRICS.items() if m.function.__module__.startswith("prune_core.")}
    assert {choice.name for choice in spec.metrics} == ours
    assert {0.3, 0.4, 0.45, 0.53} <= set(spec.ratios)
    assert len(spec.ratios) >= 9
    assert len(spec.seeds) >= 3
    assert {dataset.name for dataset in spec.datasets} == {"svhn", "cifar10", "cifar100"}


@pytest.mark.parametrize("name", packaged())
def test_a_packaged_spec_is_valid_and_has_its_files_name(name):
    assert read(name).name == name


def test_specs_are_part_of_the_distribution(project):
    patterns = project["tool"]["setuptools"]["package-data"]["sweep.spec.packaged"]
    files = {
        path.name
        for pattern in patterns
        for path in (REPOSITORY / "sweep/spec/packaged").glob(pattern)
    }
    assert files == {f"{name}.yaml" for name in packaged()}


def test_the_demo_has_enough_cells():
    spec = read("digits")
    assert [dataset.source for dataset in spec.datasets] == ["digits"]
    axes = (spec.datasets, spec.seeds, spec.metrics, spec.scopes, spec.ratios)
    cells = 1
    for axis in axes:
        cells *= len(axis)
    assert cells >= 30


def test_the_lock_pins_every_dependency_and_names_no_index(project):
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index" not in lock
    pinned = set(re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==\S+", lock, re.MULTILINE))
    extras = project["project"]["optional-dependencies"]
    needed = [*project["project"]["dependencies"], *(name for e in extras.values() for name in e)]
    names = {re.match(r"[A-Za-z0-9_.-]+", requirement)[0] for requirement in needed}
    # An extra may name the project itself, with its other extras.
    assert names - pinned - {project["project"]["name"]} == set()


@pytest.mark.parametrize(
    ("source", "never"),
    [
        ("prune_core", {"ray", "pandas", "sweep", "results", "cluster"}),
        ("results", {"torch", "torchvision", "ray", "prune_core", "sweep", "cluster"}),
        ("sweep", {"cluster"}),
    ],
)
def test_import_rules_cover_each_package(source, never, project):
    walls = [
        set(contract["forbidden_modules"])
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "forbidden" and source in contract["source_modules"]
    ]
    assert never <= set().union(*walls)


@pytest.mark.parametrize("package", ["sweep", "results"])
def test_import_rules_order_the_rooms_of_a_package(package, project):
    (layers,) = (
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and contract["layers"][0].startswith(f"{package}.")
    )
    rooms = {path.parent.name for path in (REPOSITORY / package).glob("*/__init__.py")}
    assert {layer.partition(".")[2] for layer in layers} == rooms
