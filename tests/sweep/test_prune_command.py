"""`prune-sweep prune` does what Python and a sweep do, and writes nothing if anything is wrong."""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import prune_core as pc
from prune_core.compensation import Compensation
from prune_core.cost import count_multiply_accumulates, count_parameters
from prune_core.images import LabelledImages, Split
from prune_core.networks.own import OwnNetwork
from prune_core.one_shot import OneShot
from results import Store
from sweep.stages import costs

FILES = {"README.md", "model.onnx", "model.pt2", "network.json", "network.safetensors"}
METRIC = "surgeon(per=parameter)"
"""That of a global ranking where none is named."""
HALF = ("--dataset", "digits", "--ratio", 0.5)
SWEEP = {
    "datasets": ["digits"],
    "network.width": 0.25,
    "recipe.epochs": 5,
    "finetune.epochs": 0,
    "metrics": [METRIC, "random"],
    "compensations": ["least_squares"],
    "ratios": [0.5],
    "scopes": ["global"],
    "keep": "all",
}
OWN = """
from torch import nn


def build(classes: int, *, width: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2),
        nn.BatchNorm2d(2 * width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2 * width, classes),
    )
"""


@pytest.fixture(scope="module")
def split() -> Split:
    return pc.load_images("digits").split(holdout=0.1)


@pytest.fixture(scope="module")
def swept(run_digits, tmp_path_factory) -> Path:
    """The results of a sweep that compensates; not to be changed."""
    folder = tmp_path_factory.mktemp("swept") / "runs"
    done = run_digits(folder, SWEEP)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def baseline(swept) -> Path:
    """The folder of its unpruned network."""
    (found,) = (swept / "artifacts" / "baselines").iterdir()
    return found


def row_of(folder: Path, metric: str) -> dict[str, Any]:
    store = Store(folder)
    (row,) = (row for row in store.read().to_pylist() if row["metric"] == metric)
    (kept,) = (
        one["kept"] for one in store.read(["key", "kept"]).to_pylist() if one["key"] == row["key"]
    )
    return row | {"kept": kept}


@pytest.fixture
def prune(invoke, monkeypatch, tmp_path) -> Callable[..., Result]:
    """Runs the command in an empty folder, without ONNX, which takes seconds."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return lambda *words: invoke("prune", *words)


@pytest.fixture(scope="module")
def pruned(baseline, start, tmp_path_factory) -> tuple[Path, str]:
    """The folder that the command wrote, and what it printed, as a person runs it."""
    to = tmp_path_factory.mktemp("pruned") / "deep" / "small"
    process = start("prune", baseline, *HALF, "--to", to)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    return to, output


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same tensors, bit for bit."""
    mine, others = one.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[n], others[n]) for n in mine)


def right(net: Callable[[torch.Tensor], torch.Tensor], images: LabelledImages) -> float:
    with torch.no_grad():
        return float((net(images.images).argmax(1) == images.labels).double().mean())


def test_it_is_the_same_as_three_lines_of_python(pruned, baseline):
    net = pc.load(baseline)
    images = pc.load_images("digits").split(holdout=0.1)
    smaller = pc.one_shot(net, images.train, 0.5)
    found = pc.load(pruned[0])
    assert same(found, smaller)
    assert found.preprocessing == smaller.preprocessing == net.preprocessing


def test_it_does_what_a_cell_of_a_sweep_does(pruned, swept, baseline, split):
    row = row_of(swept, METRIC)
    net = pc.load(baseline)
    how = OneShot(
        ratio=0.5, metric=pc.Choice.parse(METRIC), compensation=Compensation.parse("least_squares")
    )
    kept = how.select(net.net, split.train, net.preprocessing).kept
    assert [channels.tolist() for channels in kept] == row["kept"]
    text = (pruned[0] / "README.md").read_text()
    for words, stage in (
        ("before pruning", "baseline"),
        ("pruned", "pruned"),
        ("compensated: this network", "compensated"),
    ):
        assert f"| {words} | {100 * row[f'{stage}_test_top1']:.2f} % |" in text
    assert right(pc.load(pruned[0]), split.test) == row["compensated_test_top1"]


def test_other_metrics_do_what_a_cell_does_too(prune, swept, baseline, split):
    row = row_of(swept, "random")
    done = prune(baseline, *HALF, "--metric", "random", "--to", "small")
    assert done.exit_code == 0, done.output
    assert right(pc.load("small"), split.test) == row["compensated_test_top1"]


def test_every_figure_that_is_printed_is_that_of_the_files(pruned, baseline, split):
    to, output = pruned
    assert {path.name for path in to.iterdir()} == FILES
    full, small = pc.load(baseline), pc.load(to)
    removed = pc.one_shot(full, split.train, 0.5, compensation="none")
    program = torch.export.load(to / "model.pt2").module()
    assert right(program, split.test) == right(small, split.test) > 0.3

    def line(words: str) -> list[str]:
        (found,) = (line for line in output.splitlines() if line.strip().startswith(words))
        return found.strip().removeprefix(words).split()

    before, after, without = (
        f"{100 * right(net, split.test):.2f}" for net in (full, small, removed)
    )
    assert line("accuracy on 359 test images") == [before, "%", after, "%"]
    assert line("without compensation") == [without, "%"]
    counts = [count_parameters(net) for net in (full, small)]
    assert counts[1] / counts[0] == pytest.approx(0.5, abs=0.02)
    assert line("parameters") == [*(f"{n:,}" for n in counts), f"{counts[1] / counts[0]:.3f}"]
    macs = [count_multiply_accumulates(net.net, (32, 32)) for net in (full, small)]
    assert line("multiply-accumulates") == [
        *(f"{n:,}" for n in macs),
        f"{macs[1] / macs[0]:.3f}",
    ]
    for batch in (1, 256):
        full_ms, small_ms, ratio = map(float, line(f"ms an image at batch {batch}"))
        assert ratio == pytest.approx(small_ms / full_ms, abs=0.01)
    assert f"{to}: {', '.join(sorted(FILES))}" in output
    lost = float(before) - float(after)
    assert ("--compensation least_squares_sequential takes longer" in output) == (lost > 1)


def test_the_card_says_how_it_was_made(pruned, baseline):
    text = (pruned[0] / "README.md").read_text()
    made = dict(re.findall(r"^- (\w+): (.*)$", text, re.MULTILINE))
    for name, words in {
        "network": str(baseline),
        "training": "none",
        "metric": r"surgeon\(per=parameter\), options .* read 1,024 training images",
        "budget": r"global, .* ratio 0\.5 of the parameters requested; 0\.[45]\d+ of the param",
        "compensation": "least_squares, .* read 1,024 training images and no labels",
        "data": "digits .* 1,293 training images",
    }.items():
        assert re.search(words, made[name]), made[name]
    assert "Widths: " in text
    assert "359 test images, which were used for these figures only" in text


def test_predict_reads_what_was_written(pruned, split, invoke, tmp_path):
    images, _ = split.test.batch(slice(0, 12))
    paths = [tmp_path / f"{at}.png" for at in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    done = invoke("predict", pruned[0], *paths)
    assert done.exit_code == 0, done.output
    with torch.no_grad():
        expected = pc.load(pruned[0])(images).argmax(1).tolist()
    assert [int(line.split("  ")[1]) for line in done.stdout.splitlines()] == expected


def test_a_pruned_network_can_be_pruned_again(prune, pruned, split):
    done = prune(pruned[0], *HALF, "--compensation", "least_squares_sequential(images=64)")
    assert done.exit_code == 0, done.output
    found, again = pc.load("small-0.5"), pc.load(pruned[0])
    expected = pc.one_shot(
        again, split.train, 0.5, compensation="least_squares_sequential(images=64)"
    )
    assert same(found, expected)
    table = done.stdout.partition("; no training")[0].splitlines()
    assert len(table) == 8
    assert max(map(len, table)) <= 80


def test_the_network_of_a_cell_can_be_pruned(prune, kept_sweep):
    network = min((kept_sweep / "networks").iterdir())
    done = prune(network, *HALF, "--metric", "output_l1", "--compensation", "none")
    assert done.exit_code == 0, done.output
    assert "without compensation" not in done.stdout
    text = Path(f"{network.name}-0.5", "README.md").read_text()
    assert "| pruned: this network |" in text
    assert "compensated" not in text.partition("## How it was made")[0]
    assert "- compensation: none" in text


def test_a_checkpoint_of_a_family_is_scaled_as_it_was_trained(prune, split, tmp_path):
    torch.manual_seed(0)
    shape = pc.Architecture.named("resnet20", 10, 0.25, options={"shortcut": "B"})
    net, scaling = shape.build(), pc.Preprocessing((127.5,) * 3, (63.75,) * 3)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "net.pt")
    words = ("--variant", "resnet20", "--width", 0.25, "--option", "shortcut=B")
    colours = ("--mean", "0.5,0.5,0.5", "--deviation", "0.25, 0.25, 0.25")
    rest = ("--metric", "taylor", "--combine", "max", "--scope", "local", "--test-images", 50)
    few = ("--compensation", "least_squares(images=200)")
    done = prune("net.pt", *HALF, *words, *colours, *rest, *few)
    assert done.exit_code == 0, done.output
    assert "accuracy on 50 test images" in done.stdout
    found = pc.load("net-0.5")
    assert found.preprocessing == scaling
    assert found.class_names == tuple("0123456789")
    expected = pc.one_shot(
        net,
        split.train,
        0.5,
        preprocessing=scaling,
        metric="taylor",
        budget="uniform_parameters",
        combine="max",
        compensation="least_squares(images=200)",
    )
    assert same(found.net, expected)
    done = prune(
        "net.pt", *HALF, *words, "--groups", "inner", *few, "--test-images", 50, "--to", "other"
    )
    assert done.exit_code == 0, done.output
    assert "note: images are scaled by the mean and the deviation of the training" in done.stderr
    assert "note: resnet20: conv1, " in done.stderr
    assert "before pruning the network is right about as often as chance" in done.stderr
    assert pc.load("other").preprocessing == pc.Preprocessing.of(split.train)


def test_a_checkpoint_of_an_own_network_keeps_its_source(prune, split, tmp_path):
    (tmp_path / "my_net.py").write_text(OWN)
    torch.manual_seed(0)
    shape = pc.networks.of(OwnNetwork.read("my_net.py:build", {"width": 6}, tmp_path), 10)
    net = shape.build()
    save_file({n: t.contiguous() for n, t in net.state_dict().items()}, tmp_path / "w.safetensors")
    words = ("--source", "my_net.py:build", "--option", "width=6", "--test-images", 50)
    done = prune("w.safetensors", *HALF, *words, "--seed", 3, "--metric", "random")
    assert done.exit_code == 0, done.output
    found = pc.load("w-0.5", "my_net.py:build")
    scaling = pc.Preprocessing.of(split.train)
    expected = pc.one_shot(net, split.train, 0.5, preprocessing=scaling, metric="random", seed=3)
    assert same(found.net, expected)
    text = Path("w-0.5", "README.md").read_text()
    assert "prune-sweep predict . image.png --source my_net.py:build" in text
    assert "w.safetensors (my_net.py:build, width=6)" in text
    done = prune("w-0.5", *HALF)
    assert (done.exit_code, "give the source" in done.stderr) == (2, True)
    assert not Path("w-0.5-0.5").exists()
    done = prune("w-0.5", *HALF, "--source", "my_net.py:build", "--test-images", 50)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(interrupt, baseline, start, leftovers, tmp_path):
    to, marker = tmp_path / "small", f"prune {interrupt.name}"
    process = start("prune", baseline, *HALF, "--metric", "output_l1", "--to", to, marker=marker)
    # The table is printed before the files are written.
    assert process.stdout is not None
    while "no training" not in (line := process.stdout.readline()):
        assert line, process.communicate()
    while not to.exists():
        assert process.poll() is None
    os.kill(process.pid, interrupt)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted; nothing was written"
    assert leftovers(marker) == []
    assert list(tmp_path.iterdir()) == []


def named(folder: Path, names: list[str]) -> None:
    """Stores a network with other names of its classes."""
    stored = pc.network_files.load(folder)
    pc.network_files.save(stored.net, stored.preprocessing, folder, names)


@pytest.fixture
def photos(tmp_path) -> None:
    """A folder of images of ten classes, a to j."""
    for part in ("train", "test"):
        for at, name in enumerate("abcdefghij"):
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            for copy in range(3):
                image = Image.new("RGB", (32, 32), (20 * at, 80 * copy, 0))
                image.save(tmp_path / "photos" / part / name / f"{copy}.png")


def test_classes_in_another_order_are_refused(prune, baseline, photos, tmp_path):
    net = shutil.copytree(baseline, tmp_path / "net")
    words = (net, "--ratio", 0.5, "--dataset", "folder:photos")
    named(net, [*"abcdefghji"])
    done = prune(*words)
    assert done.exit_code == 2
    assert "class 8 is 'j' for the network, but 'i' in folder:photos" in done.stderr
    assert "in another order, so every accuracy would be wrong" in done.stderr
    named(net, [*"abcdefghi", "jay"])
    done = prune(*words)
    assert done.exit_code == 0, done.output
    assert "note: class 9 is 'jay' for the network, but 'j' in folder:photos" in done.stderr
    named(net, [*"0123456789"])
    done = prune(*words, "--to", "other")
    assert done.exit_code == 0, done.output
    assert pc.load("other").class_names == tuple("abcdefghij")


def test_what_cannot_be_pruned_is_refused_and_nothing_is_written(
    prune, baseline, swept, photos, tmp_path
):
    torch.save(pc.Architecture.named("resnet20", 4, 0.25).build().state_dict(), "four.pt")
    torch.save(pc.load(baseline).net.state_dict(), "net.pt")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    (tmp_path / "small").write_text("mine")
    broken = shutil.copytree(baseline, tmp_path / "broken")
    description = json.loads((broken / "network.json").read_text())
    description["preprocessing"]["mean"][0] += 1
    (broken / "network.json").write_text(json.dumps(description))
    four = shutil.copytree(baseline, tmp_path / "four")
    shape = pc.Architecture.named("simplenet_310k", 4, 0.125)
    scaling = pc.Preprocessing((0, 0, 0), (1, 1, 1))
    pc.Classifier(shape.build(), scaling).save(four)
    there = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    net, family = (baseline, *HALF), ("--variant", "simplenet_310k", "--width", 0.25)
    file = ("net.pt", *HALF)
    for words, message in (
        (("nowhere", *HALF), "there is no folder or file nowhere"),
        (("empty", *HALF), "empty holds no network.json; name a folder that `prune-sweep export`"),
        ((swept, *HALF), f"name one of its 3 networks, such as {baseline}, which is"),
        ((broken, *HALF), "broken holds no readable network: the checksum"),
        ((four, *HALF), "a network for 4 classes, but digits has 10"),
        ((*net, "--variant", "resnet20"), "--variant is for checkpoint files"),
        ((*net, "--option", "shortcut=B"), "--option is for checkpoint files"),
        ((*net, "--image-size", 64), "--image-size is for checkpoint files"),
        (file, "net.pt is a file, so name the network"),
        ((*file, *family, "--source", "my_net.py:build"), "name two networks; give one of the two"),
        ((*file, "--variant", "resnet21"), "variant 'resnet21' is unknown; did you mean resnet20?"),
        ((*file, "--variant", "resnet20", "--option", "shortcut=C"), "is 'C'; allowed: A, B\n"),
        ((*file, "--variant", "resnet20", "--option", "shortcut"), "must be option=value"),
        ((*file, "--variant", "resnet20", "--option", "width=2"), "write --width instead"),
        ((*file, "--variant", "resnet20"), "weights net.pt does not fit the network: it lacks"),
        (("four.pt", *HALF, "--variant", "resnet20", "--width", 0.25), "it has 4 classes, but "),
        ((*file, *family, "--width", -1), "--width is -1"),
        ((*file, *family, "--mean", "0.5"), "--mean is '0.5'; it must be three numbers"),
        ((*file, *family, "--mean", "0.5,0.5,0.5"), "needs both mean and deviation"),
        ((*file, *family, "--mean", "99,99,99", "--deviation", "1,1,1"), "--mean is 99.0; "),
        ((*file, "--source", "absent.py:build"), "there is no file absent.py"),
        ((baseline, "--dataset", "digit", "--ratio", 0.5), "unknown source of images 'digit'"),
        ((baseline, "--dataset", "folder:x", "--ratio", 0.5), "there is no folder"),
        ((baseline, "--dataset", "digits", "--ratio", 0), "ratio 0.0 must lie in (0, 1]"),
        ((baseline, "--dataset", "digits", "--ratio", "nan"), "must lie in (0, 1]"),
        ((*net, "--min-fraction", 0.9), "ratio 0.5 cannot be reached: with the floor of 1 chan"),
        ((*net, "--min-channels", 0), "min_channels 0: a layer needs at least 1"),
        ((*net, "--metric", "l1"), "metric 'l1' is unknown"),
        ((*net, "--compensation", "ridge"), "compensation 'ridge' is unknown"),
        ((*net, "--normalisation", "mean"), "normalisation 'mean' is unknown"),
        ((*net, "--normalisation", "layer_mean", "--scope", "local"), "has no effect with the bu"),
        ((*net, "--budget", "widths_of"), "budget 'widths_of' cannot be used here"),
        ((*net, "--budget", "global", "--scope", "local"), "'global' is no rule of the scope 'l"),
        ((*net, "--test-images", 5), "the first 5 test images hold none of classes"),
        ((*net, "--test-images", 400), "the first 400 test images were asked for"),
        ((*net, "--to", "mine"), "mine exists and is not an empty folder"),
        ((*net, "--to", "small"), "small exists and is not an empty folder"),
    ):
        done = prune(*words)
        assert done.exit_code == 2, (words, done.output)
        assert message in done.stderr, (words, done.stderr)
        assert done.stdout == "", (words, done.stdout)
    assert there == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_an_empty_folder_may_be_given(prune, baseline, tmp_path):
    (tmp_path / "out").mkdir()
    done = prune(baseline, *HALF, "--metric", "output_l1", "--to", "out", "--min-channels", 2)
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"model.onnx"}
    assert "model.onnx was not written" in done.stdout
    # Raw scores of `output_l1` empty whole layers.
    assert re.search(
        r"note: \d+ channel groups? at the floor of 2 channels a layer \(blocks\.\d+\.conv",
        done.stderr,
    )


def test_a_latency_that_takes_too_long_is_left_out(prune, baseline, tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "LONGEST_RUN", 0.0)
    # The unpruned network's are measured once per process.
    costs._of_full.cache_clear()
    done = prune(baseline, *HALF, "--to", "out", "--test-images", 60)
    costs._of_full.cache_clear()
    assert done.exit_code == 0, done.output
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| ms an image at batch 256 | not measured | not measured |" in card
