"""What an exception becomes: a status, a message and tracebacks."""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch

from prune_core.training import Diverged
from sweep.execution.failures import diagnosis
from sweep.execution.tracebacks import own_traceback, whole_traceback

MANY = 10**18
"""Elements that no machine has the memory for."""


def raised(act: Callable[[], object]) -> Exception:
    """The exception that this raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        act()
    return caught.value


def raising(problem: Exception, cause: Exception | None = None) -> Callable[[], None]:
    def act() -> None:
        raise problem from cause

    return act


def while_handling(first: Exception, second: Exception) -> Callable[[], None]:
    def act() -> None:
        try:
            raise first
        except Exception:
            raise second  # noqa: B904

    return act


CUBLAS = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
CUDNN_8 = "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"
CUDNN_9 = "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"
OUT_OF_MEMORY: dict[str, Callable[[], object]] = {
    "torch on the CPU": lambda: torch.empty(MANY),
    "NumPy": lambda: np.empty(MANY // 8),
    "Arrow": lambda: pa.allocate_buffer(MANY),
    "Python": lambda: bytearray(MANY),
    "torch on a GPU": raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")),
    "an old torch": raising(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    "outside of torch": raising(torch.AcceleratorError("CUDA error: out of memory")),
    "cuDNN's compiler": raising(RuntimeError("CUDA ran out of memory outside PyTorch's allocator")),
    "cuBLAS": raising(RuntimeError(CUBLAS)),
    "cuDNN 8": raising(RuntimeError(CUDNN_8)),
    "cuDNN 9": raising(RuntimeError(CUDNN_9)),
    "C++": raising(RuntimeError("std::bad_alloc")),
    "the system": raising(OSError(errno.ENOMEM, "Cannot allocate memory")),
    "as a cause": raising(ValueError("no images"), RuntimeError(CUBLAS)),
    "while handling it": while_handling(RuntimeError(CUDNN_9), ValueError("no images")),
}
FAILED: dict[str, Callable[[], object]] = {
    "an overflow": lambda: torch.empty(2**62),
    "shapes": lambda: torch.ones(2) @ torch.ones(3),
    "a message about memory": raising(ValueError("the budget is out of memory words")),
    "a full disk": raising(OSError(errno.ENOSPC, "No space left on device")),
    "cuDNN": raising(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")),
}


@pytest.mark.parametrize("act", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY.keys())
def test_memory_that_ran_out_is_told_whoever_asked_for_it(act):
    assert diagnosis(raised(act)).status == "out_of_memory"


@pytest.mark.parametrize("act", FAILED.values(), ids=FAILED.keys())
def test_other_errors_are_failures(act):
    assert diagnosis(raised(act)).status == "failed"


def test_a_divergence_is_no_failure():
    act = while_handling(RuntimeError(CUDNN_9), Diverged("the loss is nan in epoch 1"))
    found = diagnosis(raised(act))
    assert (found.status, found.error) == ("diverged", "Diverged: the loss is nan in epoch 1")


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("problem", "begins"),
    [
        (Silent(), "Silent: its message cannot be shown ("),
        (MemoryError(), "MemoryError ("),
        (ValueError("a\udcff.png"), "ValueError: a\\udcff.png ("),
        (ValueError("x" * 10_000), "ValueError: xxx"),
    ],
    ids=["no text", "empty", "no UTF-8", "long"],
)
def test_any_message_becomes_one_that_a_row_can_hold(problem, begins):
    found = diagnosis(raised(raising(problem)))
    assert found.error.startswith(begins)
    assert "(test_diagnosis.py:" in found.error
    assert len(found.error) < 2_100
    for text in (found.error, found.own_frames, found.all_frames):
        text.encode()


def through_torch() -> None:
    try:
        torch.nn.Conv2d(3, 4, 3)(torch.ones(1, 2, 8, 8))
    except RuntimeError as error:
        raise ValueError("a layer does not fit") from error


def files(text: str) -> list[str]:
    return [line.split('"')[1] for line in text.splitlines() if line.startswith('  File "')]


def test_the_traceback_has_our_frames_the_innermost_one_and_the_causes():
    problem = raised(through_torch)
    own, whole = own_traceback(problem), whole_traceback(problem)
    # The cause: our frame, and of torch only the innermost. Then our two frames.
    here = "sweep/test_diagnosis.py"
    assert files(own)[0].endswith(here)
    assert files(own)[1] == "torch/nn/modules/conv.py"
    assert [name.endswith(here) for name in files(own)] == [True, False, True, True]
    assert not any(name.startswith("/") for name in files(own))
    for words in (
        "in through_torch\n    torch.nn.Conv2d(3, 4, 3)(torch.ones(1, 2, 8, 8))\n",
        "RuntimeError: ",
        "direct cause of the following exception",
        "in through_torch\n    raise ValueError(",
    ):
        assert words in own
        assert words.splitlines()[0] in whole
    assert own.endswith("ValueError: a layer does not fit")
    assert len(files(whole)) > len(files(own))
    assert all(name.startswith("/") for name in files(whole))


PLUGIN = """
import json


def score(text):
    return json.loads(text)
"""


@pytest.mark.parametrize("registered", [True, False])
def test_an_installed_plug_in_is_ours_and_another_package_is_not(registered, tmp_path, monkeypatch):
    site, module = tmp_path / "site-packages", f"package_{registered}".lower()
    metadata = site / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / f"{module}.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    if registered:
        (metadata / "entry_points.txt").write_text(f"[prune_sweep.metrics]\nmine = {module}\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, module, raising=False)
    score = importlib.import_module(module).score
    found = files(own_traceback(raised(lambda: score("{"))))
    assert (f"{module}.py" in found) == registered
    assert "json/__init__.py" not in found
    assert found[-1] == "json/decoder.py"


def down(steps: int) -> None:
    return up(steps - 1) if steps else through_torch()


def up(steps: int) -> None:
    return down(steps)


def test_a_long_traceback_keeps_its_head_and_its_tail():
    problem = raised(lambda: down(200))
    own = own_traceback(problem)
    assert 3_500 < len(own) <= 4_000
    assert own.startswith("Traceback (most recent call last):\n")
    assert own.endswith("ValueError: a layer does not fit")
    assert "characters left out]" in own
    assert whole_traceback(problem).count(" in up\n") == 200
