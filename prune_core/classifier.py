"""A stored network for inference: uint8 images in, logits out, with the input scaling inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from prune_core.network_files import load as load_stored
from prune_core.network_files import save as save_stored
from prune_core.networks import INPUT_CHANNELS, architecture_of
from prune_core.networks.source import NetworkSource
from prune_core.preprocessing import Preprocessing


class Classifier(nn.Module):
    """A network with its input scaling: it takes uint8 images.

    Other types are refused, so that images cannot be scaled twice by mistake. To continue the
    training, or for images that are already scaled, use `net`.

    Attributes
    ----------
    net : the network without the scaling.
    preprocessing : the scaling.
    class_names : the names of the classes, or their numbers if no names are known.
    image_shape : (3, H, W) of the images that it takes.
    """

    net: nn.Module
    preprocessing: Preprocessing
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        net: nn.Module,
        preprocessing: Preprocessing,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.preprocessing = preprocessing
        architecture = architecture_of(net)
        self.image_shape = (INPUT_CHANNELS, *architecture.image_size)
        self.class_names = tuple(class_names or map(str, range(architecture.classes)))
        for name in ("mean", "deviation"):
            values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32)
            self.register_buffer(name, values.view(-1, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits fp32 [N, classes] of uint8 RGB images [N, 3, H, W], values 0 to 255.

        Raises
        ------
        TypeError, ValueError
            For images of another type or shape.
        """
        if images.dtype != torch.uint8:
            raise TypeError(
                f"images are {images.dtype}; they must be torch.uint8 with values 0 to 255; this "
                "network scales them itself"
            )
        if images.ndim != 4 or tuple(images.shape[1:]) != self.image_shape:
            wanted = ", ".join(map(str, self.image_shape))
            raise ValueError(
                f"images have shape {list(images.shape)}; it must be [N, {wanted}]; image[None] "
                "makes a batch of one image"
            )
        scaled = (images.to(torch.float32) - self.mean) / self.deviation
        logits: Tensor = self.net(scaled.contiguous(memory_format=torch.channels_last))
        return logits

    def save(self, folder: str | Path) -> None:
        """Writes the network into a folder, for `load`; the folder is made if it is not there.

        Raises
        ------
        ArchitectureError
            For an adopted module, which has no name that a file could hold.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_stored(self.net, self.preprocessing, folder, self.class_names)


def load(folder: str | Path, source: str | None = None) -> Classifier:
    """Loads a kept or exported network, in eval mode on the CPU.

    Parameters
    ----------
    source : file and function of a person's own network, such as `my_net.py:build`. The folder
        contains no code, and this code is run.

    Raises
    ------
    NetworkFileError
        If files are absent, damaged or do not belong together, or if the network needs another
        source; the message names the folder.
    ArchitectureError
        If the source cannot be read.
    """
    stored = load_stored(folder, None if source is None else NetworkSource.read(source))
    return Classifier(stored.net, stored.preprocessing, stored.class_names)
