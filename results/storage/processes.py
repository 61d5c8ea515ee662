"""Identifies the process that holds a folder, and tells whether it still runs."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import Any


def owner(token: str, beats: int) -> dict[str, Any]:
    """This process, which holds a folder or waits for it, as other runs read it."""
    return {
        "token": token,
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid": os.getpid(),
        "beats": beats,
    }


def gone(holder: dict[str, Any]) -> bool:
    """Whether the holder ran on this machine and its process has ended."""
    # Machines of different clusters may share a host name, so compare the kernel's boot id too.
    if holder.get("host") != socket.gethostname() or holder.get("boot", _boot()) != _boot():
        return False
    try:
        return not alive(int(str(holder["pid"])))
    except (KeyError, ValueError):
        return True


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


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
