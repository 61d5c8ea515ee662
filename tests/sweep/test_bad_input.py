"""Bad input ends with exit code 2 and a message that says what to change; nothing is touched."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from prune_core.images.size import LARGEST_SIDE as HIGH
from prune_core.images.size import SMALLEST_SIDE as LOW
from results import Store
from results.storage.schema import SCHEMA_VERSION

COLOURS = {"RGB": (3,), "RGBA": (4,), "L": ()}


def picture(mode: str = "RGB", size: int = 32, seed: int = 0) -> bytes:
    shape = (size, size, *COLOURS[mode])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, "PNG")
    return file.getvalue()


def write_images(
    folder: Path, labels: list[int], images: Callable[[int], bytes] | None = None
) -> None:
    """train.parquet and test.parquet with an image for each label, twice in train."""
    make = images or (lambda at: picture(seed=at))
    for part, chosen in (("train", labels * 2), ("test", labels)):
        rows = [{"bytes": make(at), "path": None} for at in range(len(chosen))]
        table = pa.table({"image": rows, "label": pa.array(chosen, pa.int64())})
        pq.write_table(table, folder / f"{part}.parquet")


def truncated(folder: Path) -> None:
    write_images(folder, [0, 1])
    train = folder / "train.parquet"
    train.write_bytes(train.read_bytes()[:-100])


IMAGES = {"datasets": ["parquet:images"]}
BAD_INPUT: dict[str, tuple[dict[str, Any], Callable[[Path], object], list[str]]] = {
    "unknown metric": ({"metrics": ["l3"]}, Path.rmdir, ["'l3'", "output_l1"]),
    "ratio 0": ({"ratios": [0]}, Path.rmdir, ["ratios[0] is 0", "greater than 0"]),
    "ratio 1.5": ({"ratios": [1.5]}, Path.rmdir, ["ratios[0] is 1.5", "equal to 1"]),
    "ratio a": ({"ratios": ["a"]}, Path.rmdir, ["ratios[0] is 'a'", "number"]),
    "unknown field": ({"ratioes": [0.5]}, Path.rmdir, ["ratioes is not a field", "ratios"]),
    "a path in place of a source": (
        {"datasets": ["./photos"]},
        Path.rmdir,
        ["dataset photos: ", "write 'folder:./photos'"],
    ),
    "a misspelt source": ({"datasets": ["cifar-10"]}, Path.rmdir, ["did you mean 'cifar10'?"]),
    "empty grid": ({"metrics": []}, Path.rmdir, ["metrics", "at least 1"]),
    "ratio out of reach": (
        {"datasets": ["digits"], "ratios": [0.01], "min_channels": 4},
        Path.rmdir,
        ["ratio 0.01", "lowest reachable"],
    ),
    "no data folder": (IMAGES, Path.rmdir, ["images", "no folder"]),
    "empty data folder": (IMAGES, lambda folder: None, ["images", "train"]),
    "truncated Parquet": (IMAGES, truncated, ["train.parquet"]),
    "no image": (
        IMAGES,
        lambda folder: write_images(folder, [0, 1], lambda at: b"no image"),
        ["train.parquet", "row"],
    ),
    "negative labels": (IMAGES, lambda folder: write_images(folder, [-1, 0, 1]), ["label", "-1"]),
    "a single class": (IMAGES, lambda folder: write_images(folder, [0, 0]), ["class"]),
}


@pytest.fixture
def old_results(tmp_path: Path) -> Path:
    """A results folder that holds a cell and something of the user's own."""
    store = Store(tmp_path / "old")
    store.create()
    store.write({"key": "0" * 16, "status": "ok"})
    (tmp_path / "old" / "notes.txt").write_text("mine")
    return tmp_path / "old"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(("changes", "prepare", "words"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_told_and_nothing_is_written(
    command, changes, prepare, words, old_results, images, write_spec, invoke, listing
):
    prepare(images)
    path = write_spec(changes)
    before = listing(path.parent)
    done = invoke(command, path, "--data", path.parent, "--out", old_results)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert listing(path.parent) == before


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "svhn"])
def test_a_download_without_a_network_is_told(source, write_spec, invoke, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        # A port that nothing listens on: refused at once, with or without a network.
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "data").mkdir()
    path = write_spec({"datasets": [source]})
    done = invoke("run", path, "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert done.exit_code == 2, done.output
    for word in (source, "could not be fetched", str(tmp_path / "data"), "digits"):
        assert word in done.stderr
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "data").iterdir()) == []


def test_grey_and_transparent_images_are_converted_and_others_resized_once(
    write_spec, images, invoke, tmp_path
):
    kinds = [("RGB", 32), ("L", 32), ("RGBA", 32), ("RGB", 20)]
    write_images(images, [0, 1] * 8, lambda at: picture(*kinds[at % 4], seed=at))
    path = write_spec({**IMAGES, "ratios": [0.5]})
    done = invoke("plan", path, "--data", tmp_path, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: images: ")]
    assert len([note for note in notes if "32" in note and "resized" in note]) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["plan", "run", "status"])
@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 0])
def test_a_folder_of_another_version_is_told(
    command, version, old_results, write_spec, invoke, listing
):
    (old_results / "format.json").write_text(json.dumps({"schema": version}))
    (old_results / "plan.json").write_text(json.dumps({"name": "s", "cells": {}}))
    before = listing(old_results)
    words = [old_results] if command == "status" else [write_spec(), "--out", old_results]
    done = invoke(command, *words)
    assert done.exit_code == 2, done.output
    assert f"schema version {version}" in done.stderr
    assert "name another results folder" in done.stderr
    assert listing(old_results) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_folder_that_takes_no_files_is_told(write_spec, invoke):
    done = invoke("run", write_spec(), "--out", "/proc/runs", "--executor", "serial")
    assert done.exit_code == 2, done.output
    assert "/proc/runs cannot be written to" in done.stderr
    assert "--out" in done.stderr


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_file_in_the_folders_place_is_told(command, write_spec, invoke, tmp_path):
    (tmp_path / "out").write_text("mine")
    done = invoke(command, write_spec(), "--out", tmp_path / "out")
    assert (done.exit_code, (tmp_path / "out").read_text()) == (2, "mine")
    assert "is a file" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "absent.yaml"], ["absent.yaml", "digits", "cifar10-small"]),
        (["plan", "absent.yaml"], ["absent.yaml", "digits", "cifar10-small"]),
        (["status", "absent"], ["no results folder absent"]),
        (["run", "digits", "--retry", "ok,lost"], ["--retry lost", "diverged", "failed"]),
        (["run", "digits", "--executor", "slrum"], ["did you mean slurm", "ray", "serial"]),
        (["run", "digits", "--pdb"], ["--pdb", "--executor ray", "allowed: --executor serial"]),
        (["run", "digits", "--pdb", "--executor", "slurm"], ["--executor slurm", "serial"]),
        (["prune"], ["prune"]),
    ],
    ids=" ".join,
)
def test_wrong_words_are_told(words, told, invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(*words)
    assert done.exit_code == 2, done.output
    assert [word for word in told if word not in done.stderr] == []
    assert list(tmp_path.iterdir()) == []


def test_the_command_itself_ends_with_one_message_and_code_2(start, write_spec, tmp_path):
    done = start("run", write_spec({"metrics": ["l3"]}), "--out", tmp_path / "out")
    output, errors = done.communicate()
    assert (done.returncode, output) == (2, "")
    assert errors.startswith("error: ")
    assert "Traceback" not in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_warning_of_the_command_is_one_line(start, old_results):
    damaged = old_results / "cells" / f"{'f' * 16}.parquet"
    damaged.write_text("no Parquet")
    (old_results / "plan.json").write_text(json.dumps({"name": "s", "cells": {"0" * 16: "c"}}))
    done = start("status", old_results)
    output, errors = done.communicate()
    assert done.returncode == 0
    assert "DamagedFileWarning" not in errors
    (line,) = errors.splitlines()
    assert line.startswith(f"warning: {damaged} is damaged")
    assert "0" * 16 not in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--variant", "resnet20", "--source", "b.py:f"], "--variant and --source name two"),
        ([], "net.pt is a file, so name the network"),
        (["--image-size", 0], f"'--image-size': Input should be greater than or equal to {LOW}"),
        (["--image-size", 5000], f"'--image-size': Input should be less than or equal to {HIGH}"),
    ],
)
def test_what_prune_cannot_take_is_told_by_its_option(words, message, invoke, tmp_path):
    (tmp_path / "net.pt").write_bytes(b"")
    done = invoke("prune", tmp_path / "net.pt", "--dataset", "digits", "--ratio", 0.5, *words)
    assert done.exit_code == 2
    assert message in done.stderr
