"""Sweeps with a person's own network: its keys, its rows wherever they run, and its errors."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result
from faults.disturbance import table

import results
from sweep.errors import SpecError
from sweep.planning.cells import Cell
from sweep.planning.grid import plan

REPOSITORY = Path(__file__).resolve().parents[2]

NETWORK = """
import torch
from torch import nn

from parts.blocks import block


class Network(nn.Module):
    def __init__(self, classes: int, depth: int, width: float, norm: str | None) -> None:
        super().__init__()
        channels = [3] + depth * [round(8 * width)]
        pairs = zip(channels, channels[1:])
        self.blocks = nn.Sequential(*[block(a, b, norm) for a, b in pairs])
        self.branch = block(channels[-1], channels[-1], norm, stride=1)
        self.classifier = nn.Linear(channels[-1], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.blocks(images)
        return self.classifier((maps + self.branch(maps)).amax(dim=(2, 3)))


def build(
    classes: int, *, depth: int = 2, width: float = 1.0, norm: str | None = "batch"
) -> nn.Module:
    return Network(classes, depth, width, norm)
"""

BLOCKS = """
from torch import nn


def block(inputs: int, outputs: int, norm: str | None, stride: int = 2) -> nn.Module:
    layers = [nn.Conv2d(inputs, outputs, 3, stride, 1)]
    if norm == "batch":
        layers.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*layers, nn.ReLU())
"""

OWN = {"source": "networks/my_net.py:build", "depth": 3}
CHANGES = {
    "network": OWN,
    "datasets": [{"source": "digits", "train_images": 120, "test_images": 40}],
    "metrics": ["taylor"],
    "ratios": [0.5],
    "resources": {"cpus": 1, "gpus": 0},
    "keep": "none",
}


def write_study(folder: Path) -> None:
    """A network file, a file that it imports, and one that it does not."""
    for name, text in {
        "my_net.py": NETWORK,
        "parts/blocks.py": BLOCKS,
        "parts/unused.py": "",
    }.items():
        (folder / "networks" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "networks" / name).write_text(text)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a network, not to be changed."""
    folder = tmp_path_factory.mktemp("studied")
    write_study(folder)
    return folder


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files of a network."""
    (tmp_path / "study").mkdir()
    write_study(tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture
def cells(study: Path, spec) -> Callable[..., tuple[Cell, ...]]:
    """The cells of the sweep with changes."""
    return lambda changes=None: plan(spec(CHANGES | (changes or {}))).cells


def keys(cells: tuple[Cell, ...]) -> set[str]:
    return {cell.baseline.key for cell in cells} | {cell.key for cell in cells}


def test_a_moved_network_keeps_its_keys(study, cells):
    before = keys(cells())
    (study / "elsewhere").mkdir()
    (study / "networks").rename(study / "elsewhere" / "nets")
    moved = {"network.source": "elsewhere/nets/my_net.py:build"}
    assert keys(cells(moved)) == before
    moved = {"network.source": str(study / "elsewhere" / "nets" / "my_net.py:build")}
    assert keys(cells(moved)) == before


def replace(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def change_network(study: Path) -> None:
    replace(study / "networks" / "my_net.py", "8 * width", "9 * width")


def change_import(study: Path) -> None:
    replace(study / "networks" / "parts" / "blocks.py", "nn.ReLU()", "nn.ReLU6()")


def change_comment(study: Path) -> None:
    # Only a person can say that a change of the text changes no figure.
    replace(study / "networks" / "my_net.py", "import torch\n", "import torch  # the framework\n")


@pytest.mark.parametrize("change", [change_network, change_import, change_comment])
def test_a_changed_text_changes_every_key(change, study, cells):
    before = keys(cells())
    change(study)
    assert not keys(cells()) & before


def test_a_file_that_is_not_imported_changes_no_key(study, cells):
    before = keys(cells())
    (study / "networks" / "parts" / "unused.py").write_text("NUMBER = 1")
    (study / "networks" / "more.py").write_text("")
    assert keys(cells()) == before


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"width": 1}, True),
        ({"width": 1.0, "norm": "batch"}, True),
        ({"options": {"width": 1}}, True),
        ({"depth": 2}, False),
        ({"width": 2}, False),
        ({"norm": None}, False),
    ],
    ids=str,
)
def test_options_count_by_their_values(options, same, cells):
    changed = cells({"network": OWN | options})
    assert (keys(changed) == keys(cells())) == same
    assert same or not keys(changed) & keys(cells())


def test_a_worker_needs_nothing_but_the_pickled_cells(study, cells, tmp_path):
    planned = cells()
    pickled = tmp_path / "cells.pickle"
    pickled.write_bytes(pickle.dumps(planned))
    shutil.rmtree(study / "networks")
    code = (
        "import pickle, sys; from pathlib import Path\n"
        "cells = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "widths = [module.out_channels for module in cells[0].baseline.architecture.build()"
        ".modules() if hasattr(module, 'out_channels')]\n"
        "print(widths, *[cell.key for cell in cells])"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code, pickled], env=environment, capture_output=True, text=True
    )
    expected = [str([8, 8, 8, 8]), *(cell.key for cell in planned)]
    assert done.stdout.strip() == " ".join(expected), done.stderr


@pytest.fixture(scope="module")
def run_own(studied: Path, run_digits) -> Callable[..., Result]:
    """Runs the sweep with changes into a folder, with the study as the current folder."""

    def run(folder: Path, changes: Any = None, *words: str, study: Path = studied) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(study)
            return run_digits(folder, CHANGES | (changes or {}), *words)

    return run


@pytest.fixture(scope="module")
def finished(run_own, tmp_path_factory) -> Path:
    """The results of the sweep, run without Ray; not to be changed."""
    folder = tmp_path_factory.mktemp("serial") / "runs"
    done = run_own(folder)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished results, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def rows(folder: Path) -> tuple[pd.DataFrame, ...]:
    """Every figure of a results folder that is the same in every run."""
    return table(folder), results.load_history(folder), results.load_channels(folder)


def assert_same(folder: Path, other: Path) -> None:
    for found, expected in zip(rows(folder), rows(other), strict=True):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_rows_name_the_network_and_have_all_figures(finished):
    frame = results.load(finished)
    assert frame["status"].tolist() == ["ok"] * 2
    assert set(frame["variant"]) == {"my_net.py:build"}
    assert set(frame["network_options"]) == {'{"depth": 3, "norm": "batch", "width": 1.0}'}
    assert set(frame["width"]) == {1.0}
    for stage in ("baseline", "pruned", "recalibrated", "finetuned"):
        assert frame[f"{stage}_test_loss"].notna().all()
    # Three convolutions of 3 x 3 after the first, batch normalisations and a linear layer.
    of_convolutions = (3 * 9 * 8 + 8) + 3 * (8 * 9 * 8 + 8)
    assert set(frame["parameters_full"]) == {of_convolutions + 4 * 16 + 8 * 10 + 10}
    assert (frame["parameters"] < frame["parameters_full"]).all()


def test_a_cell_is_redone_to_the_bit(copied, finished, run_own):
    before = results.load(copied)
    key = before["key"].iloc[0]
    done = run_own(copied, None, "--cell", key[:8], "--retry", "ok")
    assert done.exit_code == 0, done.output
    assert "1 of 2 cells, 0 done before, 1 to run" in done.stdout
    started = results.load(copied)["started_at"] > before["started_at"]
    assert started.tolist() == [True, False]
    assert_same(copied, finished)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_network, "the text of my_net.py:build or of a file that it imports ("),
        (change_import, "the text of my_net.py:build or of a file that it imports ("),
    ],
)
def test_a_changed_file_is_told_by_its_name(change, told, copied, run_own, tmp_path, listing):
    study = tmp_path / "study"
    write_study(study)
    change(study)
    key = results.load(copied)["key"].iloc[0]
    before = listing(copied)
    done = run_own(copied, None, "--cell", key, "--retry", "ok", study=study)
    assert done.exit_code == 2, done.output
    for words in (f"--cell {key} matches none of the 2 cells", f"row {key}", told, ", now "):
        assert words in done.stderr
    assert listing(copied) == before


def test_other_changes_since_a_row_was_made_are_told_too(copied, run_own):
    key = results.load(copied)["key"].iloc[0]
    changes = {"finetune.learning_rate": 0.01, "network.depth": 2}
    done = run_own(copied, changes, "--cell", key)
    assert done.exit_code == 2, done.output
    assert "finetune.learning_rate (0.05, now 0.01)" in done.stderr
    assert "baseline.architecture.network.options.depth (3, now 2)" in done.stderr
    assert "the text of" not in done.stderr


def test_ray_gives_the_same_rows_although_the_files_are_gone(
    finished, content, start, leftovers, study, tmp_path
):
    import yaml

    path, folder = tmp_path / "own.yaml", tmp_path / "ray"
    path.write_text(yaml.safe_dump(content(CHANGES)))
    process = start("run", path, "--out", folder, marker="own")
    assert process.stdout is not None
    first = process.stdout.readline()
    assert "2 cells, 0 done before, 2 to run" in first, first + process.communicate()[1]
    # The sweep is planned; from here on only the tasks know the network.
    shutil.rmtree(study / "networks")
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, ""), output
    assert leftovers("own") == []
    assert_same(folder, finished)


def test_a_metric_that_the_network_lacks_is_refused_before_the_run(run_own, tmp_path):
    changes = {"network.norm": None, "metrics": ["bn_scale", "output_l1"], "scopes": ["global"]}
    done = run_own(tmp_path / "runs", changes)
    assert done.exit_code == 2, done.output
    assert "metric 'bn_scale' needs a batch normalisation behind every convolution" in done.output
    assert "blocks.0.0" in done.output
    assert not (tmp_path / "runs").exists()


PLAIN = """
import torch
from torch import nn


class Plain(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.linear = nn.Linear(8, classes)

    def forward(self, images):
        maps = torch.relu(self.one(images))
        maps = torch.relu(self.two(maps))
        return self.linear(maps.mean((2, 3)))


def build(classes: int, *, depth: int = 1) -> nn.Module:
    return Plain(classes)
"""

SECOND = "        maps = torch.relu(self.two(maps))\n"
WRONG: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
    "no file": ("", "", {"source": "net.py:build"}, ["net.py:build", "no file net.py in"]),
    "no function": (
        "",
        "",
        {"source": "plain.py:built"},
        ["plain.py has no function 'built'", "it has Plain, build"],
    ),
    "only a file": ("", "", {"source": "plain.py"}, ["a Python file and a function", "build"]),
    "option": ("", "", {"width": 2}, ["plain.py:build", "no option 'width'", "allowed: depth"]),
    "value of an option": ("", "", {"depth": "two"}, ["option 'depth' is 'two'", "int"]),
    "options in a list": (
        "",
        "",
        {"width": 2, "options": ["depth"]},
        ["network.options is ['depth']", "valid dictionary"],
    ),
    "both": ("", "", {"variant": "resnet20"}, ["both a variant and a source", "one of the two"]),
    "control flow": (
        SECOND,
        f"        if maps.sum() > 0:\n    {SECOND}",
        {},
        ["cannot be traced", "control flow that depends on the images"],
    ),
    "numbers of channels": (
        SECOND,
        f"{SECOND}        maps = maps.view(-1, 8, 32, 32)\n",
        {},
        ["cannot run with fewer channels", "numbers of channels"],
    ),
    "shapes": (
        "(2, 3))",
        "(2, 3))[:, :7]",
        {},
        ["the network fails for images of 32 x 32 pixels at module 'linear'"],
    ),
    "syntax": ("def forward(self, images):", "def forward(self, images)", {}, ["plain.py, line"]),
    "import": ("import torch\n", "import torch, nowhere_at_all\n", {}, ["nowhere_at_all"]),
}


@pytest.mark.parametrize(("before", "after", "network", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_with_an_own_network_is_told(
    before, after, network, words, study, write_spec, invoke
):
    assert before in PLAIN
    (study / "plain.py").write_text(PLAIN.replace(before, after) if before else PLAIN)
    path = write_spec(CHANGES | {"network": {"source": "plain.py:build"} | network})
    done = invoke("plan", path, "--out", study / "runs")
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr
    assert not (study / "runs").exists()


def test_a_ratio_out_of_reach_names_the_channels_that_stay(study, spec):
    grouped = f"{SECOND}        maps = nn.functional.group_norm(maps, 2)\n"
    (study / "plain.py").write_text(PLAIN.replace(SECOND, grouped))
    changes = CHANGES | {"network": {"source": "plain.py:build"}}
    assert plan(spec(changes | {"ratios": [0.5]})).notes[0].startswith("plain.py:build: two keep")
    with pytest.raises(SpecError) as caught:
        plan(spec(changes | {"ratios": [0.05]}))
    for words in ("digits: ratio 0.05", "lowest reachable", "plain.py:build: two keep all chan"):
        assert words in str(caught.value)
