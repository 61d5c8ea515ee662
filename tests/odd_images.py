"""Odd data sets, as people have them, and what Pillow and pandas say is in them."""

import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

HUB = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SIDE = 8
SIZE = (SIDE, SIDE)

Content = Counter[tuple[bytes, str]]
"""How often each pair of pixels, uint8 [3, H, W], and class name occurs."""


def picture(seed: int, height: int = SIDE, width: int = SIDE) -> Image.Image:
    """Noise, so that no two pictures are equal and a turned one differs."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(seed: int) -> bytes:
    """The file of a picture."""
    return encoded(picture(seed))


def save(file: Path, content: bytes) -> None:
    """Writes a file and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def class_folders(folder: Path, names: Iterable[str], images: int, first: int = 0) -> None:
    """A folder for each class, each with so many pictures."""
    for label, name in enumerate(names):
        for at in range(images):
            save(folder / name / f"{at}.png", png(first + 100 * label + at))


def declared(column: str, names: Sequence[str]) -> dict[bytes, bytes]:
    """The class names as the Hugging Face hub writes them into a file."""
    features = {column: {"names": list(names), "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def rows(
    labels: Sequence[object] | pa.Array,
    first: int = 0,
    names: Sequence[str] | None = None,
    image: str = "image",
    label: str = "label",
    **more: object,
) -> pa.Table:
    """A picture for each label; `names` are declared for them."""
    content = pa.array([png(first + at) for at in range(len(labels))], pa.binary())
    table = pa.table({image: content, label: labels, **more})
    return table.replace_schema_metadata(declared(label, names)) if names else table


def write(folder: Path, **tables: pa.Table) -> Path:
    """A Parquet file for each table."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def pixels(content: bytes) -> bytes:
    """What Pillow reads, upright, of `SIZE`."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    if image.size != SIZE:
        image = image.resize(SIZE, Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1).tobytes()


def in_folder(folder: Path) -> Content:
    """The images below class folders, as Pillow reads them."""
    files = [file for file in folder.glob("*/**/*") if file.suffix.lower() in (".png", ".jpg")]
    return Counter(
        (pixels(file.read_bytes()), file.relative_to(folder).parts[0])
        for file in files
        if not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)
    )


def in_parquet(
    *files: Path, image: str = "image", label: str = "label", names: Sequence[str] | None = None
) -> Content:
    """The rows of Parquet files, as pandas and Pillow read them; numbers get their declared name.

    A whole number in a column of floats has the name of the number.
    """
    found: Content = Counter()
    for file in files:
        frame = pd.read_parquet(file)
        for content, value in zip(frame[image], frame[label], strict=True):
            content = content["bytes"] if isinstance(content, dict) else content
            whole = int(value) if isinstance(value, (float, np.floating)) else value
            found[pixels(content), names[whole] if names else str(whole)] += 1
    return found
