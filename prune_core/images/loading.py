"""From the name of a source to its images, through the cache."""

import warnings
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from prune_core.images.arrays import Arrays, Labels, Pixels, Undecoded, check_images
from prune_core.images.cache import cache_folder, cached, entry_folder, shared_cache
from prune_core.images.dataset import Images
from prune_core.images.errors import ImagesError
from prune_core.images.options import split_options
from prune_core.images.size import Size, check_size
from prune_core.images.sources import ClassNames, Location, Source, parse_source
from prune_core.registering import explaining, plugin_identity


def load(
    source: str,
    *,
    image_size: Size | None = None,
    data: Path | None = None,
    cache: Path | None = None,
) -> Images:
    """Loads images, decoding them only if the cache does not hold them at this size.

    The images need not fit into memory: they are decoded into files of the cache and mapped, see
    `prune_core.images.cache`.

    Parameters
    ----------
    source
        One of `SOURCES`: "svhn", "cifar10", "cifar100", "digits", "parquet:FOLDER",
        "folder:PATH", or one that was registered with `image_source`. Options may follow, such as
        "folder:photos?on_error=skip"; see `prune_core.images.options`.
    image_size
        Height and width in pixels, 8 to 1,024 each; None for the source's own size, which is 32 x
        32 unless the source says otherwise. Images of another size are resized bilinearly, with
        antialiasing; their aspect ratio is not kept.
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
    changes neither the cache nor what another process sees. Tensors that are larger than the memory
    of the machine cannot be written to.

    Raises
    ------
    ImagesError
        Whatever is wrong with the source, its size, its files or the cache's folder.
    """
    kind, location = _located(source, image_size, data, cache)
    size = location.image_size
    try:
        with explaining(source, kind.provider, ImagesError):
            origin = kind.find(location)

        def read() -> Arrays | Undecoded:
            with explaining(source, kind.provider, ImagesError):
                found = origin.read()
            if isinstance(found, Arrays):
                check_images(source, found, size)
            return found

        # Another version of a plug-in may decode the same files to other pixels.
        by = plugin_identity(kind.provider)
        identity = [*origin.identity, by] if by else origin.identity
        entry = entry_folder(cache_folder(cache), identity, size)
        arrays, digest = cached(entry, read, size, shared_cache(cache))
    except OSError as error:
        raise ImagesError(f"{source}: {error}; the file must exist and be readable") from error
    check_images(source, arrays, size)
    images, labels = _tensor(arrays.train_images), _tensor(arrays.train_labels)
    held = len(images) - arrays.validation
    return Images(
        name=origin.name,
        source=source,
        train_images=images[:held],
        train_labels=labels[:held],
        test_images=_tensor(arrays.test_images),
        test_labels=_tensor(arrays.test_labels),
        classes=arrays.classes,
        flip_keeps_label=kind.flip_keeps_label,
        fingerprint=digest,
        notes=arrays.notes,
        skipped=arrays.skipped,
        copies=arrays.copies,
        validation_images=images[held:] if arrays.validation else None,
        validation_labels=labels[held:] if arrays.validation else None,
    )


@lru_cache(maxsize=16)
def class_names(source: str, data: Path | None = None) -> ClassNames:
    """The names of a source's classes in the order of their labels; None where none are known.

    Folders of images have the names of their class folders, Parquet files those that their label
    column declares or holds, CIFAR those of its own files if they are there; digits are their
    numbers.

    Parameters
    ----------
    source, data : as for `load`.
    """
    try:
        kind, location = _located(source, None, data, None)
        return kind.find(location).class_names()
    # Names are optional: whatever is wrong with them, the numbers of the classes remain.
    except (ImagesError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _located(
    source: str, image_size: Size | None, data: Path | None, cache: Path | None
) -> tuple[Source, Location]:
    kind, folder = parse_source(source)
    size = kind.image_size if image_size is None else check_size(image_size)
    downloads, options = cache_folder(cache) / "downloads", split_options(source)[1]
    return kind, Location(source, folder, data, downloads, size, options)


def _tensor(array: Pixels | Labels) -> Tensor:
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        # torch warns of arrays that cannot be written to; the docstring of `load` does, too.
        warnings.simplefilter("ignore")
        return torch.from_numpy(array)
