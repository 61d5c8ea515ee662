"""From the name of a source to its images, through the cache."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from prune_core.images.arrays import Arrays
from prune_core.images.cache import (
    cache_folder,
    cached,
    entry_folder,
    file_states,
    shared_cache,
)
from prune_core.images.dataset import Images
from prune_core.images.digits import read_digits
from prune_core.images.errors import ImagesError
from prune_core.images.folder import find_class_folders, read_class_folders
from prune_core.images.parquet import find_parquet, read_parquet
from prune_core.images.sources import parse_source, resolve_folder
from prune_core.images.torchvision_sets import read_torchvision


def load(source: str, *, data: Path | None = None, cache: Path | None = None) -> Images:
    """Loads images, decoding them only if the cache does not hold them.

    Parameters
    ----------
    source
        One of `SOURCES`: "svhn", "cifar10", "cifar100", "digits", "parquet:FOLDER" or
        "folder:PATH".
    data
        Where a relative FOLDER or PATH begins (default: the current directory), and where the
        files of svhn, cifar10 and cifar100 lie or are fetched to (default: `cache`/downloads).
    cache
        Where decoded arrays are kept; default: $PRUNE_SWEEP_CACHE, else
        $XDG_CACHE_HOME/prune-sweep, else ~/.cache/prune-sweep. If $PRUNE_SWEEP_CACHE is a URI, such
        as s3://bucket/images or file:///mnt/shared/images, it is a cache that machines share: each
        copies from there, once, what it needs into its own.

    Returns
    -------
    Images, whose tensors are memory maps shared by the processes of a machine; writing to them
    changes neither the cache nor what another process sees.

    Raises
    ------
    ImagesError
        Whatever is wrong with the source, its files or the cache's folder.
    """
    entry, folder = parse_source(source)
    store = cache_folder(cache)
    try:
        if entry.takes_folder:
            path = resolve_folder(source, folder, data)
            name = path.name or str(path)
            origin = _own_files(entry.kind, path)
        else:
            name = entry.kind
            origin = _Origin([name], partial(_read_named, name, data, store))
        arrays, digest = cached(
            entry_folder(store, origin.identity), origin.read, shared_cache(cache)
        )
    except OSError as error:
        raise ImagesError(f"{source}: {error}; the file must exist and be readable") from error
    return Images(
        name=name,
        source=source,
        train_images=torch.from_numpy(arrays.train_images),
        train_labels=torch.from_numpy(arrays.train_labels),
        test_images=torch.from_numpy(arrays.test_images),
        test_labels=torch.from_numpy(arrays.test_labels),
        classes=arrays.classes,
        flip_keeps_label=entry.flip_keeps_label,
        fingerprint=digest,
        notes=arrays.notes,
    )


@dataclass(frozen=True)
class _Origin:
    """Where arrays come from: what the cache's key is made of, and how to read them."""

    identity: list[Any]
    read: Callable[[], Arrays]


def _read_named(name: str, data: Path | None, store: Path) -> Arrays:
    if name == "digits":
        return read_digits()
    root = store / "downloads" if data is None else data.expanduser().absolute()
    return read_torchvision(name, root)


def _own_files(kind: str, folder: Path) -> _Origin:
    """The user's own files; one that changed makes another identity."""
    if kind == "parquet":
        parquet = find_parquet(folder)
        states = file_states(folder, parquet.files)
        return _Origin([kind, str(folder), states], partial(read_parquet, parquet))
    classes = find_class_folders(folder)
    states = file_states(folder, classes.files)
    return _Origin([kind, str(folder), states], partial(read_class_folders, classes))
