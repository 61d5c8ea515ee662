"""A lease lets one run at a time write to a results folder.

The holder rewrites its lease every few seconds. If it stops, because it was killed or its machine
was lost, a waiting run takes the lease over. Clocks of different machines are never compared: the
waiting run watches whether the lease still changes.

On a disk the lease is a file that is created atomically. Object stores have no atomic create;
there each run writes a ticket of its own, see `results.storage.lease_queue`.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from results.storage.lease_queue import Ticket
from results.storage.locations import DiskFolder, StoreError, Where, folder_of
from results.storage.processes import gone, owner

LEASE = "lease.json"
HEARTBEAT_SECONDS = 5.0
LIFETIME_SECONDS = 45.0


class LeaseLost(StoreError):
    """Another run has taken over the folder, because this run was silent for too long."""


class Lease:
    """Holds a results folder while open as a context manager; waits while another run holds it.

    Parameters
    ----------
    folder : the results folder, which must exist.
    waiting : called once with the holder in words, before this run begins to wait.
    lifetime : seconds after which a lease that does not change counts as dead.
    """

    def __init__(
        self,
        folder: Where,
        waiting: Callable[[str], None] = lambda _: None,
        lifetime: float = LIFETIME_SECONDS,
    ) -> None:
        self.folder, self.waiting, self.lifetime = folder_of(folder), waiting, lifetime
        self.token = secrets.token_hex(8)
        self.lost = False
        self._heartbeat = min(HEARTBEAT_SECONDS, lifetime / 9)
        self._protocol: _Protocol
        if isinstance(self.folder, DiskFolder):
            self._protocol = _LeaseFile(self.folder.path, self.token, lifetime)
        else:
            self._protocol = Ticket(self.folder, self.token, lifetime, self._heartbeat)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        told = False
        try:
            while (holder := self._protocol.blocked_by()) is not None:
                if not told:
                    self.waiting(f"process {holder.get('pid')} on {holder.get('host')}")
                    told = True
                time.sleep(min(0.5, self._heartbeat))
        except BaseException:
            self._protocol.release()
            raise
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._protocol.release()

    def check(self) -> None:
        """Raises LeaseLost once another run has taken over."""
        if self.lost:
            raise LeaseLost(
                f"another run has taken over {self.folder}, because this run was silent for "
                f"more than {self.lifetime:g} s; that run continues with the missing cells"
            )

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat):
            try:
                if not self._protocol.renew():
                    self.lost = True
                    return
            except OSError:
                continue  # A full or absent disk; the next beat may succeed.


class _Protocol(Protocol):
    def blocked_by(self) -> dict[str, Any] | None:
        """The run that holds the folder; None if it is this run."""

    def renew(self) -> bool:
        """Shows that this run is alive; False if another has taken over."""

    def release(self) -> None:
        """Releases the folder, whether this run holds it or waits for it."""


class _LeaseFile:
    """A lease on a disk: a file that is created atomically."""

    def __init__(self, folder: Path, token: str, lifetime: float) -> None:
        self.path, self.token, self.lifetime = folder / LEASE, token, lifetime
        self._beats = 0
        self._seen: bytes | None = None
        self._since = 0.0

    def blocked_by(self) -> dict[str, Any] | None:
        """See `_Protocol`."""
        while not self._create():
            try:
                found = self.path.read_bytes()
            except FileNotFoundError:
                continue
            if found != self._seen:
                self._seen, self._since = found, time.monotonic()
            holder = _parse(found)
            if not gone(holder) and time.monotonic() - self._since <= self.lifetime:
                return holder
            self._set_aside(found)
        return None

    def renew(self) -> bool:
        """See `_Protocol`."""
        holder = self._owner()
        if holder == self.token:
            self._beats += 1
            DiskFolder(self.path.parent).write(LEASE, self._content())
            return True
        return holder is None and self._create()

    def release(self) -> None:
        """See `_Protocol`."""
        if self._owner() == self.token:
            self.path.unlink(missing_ok=True)

    def _create(self, content: bytes | None = None) -> bool:
        """Creates this run's lease; False if there is a lease already."""
        try:
            # A reader may see the file while it is empty, so an empty lease counts as a lease.
            with self.path.open("xb") as file:
                file.write(content or self._content())
        except FileExistsError:
            return False
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written ({error.strerror or error}); only a folder that "
                "can be written to can be held"
            ) from error
        return True

    def _set_aside(self, dead: bytes) -> None:
        """Removes a dead lease, and only that one."""
        aside = self.path.parent / f".{LEASE}.{self.token}"
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        if (found := aside.read_bytes()) != dead:
            # Another run was faster and holds a live lease: put it back.
            self._create(found)
        aside.unlink()

    def _owner(self) -> str | None:
        try:
            return str(_parse(self.path.read_bytes()).get("token"))
        except FileNotFoundError:
            return None

    def _content(self) -> bytes:
        return json.dumps(owner(self.token, self._beats)).encode()


def _parse(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
