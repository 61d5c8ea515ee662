"""A job runs with the Python of the cluster's Ray, and names what a Python lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import entrypoint
from cluster.bundle import bundle

SCRIPT = Path(entrypoint.__file__).with_name("entrypoint.sh")
# Starts the script as a grandchild of a process with the arguments of a raylet.
RAYLET = 'sh -c "sh $0 run my.yaml --out /runs; exit \\$?"; exit $?'


def python(path: Path) -> Path:
    """A program that prints its path and its arguments."""
    path.parent.mkdir(parents=True)
    path.write_text('#!/bin/sh\necho "$0" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("folder", ["venv/bin", "a b/$HOME/ü/bin", ""])
def test_the_python_of_rays_workers_comes_before_that_of_the_path(
    folder: str, tmp_path: Path
) -> None:
    wanted = other = python(tmp_path / "path" / "python")
    raylet = ["raylet", "--head"]
    if folder:
        wanted = python(tmp_path / folder / "python")
        # This is how Ray writes it.
        command = subprocess.list2cmdline([str(wanted), "/ray/setup_worker.py", "--session=a b"])
        raylet += [f"--python_worker_command={command}", f"--java_worker_command={other} -D"]
    ended = subprocess.run(
        ["sh", "-c", RAYLET.replace("$0", str(SCRIPT)), *raylet],
        env=os.environ | {"PATH": f"{other.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert ended.stderr == ""
    assert ended.stdout == f"{wanted} -m cluster.entrypoint run my.yaml --out /runs\n"


def test_a_python_without_the_packages_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    bundle("digits", tmp_path)
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, "-S", "-m", "cluster.entrypoint", "run", "digits", "--out", "/runs"],
        cwd=tmp_path,
        env=own,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr == ""
    (line,) = ended.stdout.splitlines()
    said, _, remedy = line.partition("; ")
    beginning, _, names = said.partition(" lacks ")
    assert beginning == f"error: the job's Python, {sys.executable},"
    assert {"torch", "ray", "pyarrow", "typer"} <= set(names.split(", "))
    # Packages of extras are not needed.
    assert not {"onnx", "pytest", "prune-sweep"} & set(names.split(", "))
    assert "--python" in remedy


def test_a_python_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert entrypoint.problem() is None
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    found = entrypoint.problem()
    assert found is not None
    assert found.endswith(", not 3.11 or later")
