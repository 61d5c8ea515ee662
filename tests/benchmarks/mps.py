"""CUDA's Multi-Process Service, with which processes compute on one GPU at the same time.

Without it, a GPU computes for one process at a time and switches between them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "nvidia-cuda-mps-control"
MOST_SECONDS = 60
_PROBE = "import torch; torch.ones(8, device='cuda').sum().item()"


class NoService(RuntimeError):
    """The service cannot be used here; the message says why."""


@contextmanager
def service() -> Iterator[None]:
    """Processes that are started in the block share the GPU by a service of their own.

    Its pipes and logs lie in a temporary folder, and no setting of the GPU is changed. It is
    stopped at the end of the block.

    Raises
    ------
    NoService
        If its program is not on this machine, or a process cannot compute with it.
    """
    if shutil.which(PROGRAM) is None:
        raise NoService(f"{PROGRAM} is not on this machine")
    # The path of a socket may have about 100 characters, so the folder is not in $TMPDIR.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="mps") as folder:
        own = {
            "CUDA_MPS_PIPE_DIRECTORY": str(Path(folder) / "pipe"),
            "CUDA_MPS_LOG_DIRECTORY": str(Path(folder) / "log"),
        }
        for path in own.values():
            Path(path).mkdir()
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            _call([PROGRAM, "-d"])
            try:
                _call([sys.executable, "-c", _PROBE])
                yield
            finally:
                _call([PROGRAM], "quit\n")
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _call(command: list[str], text: str = "") -> None:
    try:
        ended = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise NoService(f"{Path(command[0]).name} did not end in {MOST_SECONDS} s") from None
    if ended.returncode != 0:
        last = (ended.stderr or ended.stdout).strip().splitlines()[-1:]
        raise NoService(f"{Path(command[0]).name}: {' '.join(last) or ended.returncode}")
