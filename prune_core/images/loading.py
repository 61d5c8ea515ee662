"""From the name of a source to its images, through the cache."""

from functools import lru_cache
from pathlib import Path

import torch

from prune_core.images.cache import cache_folder, cached, entry_folder, shared_cache
from prune_core.images.dataset import Images
from prune_core.images.errors import ImagesError
from prune_core.images.sources import ClassNames, Location, Source, parse_source


def load(source: str, *, data: Path | None = None, cache: Path | None = None) -> Images:
    """Loads images, decoding them only if the cache does not hold them.

    Parameters
    ----------
    source
        One of `SOURCES`: "svhn", "cifar10", "cifar100", "digits", "parquet:FOLDER",
        "folder:PATH", or one that was registered with `image_source`.
    data
        Where a relative FOLDER or PATH begins (default: the current directory), and where the
        files of svhn, cifar10 and cifar100 lie or are fetched to (default: `cache`/downloads).
    cache
        Where decoded arrays are kept; default: $PRUNE_SWEEP_CACHE, else
        $XDG_CACHE_HOME/prune-sweep, else ~/.cache/prune-sweep. If $PRUNE_SWEEP_CACHE is a URI, such
        as s3://bucket/images or file:///mnt/shared/images, it is a cache that machines share: each
        machine copies what it needs from there, once, into its own cache.

    Returns
    -------
    Images, whose tensors are memory maps shared by the processes of a machine; writing to them
    changes neither the cache nor what another process sees.

    Raises
    ------
    ImagesError
        Whatever is wrong with the source, its files or the cache's folder.
    """
    kind, location = _located(source, data, cache)
    store = cache_folder(cache)
    try:
        origin = kind.find(location)
        arrays, digest = cached(
            entry_folder(store, origin.identity), origin.read, shared_cache(cache)
        )
    except OSError as error:
        raise ImagesError(f"{source}: {error}; the file must exist and be readable") from error
    return Images(
        name=origin.name,
        source=source,
        train_images=torch.from_numpy(arrays.train_images),
        train_labels=torch.from_numpy(arrays.train_labels),
        test_images=torch.from_numpy(arrays.test_images),
        test_labels=torch.from_numpy(arrays.test_labels),
        classes=arrays.classes,
        flip_keeps_label=kind.flip_keeps_label,
        fingerprint=digest,
        notes=arrays.notes,
    )


@lru_cache(maxsize=16)
def class_names(source: str, data: Path | None = None) -> ClassNames:
    """The names of a source's classes in the order of their labels; None where none are known.

    Folders of images have the names of their class folders, Parquet files those that their label
    column declares, CIFAR those of its own files if they are there; digits are their numbers.

    Parameters
    ----------
    source, data : as for `load`.
    """
    try:
        kind, location = _located(source, data, None)
        return kind.find(location).class_names()
    # Names are optional: whatever is wrong with them, the numbers of the classes remain.
    except (ImagesError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _located(source: str, data: Path | None, cache: Path | None) -> tuple[Source, Location]:
    kind, folder = parse_source(source)
    return kind, Location(source, folder, data, cache_folder(cache) / "downloads")
