"""One encoded image (JPEG, PNG, ...) of any mode to upright RGB pixels of one size."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_core.images.arrays import Pixels
from prune_core.images.changes import Changes
from prune_core.images.options import LARGEST_BITS
from prune_core.images.size import Size

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION = 0x0112
# Values of PIL.Image.Transpose, which is imported when used.
_TURNS: dict[int, Any] = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def decode_image(content: bytes, image_size: Size, bits: int) -> tuple[Pixels, Changes]:
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
        # Pillow reduces 16-bit colours itself, and forgets that there were more bits.
        deep = any(map(_is_deep, opened.tile)) and opened.mode in ("RGB", "RGBA")
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


def _is_deep(tile: Any) -> bool:
    """Whether this part of a file has values of more than 8 bits."""
    if tile.codec_name == "ppm":
        _, largest = tile.args
        return bool(largest > 255)
    return ";16" in str(tile.args)


def _orientation(image: "Image.Image") -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if there is none, or damaged EXIF data."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _turned(image: "Image.Image") -> "Image.Image":
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def resize(image: "Image.Image", image_size: Sequence[int]) -> "Image.Image":
    """Resizes an image of any mode; a reduction is antialiased.

    Pillow resizes in integers, so that every machine gets the same bytes.
    """
    from PIL import Image

    height, width = image_size
    return image.resize((width, height), Image.Resampling.BILINEAR)


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
