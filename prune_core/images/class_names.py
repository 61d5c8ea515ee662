"""What the classes of a source are called, where the source says so."""

import json
from functools import lru_cache
from pathlib import Path

from prune_core.images.cache import cache_folder
from prune_core.images.errors import ImagesError
from prune_core.images.folder import find_class_names
from prune_core.images.parquet import LABEL_COLUMNS, find_parquet
from prune_core.images.sources import parse_source, resolve_folder
from prune_core.images.torchvision_sets import read_class_names


@lru_cache(maxsize=16)
def class_names(source: str, data: Path | None = None) -> tuple[str, ...] | None:
    """The names of a source's classes in the order of their labels; None where none are known.

    Folders of images have the names of their class folders, Parquet files those that their label
    column declares, CIFAR those of its own files if they are there; digits are their numbers.

    Parameters
    ----------
    source, data : as for `load`.
    """
    try:
        entry, folder = parse_source(source)
        if entry.kind in ("digits", "svhn"):
            return tuple(map(str, range(10)))
        if entry.kind == "folder":
            return find_class_names(resolve_folder(source, folder, data))
        if entry.kind == "parquet":
            return _declared(find_parquet(resolve_folder(source, folder, data)).train[0])
        return read_class_names(entry.kind, data or cache_folder(None) / "downloads")
    # Names are a courtesy: whatever is wrong with them, the numbers of the classes remain.
    except (ImagesError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _declared(file: Path) -> tuple[str, ...] | None:
    """The names that the label column of a file from the Hugging Face hub declares."""
    import pyarrow.parquet as pq

    metadata = pq.read_schema(file).metadata or {}
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    labels = [features[column] for column in LABEL_COLUMNS if column in features]
    names = labels[0]["names"]
    return tuple(names) if names and all(isinstance(name, str) for name in names) else None
