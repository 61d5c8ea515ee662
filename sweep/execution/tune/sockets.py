"""The folder in which a local Ray keeps its sockets: short, and writable by this user."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sweep.errors import ClusterError

# What Ray appends to the folder; a process id has at most 7 digits.
_SOCKET = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
LONGEST = (107 if sys.platform == "linux" else 103) - len(_SOCKET)
"""The most bytes that the folder's path may have: the system limits the path of a socket."""


def folder_for_sockets() -> Path:
    """Ray's own default folder, or `/tmp/ray-UID` if its path is too long or it is not writable.

    Raises
    ------
    ClusterError
        If neither can be used; it names both and what to set.
    """
    # Ray reads the same variables.
    system = os.environ.get("TMPDIR", "/tmp") if sys.platform == "linux" else "/tmp"
    default = Path(os.environ.get("RAY_TMPDIR", system), "ray").absolute()
    own = Path(f"/tmp/ray-{os.getuid()}")
    problems = {default: _problem(default), own: _problem(own) or _stranger(own)}
    for folder, problem in problems.items():
        if problem is None:
            return folder
    listed = "; ".join(f"{folder}: {problem}" for folder, problem in problems.items())
    raise ClusterError(
        f"there is no folder for its sockets ({listed}); set RAY_TMPDIR to a folder of at most "
        f"{LONGEST - len('/ray')} bytes in which you can write"
    )


def _problem(folder: Path) -> str | None:
    if (length := len(os.fsencode(folder))) > LONGEST:
        return f"{length} bytes, more than {LONGEST}"
    there = folder
    while not os.access(there, os.F_OK):
        there = there.parent
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return f"you cannot write to {there}"
    return None


def _stranger(folder: Path) -> str | None:
    # Ray opens its folder to all users, which a link of another user could turn on any folder.
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.getuid()):
        return "it is a link, or belongs to another user"
    return None
