"""Folders by path or URI: on a disk, or under a prefix of an object store.

    runs/digits, ~/runs, /mnt/runs, file:///mnt/runs           a local or network disk
    s3://bucket/prefix?region=eu-west-1                        S3
    s3://bucket/prefix?scheme=http&endpoint_override=host:9000 S3-compatible, such as MinIO
    gs://bucket/prefix                                         Google Cloud Storage
    any other URI that `pyarrow.fs.FileSystem.from_uri` knows

Files are written atomically: on a disk under a temporary name that is then renamed, in an object
store by one request. Credentials come from the environment variables that each store's own tools
use.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from results.storage.disk import DiskFolder
from results.storage.folder import Entry, Folder, StoreError
from results.storage.object_store import RemoteFolder, remote_folder

__all__ = [
    "DiskFolder",
    "Entry",
    "Folder",
    "RemoteFolder",
    "StoreError",
    "Where",
    "file_of",
    "folder_of",
    "is_uri",
]

_MANGLED = ("s3:/", "gs:/", "gcs:/", "abfs:/", "abfss:/", "hdfs:/", "file:/")

Where = str | os.PathLike[str] | Folder


def folder_of(where: Where, filesystem: fs.FileSystem | None = None) -> Folder:
    """The folder of a path or URI.

    Parameters
    ----------
    filesystem : the file system that the path is in; without it, `where` is a URI or a path on
        this machine.

    Raises
    ------
    StoreError
        If the URI cannot be used.
    """
    if isinstance(where, Folder):
        return where
    where = os.fspath(where)
    if filesystem is not None:
        if isinstance(filesystem, fs.LocalFileSystem):
            return DiskFolder(Path(where))
        path = where.rstrip("/")
        return RemoteFolder(filesystem, path, f"{filesystem.type_name}:{path}")
    if "://" not in where:
        # pathlib replaces the two slashes of a URI by one.
        if where.lower().startswith(_MANGLED) and not Path(where).exists():
            raise StoreError(
                f"{where} lacks a slash behind the colon; a pathlib.Path cannot hold a URI, so "
                "give it as text"
            )
        try:
            # A shell leaves the ~ of --out=~/runs, and Python every ~.
            return DiskFolder(Path(where).expanduser())
        except RuntimeError as error:
            raise StoreError(f"{where}: {error}; for a folder of this name, ./{where}") from error
    if not is_uri(where):
        parts = urlsplit(where)
        if parts.netloc not in ("", "localhost"):
            raise StoreError(
                f"{where} names the machine {parts.netloc}; a folder of this machine has three "
                f"slashes: file:///{parts.netloc}{parts.path}"
            )
        return DiskFolder(Path(unquote(parts.path)))
    return remote_folder(where)


def file_of(where: Where, filesystem: fs.FileSystem | None = None) -> tuple[Folder, Entry] | None:
    """The Parquet file that a path or URI names, with its folder; None if it names a folder.

    Raises
    ------
    StoreError
        As `folder_of`.
    """
    named = folder_of(where, filesystem)
    if isinstance(named, DiskFolder):
        path = named.path.absolute()
        if not path.is_file():
            return None
        return DiskFolder(path.parent), Entry(path.name, path.stat().st_size)
    assert isinstance(named, RemoteFolder)
    if not named.name.endswith(".parquet"):
        return None
    info = named.info()
    if info.type != fs.FileType.File:
        raise StoreError(f"there is no file {named}")
    return named.parent, Entry(named.name, info.size)


def is_uri(where: str) -> bool:
    """Whether it is a URI of a folder that is not on a disk of this machine."""
    return "://" in where and urlsplit(where).scheme != "file"
