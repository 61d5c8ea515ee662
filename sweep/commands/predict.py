"""`prune-sweep predict`: the class that a network predicts for image files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console

from prune_core.classifier import load
from prune_core.images.changes import Changes, change_notes
from prune_core.images.decode import Encoded, decode_into
from prune_core.images.options import LARGEST_BITS
from prune_core.network_files import NetworkFileError
from prune_core.networks import ArchitectureError
from prune_core.precision import full_precision
from sweep.errors import UserError
from sweep.execution.messages import note

BATCH = 256
Format = Literal["text", "json"]


@dataclass(frozen=True)
class Prediction:
    """The answer for one file: class and probability, or why the file cannot be read."""

    file: str
    predicted: str | None = None
    probability: float | None = None
    error: str | None = None

    def __str__(self) -> str:
        assert self.predicted is not None
        assert self.probability is not None
        return f"{self.file}  {' '.join(self.predicted.split())}  {100 * self.probability:.2f} %"


def predict(
    folder: Path,
    images: Sequence[Path],
    console: Console,
    errors: Console,
    source: str | None = None,
    form: Format = "text",
    bits: int = LARGEST_BITS,
) -> bool:
    """Prints file, class and probability of each image. Images are read as in training.

    Parameters
    ----------
    folder : the folder of an exported or kept network.
    images : files in any format that Pillow reads.
    errors : shows files that cannot be read, and notes.
    source : file and function of a person's own network; this code is run.
    form : `json` prints one list, with an object for each file in their order: `file`,
        `predicted`, `probability`, and `error`.
    bits : how many bits the values of 16-bit grey images fill; the option of that name of the
        training images.

    Returns
    -------
    Whether every image could be read.

    Raises
    ------
    UserError
        If the network cannot be read.
    """
    try:
        net = load(folder, source)
    except (NetworkFileError, ArchitectureError) as error:
        raise UserError(str(error)) from error
    _, height, width = net.image_shape
    changes, found = Changes(), list[Prediction]()
    for start in range(0, len(images), BATCH):
        files = images[start : start + BATCH]
        pixels = np.empty((len(files), *net.image_shape), dtype=np.uint8)
        changed = decode_into([[Encoded(path) for path in files]], pixels, bits)
        unreadable = {one.position: one.reason for one in changed.unreadable}
        changes.add(changed, len(found))
        with torch.inference_mode(), full_precision():
            logits = net(torch.from_numpy(pixels))
        probabilities, classes = logits.double().softmax(dim=1).max(dim=1)
        found += [
            Prediction(str(path), error=unreadable[at])
            if at in unreadable
            else Prediction(str(path), net.class_names[int(classes[at])], float(probabilities[at]))
            for at, path in enumerate(files)
        ]
    if form == "json":
        console.print(json.dumps([asdict(one) for one in found], indent=1))
    for one in found:
        if one.error is not None:
            errors.print(f"error: {one.file}: {one.error}", style="red")
        elif form == "text":
            console.print(str(one))
    for text in change_notes(changes, (height, width), bits):
        note(text)
    return all(one.error is None for one in found)
