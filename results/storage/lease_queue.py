"""A lease for stores without atomic create, such as object stores.

Each run writes a ticket of its own, `lease/<token>.json`, so no object has two writers. A new run
writes that it is choosing, reads all tickets, takes the next number, writes it, and waits until no
live ticket is choosing or has a lower number: Lamport's bakery algorithm, 1974,
doi:10.1145/361082.361093. The store's listings and reads must show every earlier write, as those
of S3, Google Cloud Storage and MinIO do.
"""

from __future__ import annotations

import json
import time
from typing import Any

from results.storage.locations import Folder
from results.storage.processes import gone, owner

TICKETS = "lease"


class Ticket:
    """A run's place in the queue for a folder.

    Parameters
    ----------
    lifetime : seconds after which a ticket that does not change counts as dead.
    refresh : seconds after which this ticket is written again while it waits.
    """

    def __init__(self, folder: Folder, token: str, lifetime: float, refresh: float) -> None:
        self.folder, self.token = folder / TICKETS, token
        self.lifetime, self.refresh = lifetime, refresh
        self._number: int | None = None
        self._holds = False
        self._beats = 0
        self._written = 0.0
        self._seen: dict[str, tuple[dict[str, Any], float]] = {}

    def blocked_by(self) -> dict[str, Any] | None:
        """The run that comes before this one; None if this run holds the folder."""
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
            # Name the run that holds the folder, not another waiting run.
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
        # Another run may have removed the ticket between the check and the write.
        if any(other.get("holds") for other in self._others().values()):
            self.release()
            return False
        return True

    def release(self) -> None:
        """Gives the folder to the next run."""
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


def _number(ticket: dict[str, Any]) -> int | None:
    number = ticket.get("number")
    return number if isinstance(number, int) else None
