"""How many CPUs this process may use: fewer than the machine has, in a container or by affinity."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def usable_cpus(root: Path = ROOT) -> int:
    """The CPUs of the machine, limited by the process's affinity and by its control groups.

    `taskset -c 0` sets the affinity, `docker run --cpus 2` the quota of a control group. Of a
    quota, whole CPUs count, and at least one.

    Parameters
    ----------
    root : the folder that holds `proc` and `sys`.
    """
    cpus = os.cpu_count() or 1
    with suppress(AttributeError, OSError):  # not on macOS and Windows
        cpus = len(os.sched_getaffinity(0))
    quota = min(_quotas(root), default=math.inf)
    return max(1, min(cpus, math.floor(min(quota, cpus))))


def _quotas(root: Path) -> Iterator[float]:
    """CPUs that each control group of this process may use, of version 1 or 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mounts, read = [root / "sys/fs/cgroup"], _second
        elif "cpu" in controllers.split(","):
            mounts, read = [root / "sys/fs/cgroup" / name for name in ("cpu", controllers)], _first
        else:
            continue
        # A group is limited by those above it. In a container the path may be that of the host,
        # whose groups are not visible; its own is then at the root.
        inner = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for group in (inner, *inner.parents):
                with suppress(OSError, ValueError, ZeroDivisionError):
                    quota, period = read(mount / group)
                    if quota > 0:
                        yield quota / period


def _second(group: Path) -> tuple[float, float]:
    quota, period = (group / "cpu.max").read_text().split()
    return math.inf if quota == "max" else float(quota), float(period)


def _first(group: Path) -> tuple[float, float]:
    quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return float(quota), float(period)
