"""A stored network as one takes it into use: images in, logits out, nothing to scale by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from prune_core.network import IMAGE_SIZE, INPUT_CHANNELS, SimpleNet
from prune_core.network_files import load as load_stored
from prune_core.preprocessing import Preprocessing

IMAGE_SHAPE = (INPUT_CHANNELS, IMAGE_SIZE, IMAGE_SIZE)


class Classifier(nn.Module):
    """A network that takes images as files hold them: the scaling of their colours is inside.

    Images are uint8 and nothing else, so that one that was scaled before cannot be scaled again
    unnoticed. To train it on, or to feed it scaled images, take `net`.

    Attributes
    ----------
    net : the network behind the scaling.
    class_names : what the classes are called; their numbers where no names are known.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        net: SimpleNet,
        preprocessing: Preprocessing,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.class_names = tuple(class_names or map(str, range(net.architecture.classes)))
        for name in ("mean", "deviation"):
            values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32)
            self.register_buffer(name, values.view(-1, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits fp32 [N, classes] of uint8 RGB images [N, 3, 32, 32], values 0 to 255.

        Raises
        ------
        TypeError, ValueError
            For images of another type or shape.
        """
        if images.dtype != torch.uint8:
            raise TypeError(
                f"images are {images.dtype}; they must be torch.uint8 with values 0 to 255, the "
                "scaling is inside the network"
            )
        if images.ndim != 4 or tuple(images.shape[1:]) != IMAGE_SHAPE:
            raise ValueError(
                f"images have the shape {list(images.shape)}; [N, 3, 32, 32] is needed, and [None] "
                "makes a batch of one image"
            )
        scaled = (images.to(torch.float32) - self.mean) / self.deviation
        return self.net(scaled.contiguous(memory_format=torch.channels_last))


def load(folder: str | Path) -> Classifier:
    """A network that was kept or exported, in eval mode on the CPU.

    Raises
    ------
    NetworkFileError
        If the folder's files are absent, damaged or do not fit each other; it names the folder.
    """
    stored = load_stored(folder)
    return Classifier(stored.net, stored.preprocessing, stored.class_names)
