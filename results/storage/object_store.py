"""Folders in object stores, where a file is written by one request, and other file systems."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from results.storage.filesystems import connect, patiently, with_path, without_last, without_secrets
from results.storage.folder import Entry, Folder, StoreError

# Here an object appears only when its upload is complete. A rename would copy the object.
_WHOLE_BY_NATURE = ("s3", "gcs")


@dataclass(frozen=True)
class RemoteFolder(Folder):
    """A folder in an object store or another file system.

    Attributes
    ----------
    path : within the file system.
    uri : of the folder. If the caller passed a file system object, a label for messages only.
    """

    filesystem: fs.FileSystem
    path: str
    uri: str

    def __str__(self) -> str:
        return without_secrets(self.uri)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle the URI, not the client: a pickled client loses some of its settings, such as the
        # number of attempts. Each process reads the credentials from its own environment.
        if "://" in self.uri:
            return remote_folder, (self.uri,)
        return RemoteFolder, (self.filesystem, self.path, self.uri)

    @property
    def address(self) -> str:
        """See `Folder`."""
        return self.uri

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(self.filesystem, f"{self.path}/{name}", with_path(self.uri, name))

    @property
    def name(self) -> str:
        """See `Folder`."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> RemoteFolder:
        """See `Folder`."""
        return RemoteFolder(self.filesystem, self.path.rpartition("/")[0], without_last(self.uri))

    def absolute(self) -> RemoteFolder:
        """See `Folder`."""
        return self

    def fixed(self) -> RemoteFolder:
        """See `Folder`."""
        return self

    def exists(self) -> bool:
        """See `Folder`."""
        return self.info().type == fs.FileType.Directory

    def info(self) -> fs.FileInfo:
        """What is at this path: a folder, a file or nothing."""
        with self._named(""):
            return self.filesystem.get_file_info(self.path)

    def make(self) -> None:
        """See `Folder`."""
        if self.filesystem.type_name not in _WHOLE_BY_NATURE:
            with self._named(""):
                self.filesystem.create_dir(self.path, recursive=True)

    def entries(self) -> list[Entry]:
        """See `Folder`."""
        with self._named(""):
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        files = [Entry(one.base_name, one.size) for one in found if one.type == fs.FileType.File]
        return sorted(files, key=lambda entry: entry.name)

    def folders(self, holding: str | None = None) -> list[str]:
        """See `Folder`."""
        below = fs.FileSelector(self.path, allow_not_found=True, recursive=True)
        with self._named(""):
            found = self.filesystem.get_file_info(below)
        # An object store may still list a folder after the last file in it was deleted.
        inside = (one.path[len(self.path) :].strip("/") for one in found if one.is_file)
        split = (path.partition("/") for path in inside if "/" in path)
        return sorted({name for name, _, file in split if holding in (None, file)})

    def has(self, name: str) -> bool:
        """See `Folder`."""
        with self._named(name):
            found = self.filesystem.get_file_info(f"{self.path}/{name}")
        return found.type == fs.FileType.File

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        with self._named(name), self.filesystem.open_input_file(f"{self.path}/{name}") as file:
            return patiently(lambda: file.read_at(file.size(), 0), lambda: self.has(name))

    def open(self, name: str) -> pa.NativeFile:
        """See `Folder`."""
        with self._named(name):
            return self.filesystem.open_input_file(f"{self.path}/{name}")

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """See `Folder`."""
        path = f"{self.path}/{name}"
        with self._named(name):
            if self.filesystem.type_name in _WHOLE_BY_NATURE:
                self._upload(path, content)
                return
            beside = f"{self.path}/.{name}.{secrets.token_hex(4)}"
            try:
                self._upload(beside, content)
                self.filesystem.move(beside, path)
            except BaseException:
                with suppress(OSError):
                    self.filesystem.delete_file(beside)
                raise

    def _upload(self, path: str, content: bytes | pa.Buffer) -> None:
        # One write: closing the stream, even after an error, then stores everything or nothing.
        with self.filesystem.open_output_stream(path) as stream:
            stream.write(content)

    def delete(self, name: str) -> None:
        """See `Folder`."""
        with self._named(name), suppress(FileNotFoundError):
            self.filesystem.delete_file(f"{self.path}/{name}")

    def delete_if(self, name: str, expected: Callable[[bytes], bool], aside: str) -> bool:
        """See `Folder`."""
        try:
            if not expected(self.read(name)):
                return False
        except FileNotFoundError:
            return True
        self.delete(name)
        return True

    def put(self, name: str, fill: Callable[[Path], None], last: str) -> None:
        """See `Folder`."""
        folder = self / name
        folder.make()
        with tempfile.TemporaryDirectory(prefix="prune-sweep-") as copy:
            fill(Path(copy))
            files = sorted(path.name for path in Path(copy).iterdir())
            for file in sorted(files, key=last.__eq__):
                folder.write(file, (Path(copy) / file).read_bytes())

    def holds(self, name: str, last: str) -> bool:
        """See `Folder`."""
        return (self / name).has(last)

    @contextmanager
    def get(self, name: str) -> Iterator[Path]:
        """See `Folder`."""
        folder = self / name
        with tempfile.TemporaryDirectory(prefix="prune-sweep-") as copy:
            for entry in folder.entries():
                (Path(copy) / entry.name).write_bytes(folder.read(entry.name))
            yield Path(copy)

    def remove(self, name: str, first: str) -> None:
        """See `Folder`."""
        folder = self / name
        folder.delete(first)
        for entry in folder.entries():
            folder.delete(entry.name)

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            where = without_secrets(with_path(self.uri, name) if name else self.uri)
            raise StoreError(f"{where} cannot be reached: {error}") from error


def remote_folder(uri: str) -> RemoteFolder:
    """The folder of a URI.

    Raises
    ------
    StoreError
        If the URI cannot be used.
    """
    try:
        filesystem, path = connect(uri)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"{without_secrets(uri)} cannot be used: {error}") from error
    if not path.strip("/"):
        raise StoreError(f"{without_secrets(uri)} must name a bucket or folder")
    return RemoteFolder(filesystem, path.rstrip("/"), uri)
