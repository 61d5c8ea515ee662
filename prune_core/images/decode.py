"""Encoded images (JPEG, PNG, ...) to uint8 [N, 3, H, W]."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from prune_core.cpus import usable_cpus
from prune_core.images.arrays import (
    Arrays,
    Decoded,
    Labels,
    Pixels,
    Undecoded,
    check_labels,
    listed,
)
from prune_core.images.changes import Changes, Unreadable, change_notes, left_out, refused
from prune_core.images.errors import ImagesError
from prune_core.images.options import LARGEST_BITS, NO_OPTIONS, Options
from prune_core.images.pixels import decode_image, resize
from prune_core.images.size import Size

DECODE_VERSION = 3
"""Part of the cache's keys: raise it when the same files would give other arrays or counts."""

_CHUNK = 64  # images a task: large enough to hide the cost of a task, small enough to share out
_SMALL = 8192  # bytes


class _DiskFailed(ImagesError):
    """A file that is there and could not be read."""


@dataclass(frozen=True)
class Encoded:
    """One encoded image and where it stands, for messages.

    `row` counts from 0 within `file`; it is None where the file is the image, and `content` is
    then read when it is decoded. `problem` says why there is no content, such as a null.
    """

    file: Path
    row: int | None = None
    content: bytes | None = None
    problem: str | None = None

    @property
    def place(self) -> str:
        """The file, and the row in it."""
        return str(self.file) if self.row is None else f"{self.file}, row {self.row} (from 0)"


@dataclass(frozen=True)
class EncodedPart:
    """The encoded images of a training or test set, in batches, and their labels int64 [N]."""

    labels: Labels
    batches: Iterable[Sequence[Encoded]]


def decode_parts(
    where: str,
    train: EncodedPart,
    test: EncodedPart,
    notes: tuple[str, ...] = (),
    *,
    validation: int = 0,
    options: Options = NO_OPTIONS,
) -> Undecoded:
    """Checks the labels of both parts; their images are decoded when the cache asks for them.

    Parameters
    ----------
    where
        How messages name the source, such as its folder.
    notes
        What is to be said of the source already; changes to the images are added.
    validation
        How many images of `train`, the last ones, are validation images.

    Raises
    ------
    ImagesError
        Labels that are not 0..K-1; and later images that cannot be read: up to 20 are named, and
        all are counted. With the option on_error=skip they are left out, and it is an error only
        if a class or a part has none left.
    """
    held = len(train.labels) - validation
    check_labels(where, train.labels[:held], test.labels)

    def decode(train_images: Pixels, test_images: Pixels) -> tuple[str, ...] | Decoded:
        changes = decode_into(train.batches, train_images, options.bits)
        of_test = decode_into(test.batches, test_images, options.bits)
        kept = [np.ones(len(images), dtype=np.bool_) for images in (train_images, test_images)]
        for mask, one in zip(kept, (changes, of_test), strict=True):
            mask[[bad.position for bad in one.unreadable]] = False
        changes.add(of_test)
        said = notes + change_notes(changes, _size_of(train_images), options.bits)
        if not (bad := changes.unreadable):
            return said
        total = len(train_images) + len(test_images)
        if options.on_error == "raise":
            raise refused(bad, total)
        _check_left(where, train.labels[:held], kept[0][:held], test.labels[kept[1]])
        return Decoded((*said, left_out(bad, total)), *kept)

    return Undecoded(train.labels, test.labels, decode, validation)


def _check_left(where: str, labels: Labels, kept: "np.ndarray", test: Labels) -> None:
    """A class without a readable image would silently be another task."""
    lost = np.setdiff1d(labels, labels[kept])
    if len(lost):
        raise ImagesError(
            f"{where}: no training image of class {listed(lost.tolist())} (counted from 0) can be "
            "read; replace these files"
        )
    if len(test) == 0:
        raise ImagesError(f"{where}: no test image can be read; replace these files")


def decode_into(
    batches: Iterable[Sequence[Encoded]], images: Pixels, bits: int = LARGEST_BITS
) -> Changes:
    """Decodes images in order into an array, holding the encoded bytes of one batch at a time.

    Parameters
    ----------
    images
        uint8 [N, 3, H, W]. Images of another size are resized to H x W. One that cannot be read
        becomes 0.
    bits
        That the values of 16-bit grey images fill.

    Returns
    -------
    What was changed, and which images could not be read.
    """
    changes = Changes()
    done = 0
    with _decoders() as pool:
        for batch in batches:
            if done + len(batch) > len(images):
                done += len(batch)
                break
            starts = range(0, len(batch), _CHUNK)
            chunks = [batch[start : start + _CHUNK] for start in starts]
            targets = [images[done + start : done + start + _CHUNK] for start in starts]
            spread = pool.map if _is_worth_threads(batch, images) else map
            decoded = spread(partial(_decode_chunk, bits=bits), chunks, targets)
            for start, changed in zip(starts, decoded, strict=True):
                changes.add(changed, done + start)
            done += len(batch)
    if done != len(images):
        raise ImagesError(
            f"{len(images):,} labels but {done:,} images: the files changed while read"
        )
    return changes


def resized(arrays: Arrays, image_size: Size) -> Arrays | Undecoded:
    """The same images at another size, for a source whose files are all of one size.

    They are resized like files, but not before the cache asks for them, so that only the images of
    the source's own size need to fit into memory.
    """
    if _size_of(arrays.train_images) == _size_of(arrays.test_images) == image_size:
        return arrays

    def decode(train_images: Pixels, test_images: Pixels) -> tuple[str, ...]:
        resize_into(arrays.train_images, train_images)
        resize_into(arrays.test_images, test_images)
        count = len(train_images) + len(test_images)
        return arrays.notes + change_notes(Changes(Counter(resized=count)), image_size)

    return Undecoded(arrays.train_labels, arrays.test_labels, decode, arrays.validation)


def resize_into(source: Pixels, images: Pixels) -> None:
    """Resizes images uint8 [N, 3, h, w] into an array uint8 [N, 3, H, W]."""
    starts = range(0, len(source), _CHUNK)
    parts = ([array[start : start + _CHUNK] for start in starts] for array in (source, images))
    with _decoders() as pool:
        for _ in pool.map(_resize_chunk, *parts):
            pass


def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=min(8, usable_cpus()))


def _size_of(images: Pixels) -> Size:
    _, _, height, width = images.shape
    return height, width


def _is_worth_threads(batch: Sequence[Encoded], images: Pixels) -> bool:
    """False for small images in memory: there the threads only wait for the interpreter's lock.

    Measured with 2 cores: 32x32 JPEGs take 1.2 to 1.8 times as long with threads, 400x300 ones
    about 0.6 times. Files always have threads, which read while others decode.
    """
    if 3 * images.shape[2] * images.shape[3] > _SMALL:
        return True
    return any(encoded.content is None or len(encoded.content) > _SMALL for encoded in batch)


def _decode_chunk(chunk: Sequence[Encoded], target: Pixels, bits: int) -> Changes:
    """Fills `target` [len(chunk), 3, H, W] in place, so that no second copy is ever held."""
    changes = Changes()
    for position, encoded in enumerate(chunk):
        try:
            pixels, changed = decode_image(_content(encoded), _size_of(target), bits)
        except (MemoryError, _DiskFailed):
            raise
        # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more.
        except Exception as error:
            target[position] = 0
            reason = encoded.problem or f"not a readable image ({error})"
            changes.unreadable.append(Unreadable(position, encoded.place, reason))
            continue
        target[position] = pixels.transpose(2, 0, 1)
        changes.add(changed)
    return changes


def _content(encoded: Encoded) -> bytes:
    """The encoded bytes of an image.

    A disk or network that fails is an error of its own: else on_error=skip would leave out images
    that are there.
    """
    if encoded.problem is not None:
        raise ValueError(encoded.problem)
    if encoded.content is not None:
        return encoded.content
    try:
        return encoded.file.read_bytes()
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise ValueError(error.strerror) from error
    except OSError as error:
        raise _DiskFailed(f"{encoded.place}: cannot be read ({error}); try again") from error


def _resize_chunk(source: Pixels, target: Pixels) -> None:
    from PIL import Image

    for pixels, place in zip(source, target, strict=True):
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        place[:] = np.asarray(resize(image, place.shape[1:])).transpose(2, 0, 1)
