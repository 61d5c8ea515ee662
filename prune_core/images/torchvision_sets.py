"""SVHN, CIFAR-10 and CIFAR-100 through torchvision.

CIFAR's files are pickles, and unpickling runs whatever they say. torchvision compares every file
with its published md5 before it unpickles one (`CIFAR10._check_integrity`, also without a
download), so that a wrong file is refused first; `_wrong_files` asks the same beforehand, to name
the files.
"""

import http.client
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from torchvision.datasets.utils import check_integrity, download_url, extract_archive

from prune_core.images.arrays import Arrays, check_labels, listed
from prune_core.images.errors import ImagesError
from prune_core.images.sources import ClassNames


@dataclass(frozen=True)
class _File:
    """A file as it must lie under the data folder."""

    path: str
    md5: str


@dataclass(frozen=True)
class _Download:
    """What is fetched: an archive, to be unpacked, or a file itself."""

    url: str
    file: _File
    archive: bool


def read_torchvision(name: str, root: Path) -> Arrays:
    """Reads "svhn", "cifar10" or "cifar100" from `root`, after fetching what is absent there.

    Parameters
    ----------
    name
        One of the three.
    root
        The folder that holds, or will hold, the files as torchvision lays them out. An archive
        that already lies there is unpacked and not fetched again.

    Raises
    ------
    ImagesError
        Files are absent or have a wrong checksum and cannot be fetched.
    """
    if _wrong_files(name, root):
        _fetch(name, root)
    if name == "svhn":
        parts = [_dataset(name)(root, split=split) for split in ("train", "test")]
        images = [np.ascontiguousarray(part.data) for part in parts]
        labels = [part.labels.astype(np.int64) for part in parts]
    else:
        parts = [_dataset(name)(root, train=train) for train in (True, False)]
        images = [np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)) for part in parts]
        labels = [np.array(part.targets, dtype=np.int64) for part in parts]
    check_labels(name, labels[0], labels[1])
    return Arrays(images[0], labels[0], images[1], labels[1])


def read_class_names(name: str, root: Path) -> ClassNames:
    """What the set's own files in `root` call its classes; None if a file is absent or wrong."""
    if _wrong_files(name, root):
        return None
    return tuple(_dataset(name)(root, train=False).classes)


def _dataset(name: str) -> Any:
    """torchvision's class, looked up when used."""
    sets = torchvision.datasets
    return {"svhn": sets.SVHN, "cifar10": sets.CIFAR10, "cifar100": sets.CIFAR100}[name]


def _files(name: str) -> list[_File]:
    """Every file that torchvision will read."""
    dataset = _dataset(name)
    if name == "svhn":
        return [_File(*dataset.split_list[split][1:]) for split in ("train", "test")]
    named = [*dataset.train_list, *dataset.test_list]
    named.append([dataset.meta["filename"], dataset.meta["md5"]])
    return [_File(f"{dataset.base_folder}/{file}", md5) for file, md5 in named]


def _downloads(name: str) -> list[_Download]:
    dataset = _dataset(name)
    if name == "svhn":
        splits = [dataset.split_list[split] for split in ("train", "test")]
        return [_Download(url, _File(file, md5), archive=False) for url, file, md5 in splits]
    return [_Download(dataset.url, _File(dataset.filename, dataset.tgz_md5), archive=True)]


def _wrong_files(name: str, root: Path) -> list[_File]:
    """The files that are absent or have another checksum than the published one."""
    return [file for file in _files(name) if not check_integrity(root / file.path, file.md5)]


def _fetch(name: str, root: Path) -> None:
    """Puts the set's files into `root`.

    They are fetched and unpacked in a folder of this process's own and moved one by one, since
    several processes may want the same set at once and none may read what another half wrote.
    """
    staging = root / f".fetching-{secrets.token_hex(4)}"
    try:
        staging.mkdir(parents=True)
        for download in _downloads(name):
            _fetch_one(download, root, staging)
        for file in _files(name):
            if (staging / file.path).exists():
                (root / file.path).parent.mkdir(exist_ok=True)
                (staging / file.path).replace(root / file.path)
    # RuntimeError: torchvision's, for what arrived with a wrong checksum.
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise ImagesError(_not_fetched(name, root, error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if wrong := _wrong_files(name, root):
        raise ImagesError(
            f"{name}: after unpacking, these files in {root} are absent or have a wrong checksum: "
            f"{listed([file.path for file in wrong])}"
        )


def _fetch_one(download: _Download, root: Path, staging: Path) -> None:
    present = root / download.file.path
    usable = check_integrity(present, download.file.md5)
    if not download.archive:
        if not usable:
            download_url(download.url, staging, download.file.path, download.file.md5)
        return
    if not usable:
        download_url(download.url, staging, download.file.path, download.file.md5)
        present = staging / download.file.path
    extract_archive(os.fspath(present), os.fspath(staging))


def _not_fetched(name: str, root: Path, error: Exception) -> str:
    wrong = _wrong_files(name, root)
    absent = [file.path for file in wrong if not (root / file.path).exists()]
    altered = [file.path for file in wrong if (root / file.path).exists()]
    state = " and ".join(
        f"{what}: {listed(files)}"
        for what, files in (("absent", absent), ("with a wrong checksum", altered))
        if files
    )
    urls = " and ".join(download.url for download in _downloads(name))
    return (
        f"{name}: the files could not be fetched ({error}). In {root}, {state or 'all is there'}. "
        f"Fetch {urls} by hand into that folder, or name another data folder that holds them, or "
        "use a source that needs no network: digits, parquet:FOLDER, folder:PATH"
    )
