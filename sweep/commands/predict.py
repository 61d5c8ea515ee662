"""`prune-sweep predict`: the class that a network predicts for image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from prune_core.classifier import load
from prune_core.images import ImagesError
from prune_core.images.decode import Encoded, change_notes, decode_all
from prune_core.network_files import NetworkFileError
from prune_core.networks import ArchitectureError
from prune_core.precision import full_precision
from sweep.errors import UserError

BATCH = 256


def predict(
    folder: Path, images: Sequence[Path], console: Console, source: str | None = None
) -> None:
    """Prints file, class and probability of each image. Images are read as in training.

    Parameters
    ----------
    folder : the folder of an exported or kept network.
    images : files in any format that Pillow reads.
    source : file and function of a person's own network; this code is run.

    Raises
    ------
    UserError
        If the network or an image cannot be read; the message names the folder or file.
    """
    try:
        net = load(folder, source)
        files = [Encoded(path) for path in images]
        _, height, width = net.image_shape
        pixels, changes = decode_all([files], len(files), (height, width))
    except (NetworkFileError, ArchitectureError, ImagesError) as error:
        raise UserError(str(error)) from error
    with torch.inference_mode(), full_precision():
        logits = torch.cat([net(batch) for batch in torch.from_numpy(pixels).split(BATCH)])
    likeliest = logits.double().softmax(dim=1).max(dim=1)
    for path, at, probability in zip(images, likeliest.indices, likeliest.values, strict=True):
        name = " ".join(net.class_names[int(at)].split())
        console.print(f"{path}  {name}  {100 * float(probability):.2f} %")
    for note in change_notes(changes, (height, width)):
        console.print(f"note: {note}")
