"""The environment of a Ray cluster with a token, and the command that submits to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
TOKEN = "a-token-of-these-tests-and-of-nobody-else"
# The user's own Ray variables and token must not affect the tests.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
    "PATH": f"{BIN}:{os.environ['PATH']}",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_USAGE_STATS_ENABLED": "0",
    "COLUMNS": "200",
}

SPEC = """
name: {name}
datasets: [{{source: digits, train_images: 300, test_images: 60, image_size: 16}}]
network: {{variant: simplenet_310k, width: 0.125}}
recipe: {{epochs: 1, batch_size: 64}}
finetune: {{epochs: {epochs}, batch_size: 64, learning_rate: 0.05}}
controls: {{unpruned: false}}
metrics: [{metrics}]
ratios: [{ratios}]
resources: {{cpus: 1, gpus: 0}}
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment variables of a user who has the clusters' token."""
    return dict(ENVIRONMENT)


@pytest.fixture(scope="session")
def write_spec(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a small spec of real images to a file."""

    def write(name: str, metrics: str = "output_l1", ratios: str = "0.5", epochs: int = 1) -> Path:
        path = tmp_path_factory.mktemp(name) / f"{name}.yaml"
        path.write_text(SPEC.format(name=name, metrics=metrics, ratios=ratios, epochs=epochs))
        return path

    return write


@pytest.fixture(scope="session")
def command() -> Iterator[Start]:
    """Starts `prune-sweep` as a user does, and kills its remaining processes at the end."""
    begun: list[subprocess.Popen[str]] = []

    def start(*words: str | Path, **env: str) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                [BIN / "prune-sweep", *map(str, words)],
                env=ENVIRONMENT | env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                # SIGINT may be ignored if the tests run in the background.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        )
        return begun[-1]

    yield start
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="session")
def ended(command: Start) -> Callable[..., tuple[int, str, str]]:
    """Runs `prune-sweep` to its end; returns exit code, stdout and stderr."""

    def run(*words: str | Path, **env: str) -> tuple[int, str, str]:
        process = command(*words, **env)
        out, errors = process.communicate(timeout=500)
        return process.returncode, out, errors

    return run
