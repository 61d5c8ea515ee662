"""The hardware and software of a measurement, in one line."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

# Instruction sets for fast matrix products, by their names in Linux.
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
}


def describe(device: torch.device) -> str:
    """The GPU, the processor and its instruction sets, the version of torch, and its threads."""
    words = [f"{processor()}, {cores()} cores", _instructions(cpuinfo("flags").split())]
    threads = torch.get_num_threads()
    words += [f"torch {torch.__version__}", f"{threads} thread{'s' if threads > 1 else ''}"]
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        gpu = f"{found.name} ({found.total_memory / 1024**3:.0f} GiB, CUDA {torch.version.cuda})"
        words.insert(0, gpu)
    return "; ".join(words)


def processor() -> str:
    """The processor's name in the system, with the numbers that identify its generation."""
    name = cpuinfo("model name") or platform.processor() or platform.machine()
    family, model = cpuinfo("cpu family"), cpuinfo("model")
    return f"{name} (family {family}, model {model})" if family and model else name


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpuinfo(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo; empty if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    named = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in named if name.strip() == field), "")


def _instructions(flags: list[str]) -> str:
    if not flags:
        return "instruction sets unknown"
    present = [name for flag, name in INSTRUCTIONS.items() if flag in flags]
    absent = [name for flag, name in INSTRUCTIONS.items() if flag not in flags]
    return ", ".join(present) + (f"; no {' and no '.join(absent)}" if absent else "")
