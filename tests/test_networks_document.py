"""docs/networks.md works as it is written: every file, command and snippet, in an empty folder."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.testing.compare import compare_images
from PIL import Image
from typer.testing import CliRunner

import results
from cluster.cli import app
from prune_core.cost import multiply_accumulates, parameters
from prune_core.networks import IMAGE_SIZE, NETWORKS, Architecture
from sweep.spec.packaged import packaged, text_of
from sweep.spec.parsing import read

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs/networks.md").read_text()
BLOCK = re.compile(r"([^\n]*)\n+```(\w*)\n(.*?)```", re.DOTALL)
FILE = re.compile(r"`([\w-]+\.(?:py|yaml))`.*:$")
NOTE = re.compile(r"\S+: .* keep all channels: .*")

# Fewer images, epochs and cells, so that the ten minutes take seconds.
QUICK = {
    "datasets: [digits]": "datasets: [{source: digits, train_images: 200, test_images: 60}]",
    "seeds: [0, 1, 2]": "seeds: [0]",
    "recipe: {epochs: 12": "recipe: {epochs: 1",
    "finetune: {epochs: 2": "finetune: {epochs: 1",
    "ratios: [0.3, 0.5]": "ratios: [0.5]",
    "ratios: [0.5, 0.7]": "ratios: [0.7]",
    "range(12)": "range(1)",
}


def sections() -> dict[str, str]:
    """The sections of the document that have blocks, by their titles."""
    parts = (part.split("\n", 1) for part in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:])
    return {title: text for title, text in parts if "```" in text}


def quick(text: str) -> str:
    for slow, fast in QUICK.items():
        text = text.replace(slow, fast)
    return text


def invoke(words: list[str]) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"{' '.join(words)}\n{done.output}"
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, but for two photographs and the sweep that README.md describes."""
    made = tmp_path_factory.mktemp("mine")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    for name in ("photo.png", "another.jpg"):
        Image.fromarray(pixels).save(made / name)
    return made


@pytest.fixture(autouse=True)
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a terminal there; what the command sets in this process is set back."""
    threads, on_terminate = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("COLUMNS", "250")
    yield
    sys.modules.pop("my_net", None)
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, on_terminate)


@pytest.mark.parametrize("title", sections())
def test_every_block_of_a_section(
    title: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if title == "Using a network":
        _sweep_digits(folder)
    shown = None
    for before, language, text in BLOCK.findall(sections()[title]):
        named = FILE.search(before)
        if shown is not None and not language and not before:
            assert text == shown
            shown = None
        elif named and language in ("python", "yaml"):
            shown = None
            _check_plan(folder / named[1], text)
            (folder / named[1]).write_text(quick(text))
        elif language == "python":
            capsys.readouterr()
            exec(text, {})
            shown = capsys.readouterr().out
            assert shown
        elif NOTE.fullmatch(text.strip()):
            spec = (folder / "mine.yaml").read_text()
            inner = spec.replace("width: 16}", "width: 16, groups: inner}")
            assert inner != spec
            (folder / "inner.yaml").write_text(inner)
            assert text.strip() in invoke(["plan", "inner.yaml"]).splitlines()
        elif text.startswith("$ prune-sweep plan"):
            pass  # compared by _check_plan, with the spec as it is written
        else:
            assert not language, f"a block of {language} that nothing runs: {text}"
            for line in text.splitlines():
                _run(line.partition("#")[0].split(), folder)


def _check_plan(path: Path, text: str) -> None:
    """Where the document shows the plan of a spec, it is the plan of this spec as written."""
    shown = re.search(rf"\$ prune-sweep plan {path.name}\n(.*?)```", DOCUMENT, re.DOTALL)
    if shown is None:
        return
    path.write_text(text)
    found = [line.rstrip() for line in invoke(["plan", path.name]).splitlines()]
    expected = shown[1].splitlines()
    # The last line is a time of one machine.
    assert found[:-1] == expected[:-1]
    assert found[-1].startswith("about ")
    assert expected[-1].startswith("about ")


def _run(words: list[str], folder: Path) -> None:
    program, *rest = words
    if program == "python":
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *rest], check=True, cwd=folder, env=environment)
        return
    assert program == "prune-sweep", words
    if rest[0] in ("plan", "run") and rest[1] in packaged():
        return  # see tests/test_packaged.py
    if rest[0] == "run":
        invoke([*rest, "--executor", "serial"])
        frame = results.load(f"runs/{read(rest[1]).name}")
        assert set(frame["status"]) == {"ok"}
    elif rest[0] == "export":
        kept = sorted(path.name for path in (folder / rest[1] / "networks").iterdir())
        rest[2] = kept[0]
        invoke(rest)
        assert (folder / "net" / "model.pt2").exists()
    elif rest[0] == "predict":
        images = [word for word in rest if word.endswith((".png", ".jpg"))]
        lines = invoke(rest).splitlines()
        assert [line.split()[0] for line in lines[: len(images)]] == images
    else:
        invoke(rest)


def _sweep_digits(folder: Path) -> None:
    """The sweep of the packaged spec, small, and no exported network."""
    spec = quick(text_of("digits")).replace("width: 0.5", "width: 0.1")
    spec = re.sub(
        r"metrics:.*?\nratios:.*\n", "metrics: [random]\nratios: [0.5]\n", spec, flags=re.S
    )
    (folder / "digits-small.yaml").write_text(spec)
    invoke(["run", "digits-small.yaml", "--out", "runs/digits", "--executor", "serial"])
    (folder / "net").rename(folder / "net-of-mine")


@pytest.mark.parametrize("slow", QUICK)
def test_the_document_has_what_is_made_quick(slow: str) -> None:
    assert slow in DOCUMENT


def test_one_shot_figures_are_those_of_the_given_weights(folder: Path) -> None:
    frame = results.load(folder / "runs/one-shot")
    assert (frame["finetuned_test_loss"] == frame["recalibrated_test_loss"]).all()
    assert (frame["recalibrated_test_loss"] != frame["pruned_test_loss"]).all()
    assert set(frame["epochs"]) == {0}


def test_the_table_of_networks_is_the_registry() -> None:
    rows = {
        cells[0].strip("`"): cells[1:]
        for line in DOCUMENT.splitlines()
        if line.startswith("| `") and len(cells := [c.strip() for c in line.split("|")[1:-1]]) == 6
    }
    ours = {
        name: family
        for name, family in NETWORKS.items()
        if family.build.__module__.startswith("prune_core.")
    }
    assert set(rows) == set(ours)
    for name, family in ours.items():
        shape = Architecture.named(name, 10 if family.image_size == IMAGE_SIZE else 1000)
        published = ", ".join(f"{data} {top1:g}" for data, top1 in family.accuracies.items())
        assert rows[name][:4] == [
            f"{parameters(shape):,}",
            f"{multiply_accumulates(shape) / 1e6:,.1f}",
            str(len(shape.groups.groups)),
            published,
        ]


@pytest.mark.parametrize(("shortcut", "count"), [("A", 853_018), ("B", 855_770)])
def test_parameters_of_resnet56(shortcut: str, count: int) -> None:
    shape = Architecture.named("resnet56", 10, options={"shortcut": shortcut})
    assert parameters(shape) == count
    assert f"{count:,}" in (ROOT / "docs/method.md").read_text()


def test_the_first_channels_of_all_stages_are_one_group_with_option_a() -> None:
    groups = Architecture.named("resnet56", 10).groups.groups
    first = next(group for group in groups if group.joined)
    assert first.channels == 16
    assert {producer.name.split(".")[0] for producer in first.producers} == {
        "conv1", "layer1", "layer2", "layer3"
    }  # fmt: skip


def test_the_picture_is_that_of_its_script(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "docs/pictures/draw.py"))
    script["write"](tmp_path / "made.png")
    # Another version of the fonts may move a pixel.
    assert compare_images(str(script["PICTURE"]), str(tmp_path / "made.png"), tol=5) is None
