"""Folders on a local or network disk. A file is written under a temporary name, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from results.storage.folder import Entry, Folder


@dataclass(frozen=True)
class DiskFolder(Folder):
    """A folder on a local or network disk.

    Attributes
    ----------
    short : whether its name begins at the current folder, if the path is below it.
    """

    path: Path
    short: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        if self.short and self.path.is_relative_to(here := Path.cwd()):
            return str(self.path.relative_to(here))
        return str(self.path)

    @property
    def address(self) -> str:
        """See `Folder`."""
        return str(self.path.absolute())

    def __truediv__(self, name: str) -> DiskFolder:
        return replace(self, path=self.path / name)

    @property
    def name(self) -> str:
        """See `Folder`."""
        return self.path.name

    @property
    def parent(self) -> DiskFolder:
        """See `Folder`."""
        return replace(self, path=self.path.parent)

    def absolute(self) -> DiskFolder:
        """See `Folder`."""
        return DiskFolder(self.path.resolve())

    def fixed(self) -> DiskFolder:
        """See `Folder`."""
        relative = not self.path.is_absolute()
        return DiskFolder(self.path.absolute(), short=True) if relative else self

    def exists(self) -> bool:
        """See `Folder`."""
        return self.path.is_dir()

    def make(self) -> None:
        """See `Folder`."""
        self.path.mkdir(parents=True, exist_ok=True)

    def entries(self) -> list[Entry]:
        """See `Folder`."""
        found = []
        try:
            with os.scandir(self.path) as scan:
                for entry in scan:
                    size = 0
                    with suppress(OSError):
                        size = entry.stat().st_size
                    found.append(Entry(entry.name, size))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(found, key=lambda entry: entry.name)

    def folders(self, holding: str | None = None) -> list[str]:
        """See `Folder`."""
        try:
            found = [
                path.name
                for path in self.path.iterdir()
                if (path.is_dir() if holding is None else (path / holding).is_file())
            ]
        except (FileNotFoundError, NotADirectoryError):
            return []
        # Skip folders that `put` is still filling: their names begin with a dot.
        return sorted(name for name in found if not name.startswith("."))

    def has(self, name: str) -> bool:
        """See `Folder`."""
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        return (self.path / name).read_bytes()

    def open(self, name: str) -> pa.NativeFile:
        """See `Folder`."""
        return pa.OSFile(str(self.path / name), "rb")

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """See `Folder`."""
        # Readers ignore this name: it begins with a dot and does not end in .parquet.
        beside = self.path / f".{name}.{secrets.token_hex(4)}"
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path / name)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        _sync(self.path)

    def delete(self, name: str) -> None:
        """See `Folder`."""
        (self.path / name).unlink(missing_ok=True)

    def delete_if(self, name: str, expected: Callable[[bytes], bool], aside: str) -> bool:
        """See `Folder`."""
        try:
            (self.path / name).rename(self.path / aside)
        except FileNotFoundError:
            return True
        if not expected(self.read(aside)):
            return False
        self.delete(aside)
        return True

    def put(self, name: str, fill: Callable[[Path], None], last: str) -> None:
        """See `Folder`."""
        beside = self.path / f".{name}.{secrets.token_hex(4)}"
        try:
            beside.mkdir(parents=True)
            fill(beside)
            for path in beside.iterdir():
                _sync(path)
            try:
                beside.rename(self.path / name)
            except OSError:
                if not (self.path / name).exists():
                    raise
            _sync(self.path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def holds(self, name: str, last: str) -> bool:
        """See `Folder`."""
        return (self.path / name).exists()

    @contextmanager
    def get(self, name: str) -> Iterator[Path]:
        """See `Folder`."""
        yield self.path / name

    def remove(self, name: str, first: str) -> None:
        """See `Folder`."""
        shutil.rmtree(self.path / name, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flushes a file's content, or the list of names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
