"""The process keeps memory that tensors freed, if the C library supports this."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = 10_240
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
HUGE = _SETTING.read_text() if _SETTING.is_file() else ""
CODE = f"""
import resource, torch
from prune_core.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if {{kept}}:
    assert keep_freed_memory() and keep_freed_memory()
for _ in range(8):
    torch.ones({PAGES}, 1024)
before = faults()
for _ in range(20):
    torch.ones({PAGES}, 1024)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
@pytest.mark.skipif("[always]" in HUGE, reason="the system uses pages of 2 MiB")
def test_large_tensors_reuse_freed_memory():
    assert faults(kept=False) > 10 * PAGES
    assert faults(kept=True) < PAGES


def faults(kept: bool) -> int:
    """Pages of 4 KiB that a process requests for 20 tensors of 40 MiB, one after another."""
    code = CODE.format(kept=kept)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(found.stdout)
