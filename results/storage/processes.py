"""Which process of which machine holds something, and whether that process still runs."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import Any


def owner(token: str, beats: int) -> dict[str, Any]:
    """Who holds a folder or waits for it, as other runs read it."""
    return {
        "token": token,
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid": os.getpid(),
        "beats": beats,
    }


def gone(holder: dict[str, Any]) -> bool:
    """Whether the holder ran on this machine and its process has ended."""
    # Machines of different clusters may share a name, so the kernel's boot id is compared too.
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
    """Whether this machine has a process of that number, whoever owns it."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        # Another user's process.
        return True
    except (OSError, OverflowError):
        return False
    return True
