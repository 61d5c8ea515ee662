"""What is delivered with the code: packaged specs, the lock file and the import rules."""

import re
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

import results
from cluster.cli import app
from prune_core.metrics.registry import METRICS
from sweep.spec.packaged import packaged, text_of
from sweep.spec.parsing import read

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = REPOSITORY.parent / "shared" / "data"
# Widths with which a tiny sweep takes seconds.
BENCHMARKS = {"resnet56-cifar10": 0.125, "vgg16-cifar10": 0.0625}
PROTOCOLS = {"pruningbench": 0.0625, "hrank": 0.0625, "one-shot": 0.0625, "iterative": 0.125}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_the_specs_of_the_first_run_and_of_the_study_are_packaged():
    study = {"thesis", "thesis-cpu", "cifar10-cpu", "cifar100-cpu", "cifar10-5m-oneshot"}
    assert {"digits", "cifar10-small", *BENCHMARKS, *PROTOCOLS} | study <= set(packaged())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_benchmarks_have_the_protocol_of_the_field(name):
    spec = read(name)
    assert spec.scopes == ["global"]
    assert (spec.min_channels.channels, spec.min_channels.fraction) == (1, 0.1)
    assert len(spec.seeds) == 3
    assert spec.recipe.images is spec.finetune[0].images is None


@pytest.fixture
def run_tiny(tmp_path, monkeypatch):
    """Runs a packaged spec with few images, one epoch, one seed and ratio, and a narrow network.

    Everything else is that of the spec: metrics, budget, floor and controls.
    """

    def run(name, width, **changes):
        content = yaml.safe_load(text_of(name))
        (dataset,) = content["datasets"]
        if not (DATA / dataset).exists():
            pytest.skip(f"no real {dataset} images in {DATA}")
        cut = {"train_images": 120, "test_images": 30}
        if dataset == "cifar100":
            cut = {"train_images": 600, "test_images": 600}
        content["datasets"] = [{"source": f"parquet:{dataset}", "name": dataset, **cut}]
        content["network"]["width"] = width
        content["seeds"] = content["seeds"][:1]
        content["ratios"] = [content["comparisons"][0]["ratio"]]
        content["normalisations"] = [content["comparisons"][0].get("normalisation", "none")]
        recipes = content["finetune"]
        for recipe in [content["recipe"], *(recipes if isinstance(recipes, list) else [recipes])]:
            recipe["epochs"] = min(1, recipe["epochs"])
            if "weight_decay" in recipe:
                recipe["weight_decay"] = float(recipe["weight_decay"])
        content |= changes
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
        monkeypatch.chdir(tmp_path)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        words = ["run", "tiny.yaml", "--data", str(DATA), "--executor", "serial"]
        done = CliRunner().invoke(app, words)
        torch.set_num_threads(threads)
        assert done.exit_code == 0, done.output
        frame = results.load(f"runs/{name}")
        assert set(frame["status"]) == {"ok"}
        return content, frame

    return run


@pytest.mark.parametrize(("name", "width"), BENCHMARKS.items())
def test_a_benchmark_runs_on_real_images(name, width, run_tiny):
    content, frame = run_tiny(name, width)
    assert set(frame["metric"]) == {*content["metrics"], "unpruned"}
    pruned = frame[frame["metric"] != "unpruned"]
    assert (pruned["macs"] < pruned["macs_full"]).all()
    for widths, full in zip(pruned["widths"], pruned["widths_full"], strict=True):
        assert all(kept >= 0.1 * whole for kept, whole in zip(widths, full, strict=True))


def test_pruningbench_compares_at_equal_macs(run_tiny):
    content, frame = run_tiny("pruningbench", PROTOCOLS["pruningbench"])
    pruned = frame[frame["metric"] != "unpruned"]
    assert set(pruned["metric"]) == set(content["metrics"])
    assert set(pruned["ratio_of"]) == {"macs"}
    assert (pruned["mac_ratio"] - 0.3333).abs().max() < 0.05
    for widths, full in zip(pruned["widths"], pruned["widths_full"], strict=True):
        assert all(kept >= 0.1 * whole for kept, whole in zip(widths, full, strict=True))
    assert read("pruningbench").ratios == [0.5, 0.3333, 0.25]


def test_hrank_keeps_a_fraction_of_each_layers_channels(run_tiny):
    content, frame = run_tiny("hrank", PROTOCOLS["hrank"])
    pruned = frame[frame["metric"] != "unpruned"]
    assert set(pruned["metric"]) == set(content["metrics"])
    for widths, full in zip(pruned["widths"], pruned["widths_full"], strict=True):
        assert list(widths) == [round(whole / 2) for whole in full]


def test_one_shot_trains_nothing_and_compensates(run_tiny):
    changes = {"metrics": ["output_l1", "surgeon"]}
    content, frame = run_tiny("one-shot", PROTOCOLS["one-shot"], **changes)
    assert len(frame) == len(content["metrics"]) * 4 * 3
    assert (frame["finetuned_test_loss"] == frame["recalibrated_test_loss"]).all()
    assert set(frame["compensation"]) == set(content["compensations"])
    assert results.load_history("runs/one-shot").query("stage == 'finetune'").empty


def test_iterative_has_both_schedules_and_all_recipes(run_tiny):
    _, frame = run_tiny(
        "iterative",
        PROTOCOLS["iterative"],
        metrics=["taylor"],
        schedules=["one_shot", "iterative(steps=2)"],
        comparisons=[],
    )
    pruned = frame[frame["metric"] != "unpruned"]
    points = pruned.groupby(["metric", "schedule", "finetune"]).size()
    assert len(points) == 2 * 3
    assert (points == 1).all()
    assert results.load_steps("runs/iterative").groupby("key").size().eq(2).all()
    assert len(frame) - len(pruned) == 3


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
    axes = (spec.datasets, spec.seeds, spec.metrics, spec.scopes, spec.ratios, spec.compensations)
    cells = 1
    for axis in axes:
        cells *= len(axis)
    assert cells >= 30
    # Its table shows what compensation adds, and the order that is made for it.
    assert [each.name for each in spec.compensations] == ["none", "least_squares"]
    assert "surgeon" in [choice.name for choice in spec.metrics]


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
    named = {layer.partition(".")[2] for layer in layers}
    assert rooms <= named
    # What is no room is a file beside them.
    assert all((REPOSITORY / package / f"{name}.py").is_file() for name in named - rooms)
