"""What is exported is the cell's network, says what its row says, and works where we are not."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import made_up_sweep
import numpy as np
import pytest
import torch
from PIL import Image

import prune_core
from results import Store
from sweep.commands.model_card import card, of_cell
from sweep.stages.kept_networks import KeptNetworks

FILES = {"README.md", "model.onnx", "model.pt2", "network.json", "network.safetensors"}


def row_of(folder: Path, key: str) -> dict[str, Any]:
    (row,) = (row for row in Store(folder).read().to_pylist() if row["key"] == key)
    return row


def local_key(folder: Path) -> str:
    """The kept cell of the local scope."""
    kept = KeptNetworks(folder).keys()
    (key,) = (key for key in kept if row_of(folder, key)["scope"] == "local")
    return key


@pytest.fixture(scope="module")
def exported(kept_sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An exported network and what the command printed."""
    to = tmp_path_factory.mktemp("exported") / "deep" / "network"
    command = [Path(sys.executable).with_name("python"), "-m", "sweep", "export", kept_sweep]
    done = subprocess.run(
        [*map(str, command), local_key(kept_sweep)[:12], "--to", str(to)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return to, done.stdout


@pytest.fixture
def copied(kept_sweep: Path, tmp_path: Path) -> Path:
    """A copy of the results, to be changed."""
    return Path(shutil.copytree(kept_sweep, tmp_path / "runs"))


def test_all_files_are_there_and_said_to_be(exported):
    to, output = exported
    assert {path.name for path in to.iterdir()} == FILES
    first, program, onnx = output.splitlines()
    assert first == f"{to}: {', '.join(sorted(FILES))}"
    assert program.startswith("model.pt2 gives the network's logits to within ")
    assert onnx.startswith("model.onnx gives the network's logits to within ")


def test_the_exported_network_has_the_accuracy_of_its_row(exported, kept_sweep, small_images):
    to, _ = exported
    row = row_of(kept_sweep, local_key(kept_sweep))
    net = prune_core.load(to)
    program = torch.export.load(to / "model.pt2").module()
    for run in (net, program):
        with torch.no_grad():
            guesses = run(small_images.test_images).argmax(1)
        right = float((guesses == small_images.test_labels).double().mean())
        assert right == row["finetuned_test_top1"]


def table(text: str, heading: str) -> dict[str, list[str]]:
    """The cells of the Markdown table below a heading, by the first of each line."""
    lines = text.partition(f"## {heading}\n\n")[2].splitlines()
    end = next(at for at, line in enumerate(lines) if not line.startswith("|"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:end]]
    return {first: rest for first, *rest in rows}


def test_the_card_says_what_the_row_says(exported, kept_sweep):
    text = (exported[0] / "README.md").read_text()
    row = row_of(kept_sweep, local_key(kept_sweep))
    words = ["before pruning", "pruned", "batch normalisation re-estimated"]
    words.append("fine-tuned: this network")
    stages = ["baseline", "pruned", "recalibrated", "finetuned"]
    assert table(text, "Accuracy") == {
        word: [f"{100 * row[f'{stage}_{split}_top1']:.2f} %" for split in ("validation", "test")]
        for word, stage in zip(words, stages, strict=True)
    }
    size = table(text, "Size and speed")
    assert size["parameters"] == [f"{row['parameters']:,}", f"{row['parameters_full']:,}"]
    assert size["multiply-accumulates an image"] == [f"{row['macs']:,}", f"{row['macs_full']:,}"]
    for batch in (1, 256):
        assert size[f"ms an image at batch {batch}"] == [
            f"{row[f'latency_{of}{batch}_ms']:.4g} ({row[f'latency_{of}{batch}_iqr_ms']:.2g})"
            for of in ("", "full_")
        ]
    for fact in (row["key"], row["baseline_key"], row["dataset_fingerprint"], row["device"]):
        assert fact in text
    achieved = f"{row['parameter_ratio']:.4f} of the parameters and {row['mac_ratio']:.4f} of the"
    assert f"ratio 0.5 of the parameters requested; {achieved} macs achieved" in text
    assert f"Widths: {', '.join(map(str, row['widths']))}." in text
    assert f"{100 * row['finetuned_test_top5']:.2f} %" in text


def test_the_card_names_the_plugins_that_the_network_depends_on(kept_sweep):
    row = row_of(kept_sweep, local_key(kept_sweep))
    assert "plug-ins" not in of_cell(row).made
    parts = {
        "scores": {"metric": "mine", "plugin": "0123abcd"},
        "budget": {"normalisation": ["mine", 1, {"plugin": "4567cdef"}], "plugin": "0123abcd"},
    }
    identity = json.dumps(json.loads(row["identity"]) | parts)
    said = of_cell(row | {"identity": identity}).made["plug-ins"]
    assert said == "files with the fingerprints 0123abcd, 4567cdef"


def test_the_code_in_the_card_works_without_prune_sweep(exported, tmp_path, small_images):
    to, _ = exported
    image = small_images.test_images[:1]
    with torch.no_grad():
        expected = prune_core.load(to)(image)
    blocks = re.findall(r"```python\n(.*?)```", (to / "README.md").read_text(), re.DOTALL)
    prepare, ours, *others = blocks
    assert "prune_core" in ours
    assert len(others) == 2
    place = shutil.copytree(to, tmp_path / "elsewhere")
    Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(place / "image.png")
    check = "import sys, torch\nlogits = torch.as_tensor(logits)\n"
    check += f"expected = torch.tensor({expected.tolist()})\n"
    check += "assert logits.shape == expected.shape and logits.dtype == torch.float32\n"
    check += "assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()\n"
    clean = "assert not {'prune_core', 'sweep'} & {name.split('.')[0] for name in sys.modules}\n"
    script = "\n".join([prepare, *(other + check for other in others), clean, ours, check])
    subprocess.run([sys.executable, "-c", script], cwd=place, check=True)


def test_a_control_that_never_was_pruned_says_so(exported, kept_sweep):
    row = row_of(kept_sweep, local_key(kept_sweep)) | {"metric": "scratch"}
    for stage in ("pruned", "recalibrated"):
        row |= {f"{stage}_{split}_top1": None for split in ("validation", "test")}
    lines = table(card(of_cell(row), prune_core.load(exported[0]), {}), "Accuracy")
    assert list(lines) == ["before pruning", "trained from new weights: this network"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "4 epochs, then 1 after pruning by recipe finetune, schedule one_shot,"),
        (
            {"schedule": "iterative(steps=3)"},
            "4 epochs, then 1 after each of 3 prunings by recipe finetune, schedule iterative",
        ),
        (
            {"metric": "scratch", "finetune": "scratch", "finetune_epochs": 4},
            "4 epochs from new weights by the baseline's recipe, schedule one_shot,",
        ),
        ({"metric": "unpruned"}, "4 epochs, then 1 without pruning by recipe finetune,"),
        ({"finetune_epochs": 0}, "4 epochs, not fine-tuned, schedule one_shot,"),
    ],
)
def test_the_card_says_how_long_the_network_was_trained(changes, said):
    row = next(made_up_sweep.rows(made_up_sweep.Grid(("cifar10",), ("random",), (0.3,))))
    row |= {"epochs": 4, "finetune": "finetune", "finetune_epochs": 1, "metric_options": "{}"}
    row |= dict.fromkeys(f"compensated_{split}_top1" for split in ("validation", "test"))
    made = of_cell(row | changes)
    assert made.made["training"].startswith(said)
    assert ("| not fine-tuned: this" in made.accuracy) == (changes.get("finetune_epochs") == 0)


def test_text_from_data_does_not_become_structure(exported, kept_sweep):
    row = row_of(kept_sweep, local_key(kept_sweep)) | {"source": "folder:a\n## Accuracy\x1b[2J"}
    net = prune_core.load(exported[0])
    net.class_names = ("one\n# two", *net.class_names[1:])
    text = card(of_cell(row), net, {})
    assert text.count("\n## Accuracy") == 1
    assert "\x1b" not in text
    assert "0 one # two, 1 1, " in text


def test_without_the_extra_onnx_is_left_out_and_said_to_be(
    kept_sweep, tmp_path, invoke, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = invoke("export", kept_sweep, local_key(kept_sweep), "--to", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"model.onnx"}
    assert "model.onnx was not written" in done.stdout
    assert "pip install 'prune-sweep[onnx]'" in done.stdout
    assert "model.onnx" not in (tmp_path / "out" / "README.md").read_text()


def test_cells_that_are_not_there_are_named(kept_sweep, tmp_path, invoke):
    for word, message in (
        ("xyz", "'xyz' is not a key"),
        ("", "'' is not a key"),
        ("0" * 17, "is not a key"),
        ("ffffffffffffffff", "no cell whose key begins with ffffffffffffffff"),
    ):
        done = invoke("export", kept_sweep, word, "--to", tmp_path / "out")
        assert done.exit_code == 2
        assert message in done.stderr
    done = invoke("export", tmp_path / "nowhere", "0", "--to", tmp_path / "out")
    assert (done.exit_code, "nowhere" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_beginning_of_two_keys_is_refused(copied, tmp_path, invoke, full_cell):
    store = Store(copied)
    for key in ("abc0000000000000", "abc1111111111111"):
        store.write(full_cell(copied, key))
    done = invoke("export", copied, "abc", "--to", tmp_path / "out")
    assert done.exit_code == 2
    assert "2 keys begin with abc: abc0000000000000, abc1111111111111" in done.stderr


@pytest.fixture
def full_cell() -> Any:
    """A row like one of a sweep's, under another key and with changes."""

    def build(folder: Path, key: str, **changes: Any) -> dict[str, Any]:
        return row_of(folder, local_key(folder)) | {"key": key} | changes

    return build


def test_a_network_that_was_not_kept_is_told_with_what_to_do(kept_sweep, tmp_path, invoke):
    rows = Store(kept_sweep).read(["key"]).to_pydict()["key"]
    kept = KeptNetworks(kept_sweep).keys()
    beaten = min(set(rows) - kept)
    done = invoke("export", kept_sweep, beaten, "--to", tmp_path / "out")
    assert done.exit_code == 2
    for words in (f"cell {beaten} (seed ", "was not kept", min(kept), "keep: all", "--retry ok"):
        assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_cell_that_is_not_ok_is_refused(copied, tmp_path, invoke, full_cell):
    key = local_key(copied)
    Store(copied).write(full_cell(copied, key, status="diverged", error="nan in epoch 1"))
    done = invoke("export", copied, key, "--to", tmp_path / "out")
    assert (done.exit_code, "is diverged: nan in epoch 1" in done.stderr) == (2, True)


def test_a_network_of_another_run_than_the_row_is_refused(copied, tmp_path, invoke, full_cell):
    key = local_key(copied)
    Store(copied).write(full_cell(copied, key, finetuned_test_loss=0.123))
    done = invoke("export", copied, key, "--to", tmp_path / "out")
    assert (done.exit_code, "from another run than its row" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", ["network.json", "network.safetensors", "cell.json"])
def test_a_damaged_network_is_refused_by_name(name, copied, tmp_path, invoke):
    key = local_key(copied)
    path = copied / "networks" / key / name
    path.write_bytes(path.read_bytes()[:-5])
    done = invoke("export", copied, key, "--to", tmp_path / "out")
    assert done.exit_code == 2
    assert str(copied / "networks" / key) in done.stderr
    assert "damaged" in done.stderr
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_failed_export_leaves_no_folder(kept_sweep, tmp_path, invoke, monkeypatch):
    monkeypatch.setattr("prune_core.programs.TOLERANCE", -1)
    monkeypatch.setattr("prune_core.programs.MARGIN", -1)
    (tmp_path / "there").mkdir()
    for to in (tmp_path / "new" / "deep", tmp_path / "there"):
        done = invoke("export", kept_sweep, local_key(kept_sweep), "--to", to)
        assert done.exit_code == 2
        assert "other logits than the network" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_nothing_is_written_over(kept_sweep, tmp_path, invoke):
    (tmp_path / "mine").write_text("mine")
    for to in (tmp_path, tmp_path / "mine"):
        done = invoke("export", kept_sweep, local_key(kept_sweep), "--to", to)
        assert (done.exit_code, str(to) in done.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_predicting_every_test_image_gives_the_accuracy_of_the_row(
    exported, kept_sweep, tmp_path, invoke, small_images
):
    to, _ = exported
    images = small_images
    paths = [tmp_path / f"{at}.png" for at in range(len(images.test_labels))]
    for path, image in zip(paths, images.test_images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    done = invoke("predict", to, *paths)
    assert done.exit_code == 0, done.output
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [str(path) for path in paths]
    labels = map(str, images.test_labels.tolist())
    right = [line[1] == label for line, label in zip(lines, labels, strict=True)]
    row = row_of(kept_sweep, local_key(kept_sweep))
    assert sum(right) / len(right) == row["finetuned_test_top1"]
    with torch.no_grad():
        expected = prune_core.load(to)(images.test_images).double().softmax(1).amax(1)
    assert [line[2] for line in lines] == [f"{100 * p:.2f} %" for p in expected.tolist()]


def test_images_of_any_kind_are_read_as_training_images_are(
    exported, tmp_path, invoke, small_images
):
    digit = small_images.test_images[0].permute(1, 2, 0).numpy()
    Image.fromarray(digit).convert("L").save(tmp_path / "grey.png")
    Image.fromarray(digit).resize((64, 48)).convert("P").save(tmp_path / "large.gif")
    done = invoke("predict", exported[0], tmp_path / "grey.png", tmp_path / "large.gif")
    assert done.exit_code == 0, done.output
    assert len([line for line in done.stdout.splitlines() if line.endswith(" %")]) == 2
    assert "note: 1 image of another size: resized to 16 x 16" in done.stderr
    assert "note" not in done.stdout


def test_16_bit_images_are_read_with_the_bits_of_the_training_images(
    exported, tmp_path, invoke, small_images
):
    digit = small_images.test_images[0, 0].numpy()
    Image.fromarray(digit).save(tmp_path / "image.png")
    # The same values, which fill 12 of 16 bits.
    Image.fromarray(digit.astype(np.uint16) << 4).save(tmp_path / "deep.png")
    answers = []
    for words in (["image.png"], ["deep.png", "--bits", "12"], ["deep.png"]):
        done = invoke("predict", exported[0], tmp_path / words[0], *words[1:])
        assert done.exit_code == 0, done.output
        answers.append((done.stdout.rsplit("  ", 1)[1], done.stderr))
    assert answers[0][0] == answers[1][0] != answers[2][0]
    assert "the high 8 of 12 bits kept" in answers[1][1]
    assert "`bits: 12` uses their whole range" in answers[2][1]


def test_class_names_are_printed(exported, tmp_path, invoke):
    folder = shutil.copytree(exported[0], tmp_path / "named")
    stored = prune_core.network_files.load(folder)
    names = [f"the \x1b[31m{at}\n" for at in "0123456789"]
    prune_core.network_files.save(stored.net, stored.preprocessing, folder, names)
    image = tmp_path / "image.png"
    Image.new("RGB", (16, 16)).save(image)
    done = invoke("predict", folder, image)
    assert re.fullmatch(rf"{image}  the .?\[31m\d  \d+\.\d\d %\n", done.stdout)
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("name", "held"), [("absent.png", None), ("text.png", b"no image"), ("empty.png", b"")]
)
def test_what_is_no_image_is_named(name, held, exported, tmp_path, invoke):
    good, bad = tmp_path / "good.png", tmp_path / name
    Image.new("RGB", (16, 16)).save(good)
    if held is not None:
        bad.write_bytes(held)
    done = invoke("predict", exported[0], good, bad)
    assert done.exit_code == 1
    assert re.fullmatch(rf"{good}  \d  \d+\.\d\d %\n", done.stdout)
    (told,) = done.stderr.splitlines()
    assert told.startswith(f"error: {bad}: not a readable image")
    done = invoke("predict", exported[0], bad, good, "--format", "json")
    assert done.exit_code == 1
    first, second = json.loads(done.stdout)
    assert (first["file"], first["predicted"]) == (str(bad), None)
    assert "not a readable image" in first["error"]
    assert (second["file"], second["error"]) == (str(good), None)
    assert second["predicted"] in set("0123456789")
    assert 0.1 <= second["probability"] <= 1


def test_a_network_that_is_none_is_named(tmp_path, invoke, exported):
    image = tmp_path / "image.png"
    Image.new("RGB", (16, 16)).save(image)
    done = invoke("predict", tmp_path / "nowhere", image)
    assert (done.exit_code, "nowhere" in done.stderr) == (2, True)
    damaged = shutil.copytree(exported[0], tmp_path / "damaged")
    description = json.loads((damaged / "network.json").read_text())
    description["preprocessing"]["mean"][0] += 1
    (damaged / "network.json").write_text(json.dumps(description))
    done = invoke("predict", damaged, image)
    assert (done.exit_code, str(damaged) in done.stderr) == (2, True)
    assert "checksum" in done.stderr
