"""Decoded arrays on disk, so that decoding is done once and processes share the pages.

An entry is a folder `images/<key>/` with four .npy files and meta.json. It is written beside its
place and renamed into it, so that a reader sees a whole entry or none, however many processes
write at once.

On disk an image takes 3 H W bytes and its label 8: 3 KiB at 32 x 32, 147 KiB at 224 x 224, 14 GiB
for 100,000 images of 224 x 224. Neither decoding nor opening an entry needs as much memory. Images
are decoded straight into the files. An opened entry is a memory map: processes share its pages, and
the system takes them back when memory is short. Each process that opens an entry reads it once to
check its fingerprint, which takes about a second per GiB.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_core.images.arrays import Arrays, Copies, Decoded, Undecoded, fingerprint
from prune_core.images.decode import DECODE_VERSION
from prune_core.images.duplicates import with_copies
from prune_core.images.errors import ImagesError
from prune_core.images.shared_cache import SharedCache
from prune_core.images.size import DEFAULT_SIZE, Size

CACHE_VARIABLE = "PRUNE_SWEEP_CACHE"
"""The environment variable that names the cache's folder, or the URI of one to share."""

_IMAGES = ("train_images", "test_images")
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_META = "meta.json"
_PART = 512  # images that are copied at a time
_FILES = (*(f"{name}.npy" for name in _ARRAYS), _META)


def cache_folder(cache: Path | None = None) -> Path:
    """Returns where this machine keeps decoded images.

    That is `cache`, else $PRUNE_SWEEP_CACHE unless it is a URI, else $XDG_CACHE_HOME/prune-sweep,
    else ~/.cache/prune-sweep.
    """
    if cache is not None:
        return cache.expanduser().absolute()
    if (named := os.environ.get(CACHE_VARIABLE)) and "://" not in named:
        return Path(named).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser().absolute() / "prune-sweep"
    return Path.home() / ".cache" / "prune-sweep"


def shared_cache(cache: Path | None = None) -> SharedCache | None:
    """Returns the cache that machines share: $PRUNE_SWEEP_CACHE if it is a URI."""
    named = os.environ.get(CACHE_VARIABLE, "")
    return SharedCache(named) if cache is None and "://" in named else None


def file_states(folder: Path, files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Returns (name, size in bytes, mtime in ns) of each file; a changed one differs.

    The name is relative to the folder, or absolute for a file outside it.
    """
    stats = [(file, file.stat()) for file in files]
    return [
        (
            file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file),
            stat.st_size,
            stat.st_mtime_ns,
        )
        for file, stat in stats
    ]


def entry_folder(cache: Path, identity: object, image_size: Size = DEFAULT_SIZE) -> Path:
    """Returns where the cache keeps the arrays of a source, `identity` being JSON-able."""
    # Entries of 32 x 32 are older than other sizes, and their names have no size.
    sized = [] if image_size == DEFAULT_SIZE else [image_size]
    parts = [DECODE_VERSION, identity, *sized]
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return cache / "images" / hashlib.sha256(text.encode()).hexdigest()[:32]


Read = Callable[[], Arrays | Undecoded]


def cached(
    entry: Path, read: Read, image_size: Size, shared: SharedCache | None = None
) -> tuple[Arrays, str]:
    """Returns the arrays of a cache entry and their fingerprint, calling `read` if it has none.

    An entry that is not here but in `shared` is copied, and one that is in neither is put in both.

    The arrays are memory maps of the entry's files, see `mapped`. A damaged entry is replaced, with
    a warning.

    Parameters
    ----------
    image_size
        Height and width of images that are not decoded yet.

    Raises
    ------
    ImagesError
        The cache's folder cannot be read or written; or whatever `read` raises.
    """
    with _named_errors(entry):
        exists = entry.exists()
    if exists:
        try:
            return _open(entry)
        # Damage shows as almost anything: OSError, EOFError, ValueError, tokenize.TokenError, ...
        except Exception as error:
            warnings.warn(
                f"the cached images in {entry} are damaged ({error}) and are decoded again",
                stacklevel=3,
            )
            _discard(entry)
    # Copying once is worth waiting for, and so is decoding large images.
    waits = shared is not None or image_size != DEFAULT_SIZE
    with _alone(entry) if waits else nullcontext():
        if waits and entry.exists():
            return _open(entry)
        arrays, digest = _fill(entry, read, image_size, shared)
    try:
        return _open(entry)
    except Exception:
        # Another process is exchanging the entry; what was decoded here is as good.
        return arrays, digest


def mapped(file: Path) -> NDArray[Any]:
    """Maps a .npy file; processes share its pages, and writing to the array never reaches the file.

    Linux refuses a map that may be written to if it is larger than the memory of the machine. Then
    the map is read-only.
    """
    try:
        # Copy on write: torch warns of read-only arrays, and "r+" would let one alter the cache.
        return np.load(file, mmap_mode="c", allow_pickle=False)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        return np.load(file, mmap_mode="r", allow_pickle=False)


def _fill(
    entry: Path, read: Read, image_size: Size, shared: SharedCache | None
) -> tuple[Arrays, str]:
    # The folder is made before the images are decoded, so that a cache that cannot be written is
    # told at once.
    with _staging(entry) as staging:
        found = _fetch(entry, staging, shared) if shared else None
        if found is None:
            arrays = read()
            if isinstance(arrays, Undecoded):
                arrays = _decoded(entry, staging, arrays, image_size)
            arrays = with_copies(arrays)
            found = arrays, fingerprint(arrays)
            with _named_errors(entry):
                _write(staging, *found)
            if shared:
                shared.store(entry.name, _FILES, staging)
        with _named_errors(entry):
            _publish(staging, entry)
    return found


def _decoded(entry: Path, staging: Path, undecoded: Undecoded, image_size: Size) -> Arrays:
    """Decodes images into new files of the staging folder."""
    counts = len(undecoded.train_labels), len(undecoded.test_labels)
    with _named_errors(entry):
        train, test = (
            _new_file(staging / f"{name}.npy", (count, 3, *image_size))
            for name, count in zip(_IMAGES, counts, strict=True)
        )
    decoded = undecoded.decode(train, test)
    train_labels, test_labels = undecoded.train_labels, undecoded.test_labels
    validation, skipped = undecoded.validation, 0
    if isinstance(decoded, Decoded):
        kept = decoded.kept_train, decoded.kept_test
        skipped = sum(int((~one).sum()) for one in kept)
        with _named_errors(entry):
            train, test = (
                _without(staging / f"{name}.npy", images, one)
                for name, images, one in zip(_IMAGES, (train, test), kept, strict=True)
            )
        validation = int(kept[0][len(train_labels) - validation :].sum())
        train_labels, test_labels = train_labels[kept[0]], test_labels[kept[1]]
    with _named_errors(entry):
        train.flush()
        test.flush()
    notes = decoded.notes if isinstance(decoded, Decoded) else decoded
    return Arrays(train, train_labels, test, test_labels, notes, validation, skipped)


def _without(file: Path, images: np.memmap, kept: NDArray[np.bool_]) -> np.memmap:
    """The images that are kept, in a new file that replaces the old one."""
    if kept.all():
        return images
    positions = np.flatnonzero(kept)
    new = file.with_name(f"{file.name}.new")
    left = _new_file(new, (len(positions), *images.shape[1:]))
    for start in range(0, len(positions), _PART):
        left[start : start + _PART] = images[positions[start : start + _PART]]
    new.replace(file)
    return left


def _new_file(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """A uint8 array on disk whose space is reserved."""
    array = np.lib.format.open_memmap(file, "w+", np.uint8, shape=shape)
    # Without space for a page that was written to a map, the system would end the process.
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return array


def _fetch(entry: Path, staging: Path, shared: SharedCache) -> tuple[Arrays, str] | None:
    if not shared.fetch(entry.name, _FILES, staging):
        return None
    try:
        return _open(staging)
    except Exception as error:
        warnings.warn(
            f"the images {entry.name} in {shared} are damaged ({error}) and are decoded again",
            stacklevel=5,
        )
        for file in _FILES:
            (staging / file).unlink()
        return None


@contextmanager
def _alone(entry: Path) -> Iterator[None]:
    """Waits until no other process of this machine fills the entry.

    The system lets go of the lock of a process that was killed.
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks copies more than once
        yield
        return
    locks = entry.parent.parent / "locks"
    with _named_errors(entry):
        locks.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(locks / entry.name, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with _named_errors(entry):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(entry: Path) -> tuple[Arrays, str]:
    meta = json.loads((entry / _META).read_text(encoding="utf-8"))
    loaded = [mapped(entry / f"{name}.npy") for name in _ARRAYS]
    notes = tuple(str(note) for note in meta["notes"])
    counts = int(meta["validation"]), int(meta["skipped"]), Copies(**meta["copies"])
    arrays = Arrays(loaded[0], loaded[1], loaded[2], loaded[3], notes, *counts)
    digest = fingerprint(arrays)
    if digest != meta["fingerprint"]:
        raise ValueError(f"its fingerprint is {digest}, not {meta['fingerprint']}")
    return arrays, digest


def _write(staging: Path, arrays: Arrays, digest: str) -> None:
    for name in _ARRAYS:
        path = staging / f"{name}.npy"
        if not path.exists():
            np.save(path, getattr(arrays, name), allow_pickle=False)
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    meta = {
        "classes": arrays.classes,
        "fingerprint": digest,
        "notes": arrays.notes,
        "validation": arrays.validation,
        "skipped": arrays.skipped,
        "copies": asdict(arrays.copies),
        "decode_version": DECODE_VERSION,
    }
    with (staging / _META).open("w", encoding="utf-8") as text:
        json.dump(meta, text, indent=2)
        text.flush()
        os.fsync(text.fileno())
    _sync_folder(staging)


def _publish(staging: Path, entry: Path) -> None:
    try:
        staging.rename(entry)
    except OSError:
        # A folder that is not empty is never replaced: another process was first.
        if not entry.exists():
            raise
    _sync_folder(entry.parent)


@contextmanager
def _staging(entry: Path) -> Iterator[Path]:
    """A folder of this process's own beside the entry; gone afterwards, unless it was renamed."""
    # Not tempfile: its folders are private, and a cache may be shared by a group.
    folder = entry.with_name(f".{entry.name}-{secrets.token_hex(4)}")
    with _named_errors(entry):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _discard(entry: Path) -> None:
    """Takes a damaged entry away in one step; a reader that has it mapped keeps its pages."""
    away = entry.with_name(f".{entry.name}-{secrets.token_hex(4)}")
    with suppress(OSError):  # another process was first, or writing will say what is wrong
        entry.rename(away)
    shutil.rmtree(away, ignore_errors=True)


@contextmanager
def _named_errors(entry: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImagesError(
            f"the image cache {entry.parent} cannot be used ({error.strerror or error}); set "
            f"the environment variable {CACHE_VARIABLE} to a folder that can be written, "
            "with space for the decoded images (3 bytes a pixel: 3 KB for one of 32 x 32)"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where the system can open folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
