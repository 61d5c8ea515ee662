"""What can be done with a folder, wherever it is; see `results.storage.locations`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa


class StoreError(OSError):
    """A results folder that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Entry:
    """A file in a folder, with its size in bytes."""

    name: str
    size: int


class Folder(ABC):
    """A folder somewhere. Text of it is its name, which `folder_of` takes, without secrets."""

    @abstractmethod
    def __str__(self) -> str: ...

    @property
    @abstractmethod
    def address(self) -> str:
        """Names the folder to another process on this machine; may hold secrets."""

    @abstractmethod
    def __truediv__(self, name: str) -> Folder:
        """A folder in this one."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of its path."""

    @property
    @abstractmethod
    def parent(self) -> Folder:
        """The folder that it lies in."""

    @abstractmethod
    def absolute(self) -> Folder:
        """The same folder under a name that means it everywhere on its machine."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is such a folder; in an object store, whether anything is in it."""

    @abstractmethod
    def make(self) -> None:
        """Makes the folder and those that it lies in; nothing to do in an object store."""

    @abstractmethod
    def entries(self) -> list[Entry]:
        """What lies directly in the folder, by name; nothing if there is no such folder."""

    @abstractmethod
    def folders(self) -> list[str]:
        """The names of the folders in this one, in order; object stores know no empty ones."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A file's content.

        Raises
        ------
        FileNotFoundError
            If there is none.
        OSError
            If it cannot be read; StoreError if an object store does not answer.
        """

    @abstractmethod
    def open(self, name: str) -> pa.NativeFile:
        """A file to read parts of; raises as `read`."""

    @abstractmethod
    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """Replaces a file so that readers and crashes see the old or the new one, never a part.

        Raises
        ------
        OSError
            If the disk or the store refuses; the old file is then whole.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Removes a file, if there is one."""

    @abstractmethod
    def put(self, name: str, fill: Callable[[Path], None], last: str) -> None:
        """Stores a folder in this one, with the files that `fill` puts into an empty one.

        On a disk it appears at once, and where another process was faster its folder stays. In an
        object store `last` is written after all others, so its presence means that all are there.
        """

    @abstractmethod
    def holds(self, name: str, last: str) -> bool:
        """Whether `put` stored such a folder here; on a disk also if `last` has gone since."""

    @abstractmethod
    def get(self, name: str) -> AbstractContextManager[Path]:
        """The files of a folder in this one, as a folder on this machine while open."""

    @abstractmethod
    def remove(self, name: str, first: str) -> None:
        """Removes a folder in this one with its files, `first` before the others."""
