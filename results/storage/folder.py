"""The interface of a folder, on a disk or elsewhere; see `results.storage.locations`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa


class StoreError(OSError):
    """A results folder cannot be used; the message names the folder and the reason."""


@dataclass(frozen=True)
class Entry:
    """A file in a folder, with its size in bytes."""

    name: str
    size: int


class Folder(ABC):
    """A folder. `str` gives a name without secrets, which `folder_of` accepts."""

    @abstractmethod
    def __str__(self) -> str: ...

    @property
    @abstractmethod
    def address(self) -> str:
        """The folder's name for other processes on this machine; may contain secrets."""

    @abstractmethod
    def __truediv__(self, name: str) -> Folder:
        """The subfolder of this name."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of its path."""

    @property
    @abstractmethod
    def parent(self) -> Folder:
        """The folder that contains this one."""

    @abstractmethod
    def absolute(self) -> Folder:
        """The same folder, under a name that does not depend on the working directory."""

    @abstractmethod
    def fixed(self) -> Folder:
        """The same folder, also after the working directory changes; `str` of it stays short."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether the folder exists; in an object store, whether it contains anything."""

    @abstractmethod
    def make(self) -> None:
        """Creates the folder and its parents; does nothing in an object store."""

    @abstractmethod
    def entries(self) -> list[Entry]:
        """The entries directly in the folder, ordered by name; none if there is no such folder."""

    @abstractmethod
    def folders(self, holding: str | None = None) -> list[str]:
        """The names of the subfolders, in order. An object store has no empty folders.

        Parameters
        ----------
        holding : if given, only the subfolders that contain a file of this name.
        """

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether the folder contains this file."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A file's content.

        Raises
        ------
        FileNotFoundError
            If it does not exist.
        OSError
            If it cannot be read; StoreError if an object store does not answer.
        """

    @abstractmethod
    def open(self, name: str) -> pa.NativeFile:
        """Opens a file to read parts of it; raises the same errors as `read`."""

    @abstractmethod
    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """Replaces a file atomically: readers see the old or the new content, even after a crash.

        Raises
        ------
        OSError
            If the disk or the store refuses; the old file is then intact.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Removes a file, if it exists."""

    @abstractmethod
    def delete_if(self, name: str, expected: Callable[[bytes], bool], aside: str) -> bool:
        """Removes a file if it has the expected content; otherwise keeps it.

        On a disk the file is first renamed to `aside`, so that no content is removed unseen, even
        if another process replaces the file meanwhile. A file with other content keeps the name
        `aside`. In an object store the content is read and then removed by a second request: what
        another process writes between the two requests is removed as well.

        Parameters
        ----------
        expected : whether this is the content to remove.
        aside : a new name, under which readers find the file while its content is checked.

        Returns
        -------
        False if the file has other content; True if it was removed or does not exist.
        """

    @abstractmethod
    def put(self, name: str, fill: Callable[[Path], None], last: str) -> None:
        """Stores a subfolder, with the files that `fill` writes into an empty folder.

        On a disk the subfolder appears at once. If another process has stored it first, that one
        is kept. In an object store the file `last` is written after all others: if it exists, all
        files exist.
        """

    @abstractmethod
    def holds(self, name: str, last: str) -> bool:
        """Whether `put` has stored this subfolder; on a disk, even if `last` was deleted since."""

    @abstractmethod
    def get(self, name: str) -> AbstractContextManager[Path]:
        """A subfolder's files as a local folder, for as long as the context is open."""

    @abstractmethod
    def remove(self, name: str, first: str) -> None:
        """Removes a subfolder with its files, `first` before the others."""
