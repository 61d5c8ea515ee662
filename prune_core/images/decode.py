"""Encoded images (JPEG, PNG, ...) to uint8 [N, 3, H, W]."""

import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_core.images.arrays import (
    Arrays,
    Decoded,
    Labels,
    Pixels,
    Undecoded,
    check_labels,
    listed,
    several,
)
from prune_core.images.errors import ImagesError
from prune_core.images.options import LARGEST_BITS, NO_OPTIONS, SMALLEST_BITS, Options
from prune_core.images.size import DEFAULT_SIZE, Size

if TYPE_CHECKING:
    from PIL import Image

DECODE_VERSION = 2
"""Part of the cache's keys: raise it when the same files would give other arrays."""

_CHUNK = 64  # images a task: large enough to hide the cost of a task, small enough to share out
_SMALL = 8192  # bytes
_LISTED = 20  # images that cannot be read, by name

_CHANGES = {
    "turned": "turned upright by the EXIF orientation",
    "resized": (
        "of another size: resized to {0} x {1} (bilinear, antialiased, aspect ratio not kept)"
    ),
    "grey": "in grey scale: the one channel repeated for red, green and blue",
    "palette": "with a palette: converted to RGB",
    "alpha": "with transparency: the alpha channel dropped, the colours under it kept",
    "sixteen_bit": "with 16 bits a pixel: the high 8 bits kept",
    "sixteen_bit_colour": "with 16 bits a colour: the high 8 bits kept",
    "colour_space": "in another colour space, such as CMYK: converted to RGB",
}


_ORIENTATION = 0x0112
# Values of PIL.Image.Transpose, which is imported when used.
_TURNS: dict[int, Any] = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


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
class Unreadable:
    """An image that cannot be read: its position among all of its part, its place and why."""

    position: int
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass
class Changes:
    """What decoding changed.

    Attributes
    ----------
    counts
        How many images needed which change.
    sixteen_bit_range
        The smallest and the largest value of 16-bit grey images; None if there are none.
    unreadable
        Images that could not be read; their pixels are 0.
    """

    counts: Counter[str] = field(default_factory=Counter)
    sixteen_bit_range: tuple[int, int] | None = None
    unreadable: list[Unreadable] = field(default_factory=list)

    def add(self, other: "Changes", offset: int = 0) -> None:
        """Adds the changes of images that begin at position `offset`."""
        self.counts += other.counts
        ranges = [one for one in (self.sixteen_bit_range, other.sixteen_bit_range) if one]
        if ranges:
            self.sixteen_bit_range = min(low for low, _ in ranges), max(high for _, high in ranges)
        self.unreadable += [
            replace(one, position=one.position + offset) for one in other.unreadable
        ]


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
        said = notes + change_notes(changes, _size_of(train_images))
        if not (bad := changes.unreadable):
            return said
        total = len(train_images) + len(test_images)
        if options.on_error == "raise":
            raise ImagesError(_refused(bad, total))
        _check_left(where, train.labels[:held], kept[0][:held], test.labels[kept[1]])
        skipped = (
            f"{len(bad):,} of {several(total, 'image')} cannot be read and "
            f"{'is' if len(bad) == 1 else 'are'} left out (on_error: skip): "
            f"{'; '.join(map(str, bad[:_LISTED]))}{_and_more(bad)}"
        )
        return Decoded((*said, skipped), *kept)

    return Undecoded(train.labels, test.labels, decode, validation)


def _refused(bad: Sequence[Unreadable], total: int) -> str:
    """Names every image that cannot be read, or the first of very many."""
    if len(bad) == 1:
        return f"{bad[0]}; replace or remove it, or leave it out with the option on_error: skip"
    lines = "".join(f"\n  {one}" for one in bad[:_LISTED])
    return (
        f"{len(bad):,} of {several(total, 'image')} cannot be read; replace or remove them, or "
        f"leave them out with the option on_error: skip{lines}{_and_more(bad, separator=chr(10))}"
    )


def _and_more(bad: Sequence[Unreadable], separator: str = " ") -> str:
    return f"{separator}and {len(bad) - _LISTED:,} more" if len(bad) > _LISTED else ""


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


def decode_all(
    batches: Iterable[Sequence[Encoded]], count: int, image_size: Size = DEFAULT_SIZE
) -> tuple[Pixels, Changes]:
    """Decodes `count` images into memory, see `decode_into`: uint8 [count, 3, H, W].

    Raises
    ------
    ImagesError
        Images that cannot be read; names them.
    """
    images = np.empty((count, 3, *image_size), dtype=np.uint8)
    changes = decode_into(batches, images)
    if changes.unreadable:
        raise ImagesError(_refused(changes.unreadable, count))
    return images, changes


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


def resize(image: "Image.Image", image_size: Sequence[int]) -> "Image.Image":
    """Resizes an image of any mode; a reduction is antialiased.

    Pillow resizes in integers, so that every machine gets the same bytes.
    """
    from PIL import Image

    height, width = image_size
    return image.resize((width, height), Image.Resampling.BILINEAR)


def change_notes(changes: Changes, image_size: Size = DEFAULT_SIZE) -> tuple[str, ...]:
    """Returns one sentence for each kind of change, with the number of images."""
    notes = [
        f"{several(changes.counts[change], 'image')} {text.format(*image_size)}"
        for change, text in _CHANGES.items()
        if changes.counts[change]
    ]
    if changes.sixteen_bit_range:
        low, high = changes.sixteen_bit_range
        note = f"the values of 16-bit images are {low:,} to {high:,}"
        if (filled := max(high.bit_length(), SMALLEST_BITS)) < LARGEST_BITS:
            note += f": they fill {filled} of 16 bits; `bits: {filled}` uses their whole range"
        notes.append(note)
    return tuple(notes)


def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))


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
            pixels, changed = _decode(_content(encoded), _size_of(target), bits)
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


def _decode(content: bytes, image_size: Size, bits: int) -> tuple[Pixels, Changes]:
    """One image as uint8 [H, W, 3], and the changes that took.

    The first frame of an animation, turned upright as its EXIF orientation says.
    """
    from PIL import Image

    if not content:
        raise ValueError("0 bytes")
    try:
        opened = Image.open(io.BytesIO(content))
    except Image.UnidentifiedImageError:
        # Pillow's own message would show the address of the buffer.
        raise ValueError(f"{len(content):,} bytes in no known image format") from None
    changes = Changes()
    with opened:
        # Pillow keeps the high 8 bits of 16-bit colours itself, and forgets that there were more.
        deep = any(";16" in str(tile[3]) for tile in opened.tile) and opened.mode in ("RGB", "RGBA")
        orientation = _orientation(opened)  # Pillow turns TIFF files itself when it loads them
        opened.load()
        turned = _turned(opened)
        image = _to_rgb(turned, changes, bits)
    if orientation in _TURNS:
        changes.counts["turned"] += 1
    if deep:
        if bits != LARGEST_BITS:
            raise ValueError("16-bit colours can only be read with bits: 16")
        changes.counts["sixteen_bit_colour"] += 1
    if (image.height, image.width) != image_size:
        image = resize(image, image_size)
        changes.counts["resized"] += 1
    return np.asarray(image), changes


def _orientation(image: "Image.Image") -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if there is none, or damaged EXIF data."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _turned(image: "Image.Image") -> "Image.Image":
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _resize_chunk(source: Pixels, target: Pixels) -> None:
    from PIL import Image

    for pixels, place in zip(source, target, strict=True):
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        place[:] = np.asarray(resize(image, place.shape[1:])).transpose(2, 0, 1)


def _to_rgb(image: "Image.Image", changes: Changes, bits: int) -> "Image.Image":
    """Converts any mode to RGB; alpha is dropped, as in torchvision's ImageFolder loader."""
    from PIL import Image

    counts = changes.counts
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save it with 8 bits a channel")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 0xFFFF:
            raise ValueError("pixels outside 0..65535; save it with 8 bits a channel")
        if high >> bits:
            raise ValueError(f"the value {high:,} has more than {bits} bits; raise `bits`")
        # convert("RGB") would clip at 255 and give an almost white image.
        image = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
        counts["sixteen_bit"] += 1
        changes.sixteen_bit_range = low, high
    if image.mode == "P" and "transparency" in image.info:
        counts["palette"] += 1
        image = image.convert("RGBA")
    if image.mode in ("1", "L", "LA"):
        counts["grey"] += 1
    elif image.mode in ("P", "PA"):
        counts["palette"] += 1
    elif image.mode != "RGBA":
        counts["colour_space"] += 1
    if image.mode in ("LA", "PA", "RGBA"):
        counts["alpha"] += 1
    return image.convert("RGB")
