"""A small sweep on real images: its undisturbed result, and a way to start disturbed runs."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from faults.disturbance import COMMAND, SPEC, Sweep, run, table


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "faults.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="session")
def done(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a run that nothing disturbs; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("undisturbed") / "runs"
    ended = run(folder, spec)
    assert ended.exit_code == 0, ended.output
    return folder


@pytest.fixture(scope="session")
def undisturbed(done: Path) -> pd.DataFrame:
    """The table of a run that nothing disturbs."""
    return table(done)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    """Starts runs, and kills their remaining processes at the end of the test."""
    begun: list[Sweep] = []

    def begin(spec: Path, *words: str, folder: Path = tmp_path / "runs", **env: str) -> Sweep:
        process = subprocess.Popen(
            [*COMMAND, "run", str(spec), "--out", str(folder), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | env,
        )
        begun.append(Sweep(folder, process))
        return begun[-1]

    yield begin
    for sweep in begun:
        for pid in [*sweep.family(), sweep.process.pid]:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        sweep.process.communicate()


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random moments and targets, the same in every run of a test."""
    return random.Random(request.node.name)
