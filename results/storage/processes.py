"""Identifies the process that holds a folder, and tells whether it still runs."""

from __future__ import annotations

import os
import socket
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """What identifies this process for others, see `gone`."""
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid_namespace": _pid_namespace(),
        "pid": os.getpid(),
    }


def owner(token: str, beats: int) -> dict[str, Any]:
    """This process, which holds a folder or waits for it, as other runs read it."""
    return {"token": token, **this_process(), "beats": beats}


def gone(holder: dict[str, Any]) -> bool:
    """Whether the holder ran on this machine and its process has certainly ended.

    False if this process cannot tell: the caller then waits for the holder's lifetime, which is
    always safe.
    """
    # Machines of different clusters may share a host name, so compare the kernel's boot id too.
    if holder.get("host") != socket.gethostname() or holder.get("boot") != _boot():
        return False
    # Containers may share both, but each has its own process ids. Earlier versions did not write
    # the namespace, so for their holders nothing is known.
    if _pid_namespace() is None or holder.get("pid_namespace") != _pid_namespace():
        return False
    try:
        return not alive(int(str(holder.get("pid"))))
    except ValueError:
        return False


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@lru_cache(maxsize=1)
def _pid_namespace() -> str | None:
    """Names the set of process ids that this process sees; None if that cannot be told."""
    if sys.platform != "linux":
        return ""  # Only Linux has several sets.
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def alive(pid: int) -> bool:
    """Whether a process with this id runs on this machine, under any user."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        # The process runs, but belongs to another user.
        return True
    except (OSError, OverflowError):
        return False
    return True
