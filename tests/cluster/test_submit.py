"""Submits a spec to a real Ray with a token, follows it, leaves it, follows it again, stops it.

Before that: what of a person's own network goes into the folder of the job.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import torch
from faults.connection import Breaking
from faults.disturbance import pause, table

import results
from cluster.bundle import bundle
from prune_core.networks.source import NetworkSource
from sweep.errors import SpecError
from sweep.planning.grid import plan
from sweep.spec.parsing import parse, read

REPOSITORY = Path(__file__).resolve().parents[2]
CHANGED = "{done} done before"
Ended = Callable[..., tuple[int, str, str]]


NETWORK = """
from torch import nn

from parts.blocks import block

def build(classes: int, *, width: float = 1.0, depth: int = 1) -> nn.Module:
    channels = [3] + depth * [round(4 * width)]
    blocks = [block(a, b) for a, b in zip(channels, channels[1:])]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(channels[-1], classes))
"""

BLOCKS = """
from torch import nn

def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU())
"""

OWN = """
name: own
datasets: [{source: digits, train_images: 300}]
network: {source: networks/my_net.py:build, width: 2, depth: 2, weights: trained/weights.pt}
recipe: {epochs: 1}
finetune: {epochs: 1}
metrics: [output_l1]
ratios: [0.5]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a spec, a network file that imports another one, and weights."""
    folder = tmp_path / "study"
    for name, text in {
        "own.yaml": OWN,
        "networks/my_net.py": NETWORK,
        "networks/parts/blocks.py": BLOCKS,
        "networks/notes.py": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "trained").mkdir()
    monkeypatch.chdir(folder)
    net = NetworkSource.read("networks/my_net.py:build").build(10, {"width": 2, "depth": 2})
    torch.save({"state_dict": net.state_dict()}, "trained/weights.pt")
    return folder


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """An empty folder."""
    (tmp_path / "job").mkdir()
    return tmp_path / "job"


def test_a_network_of_ones_own_and_its_weights_are_in_the_folder_of_the_job(
    own: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = plan(read("own.yaml"), None).cells
    packed = bundle("own.yaml", job)
    assert packed.spec == "own.yaml"
    assert _files(job / "network") == {"my_net.py", "parts/blocks.py", "weights.pt"}
    # On the cluster the files lie elsewhere, and the cells are the same.
    own.rename(own.with_name("gone"))
    monkeypatch.chdir(job)
    there = read(packed.spec)
    assert there == parse(re.sub("networks/|trained/", "network/", OWN), "here")
    assert [cell.key for cell in plan(there, None).cells] == [cell.key for cell in cells]


@pytest.mark.parametrize(
    ("network", "renamed", "files"),
    [
        (
            "{source: networks/my_net.py:build}",
            "{source: network/my_net.py:build}",
            {"my_net.py", "parts/blocks.py"},
        ),
        (
            "{variant: resnet20, width: 0.5, weights: trained/weights.pt}",
            "{variant: resnet20, width: 0.5, weights: network/weights.pt}",
            {"weights.pt"},
        ),
    ],
)
def test_a_spec_may_name_one_of_the_two(
    own: Path, job: Path, network: str, renamed: str, files: set[str]
) -> None:
    (own / "own.yaml").write_text(re.sub("network: .*", f"network: {network}", OWN))
    bundle("own.yaml", job)
    assert _files(job / "network") == files
    expected = re.sub("network: .*", f"network: {renamed}", OWN)
    assert read(str(job / "own.yaml")) == parse(expected, "expected")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("my_net.py", "your_net.py", "network.source is 'networks/your_net.py:build'; .* no file"),
        ("depth: 2", "depht: 2", "network.source is .* has no option 'depht'; did you mean depth"),
        ("weights.pt", "wights.pt", "network.weights is 'trained/wights.pt'; .* No such file"),
    ],
)
def test_a_network_that_cannot_be_read_is_refused(
    own: Path, job: Path, before: str, after: str, message: str
) -> None:
    (own / "own.yaml").write_text(OWN.replace(before, after))
    with pytest.raises(SpecError, match=message):
        bundle("own.yaml", job)


@pytest.mark.parametrize("name", ["own.yaml", "digits"])
def test_the_spec_of_the_job_has_the_fields_given_on_the_command_line(
    own: Path, job: Path, name: str
) -> None:
    fields = ["recipe.epochs=3", "ratios=[0.25, 0.75]"]
    packed = bundle(name, job, fields)
    there = read(str(job / packed.spec))
    expected = read(name, fields)
    assert (there.recipe.epochs, there.ratios) == (3, [0.25, 0.75])
    # The files of the network have other names there.
    assert there.model_copy(update={"network": expected.network}) == expected


def _files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def head(environment: dict[str, str]) -> Iterator[str]:
    """The dashboard address of a Ray with one node and one CPU.

    It was started as by a service: its virtual environment is not on its PATH, but another Python,
    which has no packages.
    """
    if not Path("/proc/self/environ").exists():
        pytest.skip("without /proc the processes of this Ray cannot be identified")
    marker, port = f"TEST_HEAD={os.getpid()}", _free_port()
    # The folder holds sockets, whose paths may have at most 107 characters.
    folder = tempfile.mkdtemp(prefix="psw-", dir="/tmp")
    start = [Path(environment["PATH"].partition(":")[0]) / "ray", "start", "--head", "--num-cpus=1"]
    start += ["--node-ip-address=127.0.0.1", "--port=0", f"--dashboard-port={port}"]
    start += [f"--ray-client-server-port={_free_port()}", f"--temp-dir={folder}"]
    # If another Ray uses the agent's port, the agent keeps running but accepts no jobs.
    start += [f"--dashboard-agent-listen-port={_free_port()}"]
    start += ["--object-store-memory=100000000"]
    bare = Path(folder) / "bin" / "python"
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    path = {"PATH": f"{bare.parent}:/usr/bin:/bin"}
    name, _, value = marker.partition("=")
    try:
        begun = subprocess.run(
            start,
            env=environment | path | {name: value},
            capture_output=True,
            text=True,
            cwd=folder,
        )
        assert begun.returncode == 0, begun.stdout + begun.stderr
        yield f"http://127.0.0.1:{port}"
    finally:
        _end_all(marker)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Another checkout of the code, with one changed message, and its commit."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in ("prune_core", "results", "sweep", "cluster"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, folder / package, ignore=ignored)
    changed = folder / "sweep" / "execution" / "run_sweep.py"
    assert CHANGED in changed.read_text()
    changed.write_text(changed.read_text().replace(CHANGED, "{done} seen elsewhere"))
    git = ["git", "-C", folder, "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "A change"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return folder, head.stdout.strip()


@pytest.fixture(scope="module")
def spec(write_spec: Callable[..., Path]) -> Path:
    return write_spec("submitted")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of the first sweep."""
    return tmp_path_factory.mktemp("results") / "runs"


@pytest.fixture(scope="module")
def first(
    head: str, checkout: tuple[Path, str], spec: Path, folder: Path, ended: Ended
) -> tuple[int, str, str]:
    """A sweep that was submitted from the other checkout, and followed to its end.

    The connection breaks once, in the middle of the log.
    """
    # The user's own Ray address and proxy, where nothing answers, must not be used.
    elsewhere = {"RAY_ADDRESS": "127.0.0.1:9", "PYTHONPATH": str(checkout[0])}
    elsewhere |= dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    port = int(head.rpartition(":")[2])
    with Breaking(port, b"/logs/tail", after=600) as way:
        found = ended(
            *("submit", spec, "--address", f"http://127.0.0.1:{way.port}", "--out", folder),
            **elsewhere,
        )
        assert way.broken == 1, found
    return found


def test_rows_are_the_same_as_in_a_local_run(
    first: tuple[int, str, str], spec: Path, folder: Path, ended: Ended, tmp_path: Path
) -> None:
    assert first[0] == 0, first
    local = ended("run", spec, "--out", tmp_path / "runs", "--executor", "serial")
    assert local[0] == 0, local
    pd.testing.assert_frame_equal(table(folder), table(tmp_path / "runs"))


def test_a_network_of_ones_own_has_the_same_rows_although_its_files_are_gone(
    head: str, own: Path, tmp_path: Path, ended: Ended
) -> None:
    local = ended("run", "own.yaml", "--out", tmp_path / "local", "--executor", "serial")
    assert local[0] == 0, local
    begun = ended(
        *("submit", "own.yaml", "--address", head, "--out", tmp_path / "runs", "--no-wait")
    )
    assert begun[0] == 0, begun
    own.rename(own.with_name("gone"))
    followed = ended("submit", "--follow", _job(begun[1]), "--address", head)
    assert followed[0] == 0, followed
    frame = table(tmp_path / "runs")
    assert set(frame["variant"]) == {"my_net.py:build"}
    assert set(frame["network_options"]) == {'{"depth": 2, "width": 2.0}'}
    assert frame["weights"].notna().all()
    pd.testing.assert_frame_equal(frame, table(tmp_path / "local"), check_exact=True)
    for load in (results.load_history, results.load_channels):
        pd.testing.assert_frame_equal(load(tmp_path / "runs"), load(tmp_path / "local"))


def test_printed_lines_are_the_same_as_in_a_local_run(first: tuple[int, str, str]) -> None:
    lines = first[1].splitlines()
    assert re.fullmatch(r"job submitted-[0-9a-f]{8}: submitted and .*, \d+ kB", lines[0])
    assert lines[1].startswith("submitted: 2 cells, 0 ")
    assert [line[:12] for line in lines[2:5]] == ["[1/3] ok    ", "[2/3] ok    ", "[3/3] ok    "]
    assert lines[-1].startswith("2 of 2 cells ok")
    assert first[2] == ""


def test_the_code_that_submits_is_the_code_that_runs(
    first: tuple[int, str, str], checkout: tuple[Path, str], folder: Path
) -> None:
    assert "2 cells, 0 seen elsewhere" in first[1]
    assert set(results.load(folder)["git_revision"]) == {checkout[1]}


def test_cells_that_are_not_ok_set_the_exit_code(
    first: tuple[int, str, str], head: str, spec: Path, folder: Path, ended: Ended
) -> None:
    worse = "finetune.learning_rate=1e30"
    begun = ended("submit", spec, worse, "--address", head, "--out", folder, "--no-wait")
    assert begun[0] == 0, begun
    job = _job(begun[1])
    assert f"--follow {job}" in begun[1]
    running = ended("submit", "--status", job, "--address", head)
    assert running[0] == 0, running
    assert running[1].startswith((f"{job}: pending", f"{job}: running"))
    followed = ended("submit", "--follow", job, "--address", head)
    assert followed[0] == 1, followed
    assert "0 of 2 cells ok" in followed[1]
    status = ended("submit", "--status", job, "--address", head)
    assert status[0] == 1
    assert "0 of 2 cells ok" in status[1]


def test_bad_input_that_only_the_cluster_can_see_sets_the_exit_code(
    head: str, spec: Path, tmp_path: Path, ended: Ended
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(spec.read_text().replace("source: digits", "source: 'parquet:nowhere'"))
    code, out, _ = ended(
        *("submit", bad, "--address", head, "--out", tmp_path / "runs", "--data", "/no-images")
    )
    assert code == 2, out
    assert "/no-images/nowhere" in out
    code, out, _ = ended(
        *("submit", spec, "--address", head, "--out", tmp_path / "runs"),
        *("--where", "ratio=[0.77]", "--where", "scope=local"),
    )
    assert code == 2, out
    assert "--where ratio=0.77: no cell has it; " in out


def test_a_python_that_the_cluster_lacks_is_reported(
    head: str, spec: Path, tmp_path: Path, ended: Ended
) -> None:
    wrong = ("--out", tmp_path / "runs", "--python", "/no/python")
    code, _, errors = ended("submit", spec, "--address", head, *wrong)
    assert code == 2
    assert "did not start" in errors
    assert "--python" in errors


def test_a_lost_process_is_reported(head: str, spec: Path, tmp_path: Path, ended: Ended) -> None:
    fatal = tmp_path / "python"
    fatal.write_text("#!/bin/sh\necho begun\nkill -KILL $$\n")
    fatal.chmod(0o755)
    code, out, _ = ended(
        *("submit", spec, "--address", head, "--out", tmp_path / "runs", "--python", fatal)
    )
    assert code == 1
    assert out.splitlines()[1] == "begun"
    assert "was lost (exit code -9)" in out


def test_ctrl_c_leaves_the_sweep_running_and_stop_ends_it(
    head: str,
    write_spec: Callable[..., Path],
    tmp_path: Path,
    command: Callable[..., subprocess.Popen[str]],
    ended: Ended,
) -> None:
    ratios = ", ".join(f"{number / 100:g}" for number in range(30, 90))
    path, runs = write_spec("long", ratios=ratios), tmp_path / "runs"
    following = command("submit", path, "--address", head, "--out", runs)
    assert following.stdout is not None
    said = ""
    while "local" not in (line := following.stdout.readline()):
        assert line, following.communicate()
        said += line
    job = _job(said)
    os.killpg(following.pid, signal.SIGINT)
    out, errors = following.communicate()
    assert following.returncode == 130, errors
    assert f"--follow {job} --address {head}" in out
    assert errors == ""
    assert ended("submit", "--status", job, "--address", head)[0] == 0

    stopped = ended("submit", "--stop", job, "--address", head)
    assert stopped[0] == 0, stopped
    assert "finished cells are kept" in stopped[1]
    # As after Ctrl-C on a local run: no lease is left, and every stored cell is intact and ok.
    assert not (runs / "lease.json").exists()
    kept = results.load(runs)
    assert 1 <= len(kept) < 120
    assert set(kept["status"]) == {"ok"}
    code, out, _ = ended("submit", "--follow", job, "--address", head)
    assert code == 130
    assert "interrupted; finished cells are kept" in out
    assert "had already ended" in ended("submit", "--stop", job, "--address", head)[1]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RAY_AUTH_TOKEN": "another"}, "Invalid authentication token"),
        ({"RAY_AUTH_MODE": "disabled"}, "Missing authentication token"),
        ({"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": "/no/token"}, "/no/token"),
    ],
)
def test_without_the_token_nothing_is_submitted(
    head: str, variables: dict[str, str], message: str, ended: Ended
) -> None:
    code, out, errors = ended("submit", "--status", "any", "--address", head, **variables)
    assert code == 2
    assert out == ""
    assert message in errors
    assert "RAY_AUTH_TOKEN_PATH" in errors
    assert len(errors.splitlines()) == 1


def test_a_job_that_does_not_exist_is_reported(head: str, ended: Ended) -> None:
    code, _, errors = ended("submit", "--follow", "nobody", "--address", head)
    assert code == 2
    assert "nobody does not exist" in errors


def _job(said: str) -> str:
    return said.split()[1].rstrip(":")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _end_all(marker: str) -> None:
    """Kills every process that has the marker in its environment."""
    while found := _marked(marker):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pause()


def _marked(marker: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"\0{marker}\0".encode() in b"\0" + path.read_bytes():
                found.append(int(path.parent.name))
    return found
