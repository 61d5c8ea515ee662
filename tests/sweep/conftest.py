"""Specs of small sweeps over real images, and the command line as a process of its own."""

import hashlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from prune_core.images import Images, load
from results import Store
from sweep.commands.cli import app
from sweep.spec.fields import Spec
from sweep.spec.parsing import parse

Content = dict[str, Any]
REPOSITORY = Path(__file__).resolve().parents[2]
ABSENT = object()

DIGITS: Content = {"source": "digits", "train_images": 300, "test_images": 60, "image_size": 16}
# As small as a sweep can be that still trains, prunes and fine-tunes every layer.
SMALL: Content = {
    "name": "small",
    "datasets": [DIGITS],
    "network": {"variant": "simplenet_310k", "width": 0.125},
    "recipe": {"epochs": 1, "batch_size": 64},
    "finetune": {"epochs": 1, "batch_size": 64, "learning_rate": 0.05},
    "metrics": ["output_l1", "entropy_gaussian"],
    "ratios": [0.3, 0.6],
    "controls": {"unpruned": False},
}


@pytest.fixture(scope="session")
def absent() -> object:
    """Stands in `changes` for a field that is left out."""
    return ABSENT


@pytest.fixture(scope="session")
def content() -> Callable[..., Content]:
    """The small spec; `changes` replace fields, named `recipe.epochs` or `datasets.0.source`."""

    def build(changes: Content | None = None) -> Content:
        made = deepcopy(SMALL)
        for path, value in (changes or {}).items():
            *outer, last = path.split(".")
            inner: Any = made
            for step in outer:
                inner = inner[int(step)] if isinstance(inner, list) else inner.setdefault(step, {})
            if value is ABSENT:
                del inner[last]
            else:
                # A later change may be inside this value, which is the caller's.
                inner[int(last) if isinstance(inner, list) else last] = deepcopy(value)
        return made

    return build


@pytest.fixture(scope="session")
def spec(content: Callable[..., Content]) -> Callable[..., Spec]:
    """The small spec with changes, as the sweep reads it."""
    return lambda changes=None: parse(yaml.safe_dump(content(changes)), "small.yaml")


@pytest.fixture
def write_spec(content: Callable[..., Content], tmp_path: Path) -> Callable[..., Path]:
    """Writes the small spec with changes to a file."""

    def write(changes: Content | None = None, name: str = "small.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(content(changes)))
        return path

    return write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty results folder, ready for writing."""
    store = Store(tmp_path / "runs")
    store.create()
    return store


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Starts the command as a person does, in a process of its own that leads its group.

    `marker` is put into the environment of it and of every process that it starts.
    """

    def begin(*words: str | Path, marker: str = "") -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        # This checkout comes before any other that is installed; tables have room.
        environment |= {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", "TEST_MARKER": marker}
        return subprocess.Popen(
            [Path(sys.executable).with_name("prune-sweep"), *map(str, words)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Whoever runs the tests in the background may have had SIGINT ignored for them.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    return begin


@pytest.fixture(scope="session")
def leftovers() -> Callable[[str], list[str]]:
    """Processes with a marker in their environment that do not end within 15 s."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("this system does not tell the environment of processes")

    def find(marker: str) -> list[str]:
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if f"TEST_MARKER={marker}\0".encode() in environment.read_bytes():
                    ended = select.poll()
                    handle = os.pidfd_open(int(environment.parent.name))
                    ended.register(handle, select.POLLIN)
                    if not ended.poll(15_000):
                        found.append((environment.parent / "cmdline").read_text())
                    os.close(handle)
        return found

    return find


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in this process, which spares the imports."""
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="session")
def run_digits(
    content: Callable[..., Content], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Result]:
    """Runs the small sweep with changes into a folder, in this process and without Ray."""

    def run(folder: Path, changes: Content | None = None, *words: str) -> Result:
        path = tmp_path_factory.mktemp("spec") / "small.yaml"
        path.write_text(yaml.safe_dump(content(changes)))
        fixed = ["run", str(path), "--out", str(folder), "--executor", "serial"]
        return CliRunner().invoke(app, [*fixed, *words])

    return run


@pytest.fixture(scope="session")
def small_images() -> Images:
    """The images of the small sweep."""
    side = DIGITS["image_size"]
    images = load(DIGITS["source"], image_size=(side, side))
    return images.cut(DIGITS["train_images"], DIGITS["test_images"])


@pytest.fixture(scope="session")
def two_seeds() -> Content:
    """Changes to the small sweep: two seeds of two families."""
    return {"seeds": [0, 1], "metrics": ["output_l1"], "ratios": [0.5], "recipe.epochs": 3}


@pytest.fixture(scope="session")
def kept_sweep(
    run_digits: Callable[..., Result],
    two_seeds: Content,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The results of a sweep of `two_seeds` that kept the best ones; not to be changed."""
    folder = tmp_path_factory.mktemp("kept") / "runs"
    done = run_digits(folder, two_seeds)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="session")
def listing() -> Callable[[Path], dict[str, str]]:
    """Hashes of all files below a folder, by name."""

    def build(folder: Path) -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }

    return build
