"""Accuracy and loss on images, always in fp32 and eval mode."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from prune_core.images import LabelledImages, Size
from prune_core.networks import device_of
from prune_core.precision import full_precision
from prune_core.preprocessing import Preprocessing

EVALUATION_VERSION = 1
# Batch sizes at 32 x 32. On a CPU a small batch keeps the feature maps of a layer in the cache: 32
# takes half the time of 256, with the same logits.
BATCHES = {"cpu": 32, "cuda": 256}
# Larger images come in smaller batches, down to these. On a CPU, ResNet-18 at 224 x 224 takes 0.6
# times as long for an image in a batch of 4 as in one of 32, and half as long as alone.
SMALLEST_BATCHES = {"cpu": 4, "cuda": 32}


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and loss of a network on some images.

    Attributes
    ----------
    top1, top5 : fraction of images whose label has the largest logit, or one of the five largest.
        With five classes or fewer, `top5` is 1.
    loss : mean cross-entropy in nats; NaN or infinite for a diverged network.
    """

    top1: float
    top5: float
    loss: float


def batch_size(device: torch.device, image_size: Size) -> int:
    """Images in a batch of an evaluation: fewer the larger they are, which bounds the memory."""
    height, width = image_size
    most, fewest = BATCHES[device.type], SMALLEST_BATCHES[device.type]
    return min(max(most * 32 * 32 // (height * width), fewest), most)


def evaluate(net: nn.Module, images: LabelledImages, preprocessing: Preprocessing) -> Evaluation:
    """Accuracy and loss of a network on images, without augmentation.

    Parameters
    ----------
    net : maps scaled images [N, 3, H, W] to logits [N, classes].
    images : uint8 [N, 3, H, W] and labels [N], on any device.
    """
    device = device_of(net)
    scale = preprocessing.on(device)
    training = net.training
    net.eval()
    batch = batch_size(device, images.image_size)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    # Sums on the device, read once at the end, because a read makes the CPU wait.
    right, among = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
    with torch.inference_mode(), full_precision():
        for pixels, labels in images.batches(batch, device):
            logits = net(scale(pixels))
            loss += torch.nn.functional.cross_entropy(logits.double(), labels, reduction="sum")
            likeliest = logits.topk(min(5, logits.shape[1]), dim=1).indices
            hits = likeliest == labels[:, None]
            right += hits[:, 0].sum()
            among += hits.sum()
    net.train(training)
    count = len(images)
    return Evaluation(int(right) / count, int(among) / count, float(loss) / count)
