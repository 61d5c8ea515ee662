"""Encoded images (JPEG, PNG, ...) to uint8 [N, 3, H, W]."""

import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prune_core.images.arrays import Arrays, Labels, Pixels, Undecoded, check_labels
from prune_core.images.errors import ImagesError
from prune_core.images.size import DEFAULT_SIZE, Size

if TYPE_CHECKING:
    from PIL import Image

DECODE_VERSION = 1
"""Part of the cache's keys: raise it when the same files would give other arrays."""

_CHUNK = 64  # images a task: large enough to hide the cost of a task, small enough to share out
_SMALL = 8192  # bytes

_CHANGES = {
    "resized": (
        "of another size: resized to {0} x {1} (bilinear, antialiased, aspect ratio not kept)"
    ),
    "grey": "in grey scale: the one channel repeated for red, green and blue",
    "palette": "with a palette: converted to RGB",
    "alpha": "with transparency: the alpha channel dropped, the colours under it kept",
    "sixteen_bit": "with 16 bits a pixel: the high 8 bits kept",
    "colour_space": "in another colour space, such as CMYK: converted to RGB",
}


@dataclass(frozen=True)
class Encoded:
    """One encoded image and where it stands, for messages.

    `row` counts from 0 within `file`; it is None where the file is the image, and `content` is
    then read when it is decoded.
    """

    file: Path
    row: int | None = None
    content: bytes | None = None

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
    where: str, train: EncodedPart, test: EncodedPart, notes: tuple[str, ...] = ()
) -> Undecoded:
    """Checks the labels of both parts; their images are decoded when the cache asks for them.

    Parameters
    ----------
    where
        How messages name the source, such as its folder.
    notes
        What is to be said of the source already; changes to the images are added.

    Raises
    ------
    ImagesError
        Labels that are not 0..K-1; and later bytes that are no image.
    """
    check_labels(where, train.labels, test.labels)

    def decode(train_images: Pixels, test_images: Pixels) -> tuple[str, ...]:
        changes = decode_into(train.batches, train_images) + decode_into(test.batches, test_images)
        return notes + change_notes(changes, _size_of(train_images))

    return Undecoded(train.labels, test.labels, decode)


def decode_all(
    batches: Iterable[Sequence[Encoded]], count: int, image_size: Size = DEFAULT_SIZE
) -> tuple[Pixels, Counter[str]]:
    """Decodes `count` images into memory, see `decode_into`: uint8 [count, 3, H, W]."""
    images = np.empty((count, 3, *image_size), dtype=np.uint8)
    return images, decode_into(batches, images)


def decode_into(batches: Iterable[Sequence[Encoded]], images: Pixels) -> Counter[str]:
    """Decodes images in order into an array, holding the encoded bytes of one batch at a time.

    Parameters
    ----------
    images
        uint8 [N, 3, H, W]. Images of another size are resized to H x W.

    Returns
    -------
    How many images needed which change (see `change_notes`).

    Raises
    ------
    ImagesError
        Bytes that are no image or a truncated one; names the first such file and row.
    """
    changes: Counter[str] = Counter()
    done = 0
    with _decoders() as pool:
        for batch in batches:
            starts = range(0, len(batch), _CHUNK)
            chunks = [batch[start : start + _CHUNK] for start in starts]
            targets = [images[done + start : done + start + _CHUNK] for start in starts]
            spread = pool.map if _is_worth_threads(batch, images) else map
            for changed in spread(_decode_chunk, chunks, targets):
                changes += changed
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
        return arrays.notes + change_notes(Counter(resized=count), image_size)

    return Undecoded(arrays.train_labels, arrays.test_labels, decode)


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


def change_notes(changes: Counter[str], image_size: Size = DEFAULT_SIZE) -> tuple[str, ...]:
    """Returns one sentence for each kind of change, with the number of images."""
    return tuple(
        f"{changes[change]:,} {'image' if changes[change] == 1 else 'images'} "
        f"{text.format(*image_size)}"
        for change, text in _CHANGES.items()
        if changes[change]
    )


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


def _decode_chunk(chunk: Sequence[Encoded], target: Pixels) -> Counter[str]:
    """Fills `target` [len(chunk), 3, H, W] in place, so that no second copy is ever held."""
    changes: Counter[str] = Counter()
    for position, encoded in enumerate(chunk):
        try:
            content = encoded.file.read_bytes() if encoded.content is None else encoded.content
            pixels, changed = _decode(content, _size_of(target))
        # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more.
        except Exception as error:
            raise ImagesError(
                f"{encoded.place}: not a readable image ({error}); replace or remove it"
            ) from error
        target[position] = pixels.transpose(2, 0, 1)
        changes.update(changed)
    return changes


def _decode(content: bytes, image_size: Size) -> tuple[Pixels, list[str]]:
    """One image as uint8 [H, W, 3], and the changes that took.

    The first frame of an animation; orientation tags are ignored, as torchvision does.
    """
    from PIL import Image

    if not content:
        raise ValueError("0 bytes")
    try:
        opened = Image.open(io.BytesIO(content))
    except Image.UnidentifiedImageError:
        # Pillow's own message would show the address of the buffer.
        raise ValueError(f"{len(content):,} bytes in no known image format") from None
    with opened:
        opened.load()
        image, changed = _to_rgb(opened)
    if (image.height, image.width) != image_size:
        image = resize(image, image_size)
        changed.append("resized")
    return np.asarray(image), changed


def _resize_chunk(source: Pixels, target: Pixels) -> None:
    from PIL import Image

    for pixels, place in zip(source, target, strict=True):
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        place[:] = np.asarray(resize(image, place.shape[1:])).transpose(2, 0, 1)


def _to_rgb(image: "Image.Image") -> tuple["Image.Image", list[str]]:
    """Converts any mode to RGB; alpha is dropped, as in torchvision's ImageFolder loader."""
    from PIL import Image

    changed: list[str] = []
    if image.mode == "RGB":
        return image, changed
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save it with 8 bits a channel")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("pixels outside 0..65535; save it with 8 bits a channel")
        # convert("RGB") would clip at 255 and give an almost white image.
        image = Image.fromarray((values >> 8).astype(np.uint8))
        changed.append("sixteen_bit")
    if image.mode == "P" and "transparency" in image.info:
        changed.append("palette")
        image = image.convert("RGBA")
    if image.mode in ("1", "L", "LA"):
        changed.append("grey")
    elif image.mode in ("P", "PA"):
        changed.append("palette")
    elif image.mode != "RGBA":
        changed.append("colour_space")
    if image.mode in ("LA", "PA", "RGBA"):
        changed.append("alpha")
    return image.convert("RGB"), changed
