"""A lease where nothing can be created just once, as in an object store.

Each run writes a claim of its own, `lease/<token>.json`, so no object is written by two. A run
that comes first writes that it is choosing, then reads all claims, takes the next number, writes
it, and waits until no living claim is choosing or has a lower number: Lamport's bakery, 1974,
doi:10.1145/361082.361093. It needs a store whose listings and reads show every earlier write, as
those of S3, Google Cloud Storage and MinIO do.
"""

from __future__ import annotations

import json
import os
import socket
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from results.places import Folder

CLAIMS = "lease"


class Claim:
    """A run's place in the queue for a folder.

    Parameters
    ----------
    lifetime : seconds after which a claim that does not change is dead.
    refresh : seconds after which this one is written again while it waits.
    """

    def __init__(self, folder: Folder, token: str, lifetime: float, refresh: float) -> None:
        self.folder, self.token = folder / CLAIMS, token
        self.lifetime, self.refresh = lifetime, refresh
        self._number: int | None = None
        self._holds = False
        self._beats = 0
        self._written = 0.0
        self._seen: dict[str, tuple[dict[str, Any], float]] = {}

    def blocked_by(self) -> dict[str, Any] | None:
        """Whoever comes first, or None: then the folder is held."""
        if self._number is None or not self.folder.has(self._name):
            self._number = None
            self.folder.make()
            self._write()
            others = self._others().values()
            self._number = 1 + max((_number(other) or 0 for other in others), default=0)
            self._write()
        elif time.monotonic() - self._written > self.refresh:
            self._write()
        before = []
        for name, other in self._others().items():
            if self._dead(name, other):
                self.folder.delete(name)
            elif (number := _number(other)) is None or (number, name) < (self._number, self._name):
                before.append(other)
        if before:
            # A person wants to know who works, rather than who waits as well.
            return max(before, key=lambda other: bool(other.get("holds")))
        self._holds = True
        self._write()
        return None

    def renew(self) -> bool:
        """Shows that this run is alive; False if another has taken over."""
        silent = time.monotonic() - self._written
        if not self.folder.has(self._name):
            return False
        self._write()
        if silent <= self.lifetime / 2:
            return True
        # It may have been set aside between the look and the write, which made it anew.
        if any(other.get("holds") for other in self._others().values()):
            self.release()
            return False
        return True

    def release(self) -> None:
        """Gives the folder to the next."""
        self.folder.delete(self._name)

    @property
    def _name(self) -> str:
        return f"{self.token}.json"

    def _write(self) -> None:
        self._beats += 1
        content = owner(self.token, self._beats) | {"number": self._number, "holds": self._holds}
        self.folder.write(self._name, json.dumps(content).encode())
        self._written = time.monotonic()

    def _others(self) -> dict[str, dict[str, Any]]:
        found = {}
        for entry in self.folder.entries():
            if entry.name == self._name or not entry.name.endswith(".json"):
                continue
            try:
                content = json.loads(self.folder.read(entry.name))
            except FileNotFoundError:
                continue
            except ValueError:
                content = {}
            found[entry.name] = content if isinstance(content, dict) else {}
        return found

    def _dead(self, name: str, other: dict[str, Any]) -> bool:
        content, since = self._seen.setdefault(name, (other, time.monotonic()))
        if content != other:
            self._seen[name] = (other, time.monotonic())
            return False
        return gone(other) or time.monotonic() - since > self.lifetime


def _number(claim: dict[str, Any]) -> int | None:
    number = claim.get("number")
    return number if isinstance(number, int) else None


def owner(token: str, beats: int) -> dict[str, Any]:
    """Who holds or claims a folder, as others read it."""
    return {
        "token": token,
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid": os.getpid(),
        "beats": beats,
    }


def gone(holder: dict[str, Any]) -> bool:
    """Whether the holder ran on this machine and its process is no more."""
    # Machines of different clusters may have one name, so what the kernel drew counts as well.
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
    """Whether this machine has a process of that number, anybody's."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        # It is somebody else's process.
        return True
    except (OSError, OverflowError):
        return False
    return True
