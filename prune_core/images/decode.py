"""Encoded images (JPEG, PNG, ...) to uint8 [N, 3, 32, 32]."""

import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prune_core.images.arrays import Arrays, Labels, Pixels, check_labels
from prune_core.images.errors import ImagesError

if TYPE_CHECKING:
    from PIL import Image

SIDE = 32
"""Height and width of every image, in pixels."""

DECODE_VERSION = 1
"""Part of the cache's keys: raise it when the same files would give other arrays."""

_CHUNK = 64  # images a task: large enough to hide the cost of a task, small enough to share out
_SMALL = 8192  # bytes

_CHANGES = {
    "resized": "of another size: resized to 32 x 32 (bilinear, antialiased, aspect ratio not kept)",
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
) -> Arrays:
    """Checks the labels of both parts, then decodes their images.

    Parameters
    ----------
    where
        How messages name the source, such as its folder.
    notes
        What is to be said of the source already; changes to the images are added.

    Raises
    ------
    ImagesError
        Labels that are not 0..K-1, or bytes that are no image.
    """
    check_labels(where, train.labels, test.labels)
    train_images, train_changes = decode_all(train.batches, len(train.labels))
    test_images, test_changes = decode_all(test.batches, len(test.labels))
    notes += change_notes(train_changes + test_changes)
    return Arrays(train_images, train.labels, test_images, test.labels, notes)


def decode_all(batches: Iterable[Sequence[Encoded]], count: int) -> tuple[Pixels, Counter[str]]:
    """Decodes `count` images in their order, holding the encoded bytes of one batch at a time.

    Returns
    -------
    uint8 [count, 3, 32, 32], and how many images needed which change (see `change_notes`).

    Raises
    ------
    ImagesError
        Bytes that are no image or a truncated one; names the first such file and row.
    """
    images = np.empty((count, 3, SIDE, SIDE), dtype=np.uint8)
    changes: Counter[str] = Counter()
    done = 0
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for batch in batches:
            starts = range(0, len(batch), _CHUNK)
            chunks = [batch[start : start + _CHUNK] for start in starts]
            targets = [images[done + start : done + start + _CHUNK] for start in starts]
            spread = pool.map if _is_worth_threads(batch) else map
            for changed in spread(_decode_chunk, chunks, targets):
                changes += changed
            done += len(batch)
    if done != count:
        raise ImagesError(f"{count:,} labels but {done:,} images: the files changed while read")
    return images, changes


def change_notes(changes: Counter[str]) -> tuple[str, ...]:
    """Returns one sentence for each kind of change, with the number of images."""
    return tuple(
        f"{changes[change]:,} {'image' if changes[change] == 1 else 'images'} {text}"
        for change, text in _CHANGES.items()
        if changes[change]
    )


def _is_worth_threads(batch: Sequence[Encoded]) -> bool:
    """False for small images in memory: there the threads only wait for the interpreter's lock.

    Measured with 2 cores: 32x32 JPEGs take 1.2 to 1.8 times as long with threads, 400x300 ones
    about 0.6 times. Files always have threads, which read while others decode.
    """
    return any(encoded.content is None or len(encoded.content) > _SMALL for encoded in batch)


def _decode_chunk(chunk: Sequence[Encoded], target: Pixels) -> Counter[str]:
    """Fills `target` [len(chunk), 3, 32, 32] in place, so that no second copy is ever held."""
    changes: Counter[str] = Counter()
    for position, encoded in enumerate(chunk):
        try:
            content = encoded.file.read_bytes() if encoded.content is None else encoded.content
            pixels, changed = _decode(content)
        # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more.
        except Exception as error:
            raise ImagesError(
                f"{encoded.place}: not a readable image ({error}); replace or remove it"
            ) from error
        target[position] = pixels.transpose(2, 0, 1)
        changes.update(changed)
    return changes


def _decode(content: bytes) -> tuple[Pixels, list[str]]:
    """One image as uint8 [32, 32, 3], and the changes that took.

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
    if image.size != (SIDE, SIDE):
        # Pillow resizes in integers, so that every machine gets the same bytes, and antialiases.
        image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        changed.append("resized")
    return np.asarray(image), changed


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
