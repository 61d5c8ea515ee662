"""One pass over the images that collects what all metrics need, for all layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor

from prune_core.images import LabelledImages
from prune_core.network import SimpleNet
from prune_core.precision import full_precision
from prune_core.preprocessing import Preprocessing
from prune_core.statistics.maps import Maps
from prune_core.statistics.requests import (
    NOT_FINITE,
    Answer,
    Collector,
    Previewing,
    Request,
    StatisticsError,
)

STATISTICS_VERSION = 1
# The network always reads this many images at once, the last of them padded with black: for
# another number a convolution may choose another order of summation, and a rounding that moves
# an average over the edge of a bin would make the answer depend on the batch. On a processor
# they are few, so that a layer's feature maps stay in its cache.
BLOCKS = {"cpu": 32, "cuda": 128}
# Backwards, what a convolution does for one image depends on how many others there are.
GRADIENTS_BLOCK = 128
# Of so many images each channel's average is taken first, as the origin of squared distances.
ORIGIN_IMAGES = 128

Collectors = dict[Request, Collector]


def collect(
    net: SimpleNet,
    images: LabelledImages,
    preprocessing: Preprocessing,
    requests: Iterable[Request],
    batch: int | None = None,
) -> list[dict[Request, Answer]]:
    """The answers to all requests for every layer, in eval mode and fp32.

    One pass over the images answers them all, but for two kinds that cost one more each:
    histograms of single values, which need the channels' ranges first, and gradients. No answer
    depends on what else is asked for, nor on `batch`. Memory grows with the number of images
    only by the averages that histograms keep, 8 bytes per image and channel.

    Parameters
    ----------
    images : uint8 [N, 3, H, W] and labels [N], on any device; no augmentation is applied.
    batch : images that collectors take in at a time, at most those of a block; a whole block if
        not given.

    Returns
    -------
    For each layer a mapping from request to its answer, on the CPU.

    Raises
    ------
    StatisticsError
        If there are no images, or weights or feature maps are NaN or infinite.
    """
    if len(images) == 0:
        raise StatisticsError("there are no images to take statistics of")
    if not all(bool(tensor.isfinite().all()) for tensor in net.state_dict().values()):
        raise StatisticsError("a weight is NaN or infinite; the network has diverged")
    wanted = list(dict.fromkeys(requests))
    batch = batch or max(GRADIENTS_BLOCK, *BLOCKS.values())
    classes = net.architecture.classes
    layers: list[Collectors] = [
        {request: request.collector(classes) for request in wanted} for _ in net.blocks
    ]
    plain = [[c for r, c in layer.items() if not r.gradients] for layer in layers]
    graded = [[c for r, c in layer.items() if r.gradients] for layer in layers]
    with _observed(net), full_precision():
        with torch.inference_mode():
            if any(isinstance(collector, Previewing) for collector in plain[0]):
                _preview(net, images, preprocessing, plain, batch)
            if plain[0]:
                _update(net, images, preprocessing, plain, batch)
        if graded[0]:
            _visit_gradients(net, images, preprocessing, graded, batch)
        with torch.inference_mode():
            answers = [_finish(layer) for layer in layers]
    return [{r: _plain(answer) for r, answer in layer.items()} for layer in answers]


@contextmanager
def _observed(net: SimpleNet) -> Iterator[None]:
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


def _block(net: SimpleNet) -> int:
    return BLOCKS[net.classifier.weight.device.type]


def _blocks(
    net: SimpleNet,
    images: LabelledImages,
    preprocessing: Preprocessing,
    block: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels of `block` images, and the labels of those that are no padding."""
    device, block = net.classifier.weight.device, block or _block(net)
    for start in range(0, len(images), block):
        pixels = images.images[start : start + block].to(device)
        labels = images.labels[start : start + block].to(device)
        padding = (0, 0, 0, 0, 0, 0, 0, block - len(labels))
        yield preprocessing(torch.nn.functional.pad(pixels, padding)), labels


def _preview(
    net: SimpleNet,
    images: LabelledImages,
    preprocessing: Preprocessing,
    collectors: list[list[Collector]],
    batch: int,
) -> None:
    """Shows all images to those collectors that must see them before."""
    for layer, some, their in _walk(net, _blocks(net, images, preprocessing), batch):
        for collector in collectors[layer]:
            if isinstance(collector, Previewing):
                collector.preview(Maps(some, their, _nowhere(some)))


def _nowhere(values: Tensor) -> Tensor:
    """An origin for what needs none."""
    return values.new_zeros(values.shape[1], dtype=torch.float64)


def _update(
    net: SimpleNet,
    images: LabelledImages,
    preprocessing: Preprocessing,
    collectors: list[list[Collector]],
    batch: int,
) -> None:
    """Shows all images to all collectors."""
    blocks = _blocks(net, images, preprocessing)
    # The first ones go through the network side by side, since a layer's origin is their mean.
    first = list(islice(blocks, ORIGIN_IMAGES // _block(net)))
    origins = []
    passes = [net.feature_maps(pixels) for pixels, _ in first]
    for layer, values in enumerate(zip(*passes, strict=True)):
        several = [
            Maps(some, their, _nowhere(some))
            for part, (_, labels) in zip(values, first, strict=True)
            for some, their in _cut(part, labels, batch)
        ]
        origins.append(torch.cat([maps.averages for maps in several]).mean(dim=0))
        for maps in several:
            maps.origin = origins[layer]
            for collector in collectors[layer]:
                collector.update(maps)
    for layer, some, their in _walk(net, blocks, batch):
        maps = Maps(some, their, origins[layer])
        for collector in collectors[layer]:
            collector.update(maps)


def _walk(
    net: SimpleNet, blocks: Iterable[tuple[Tensor, Tensor]], batch: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each layer with its maps of so many images at a time, and their labels."""
    for pixels, labels in blocks:
        for layer, part in enumerate(net.feature_maps(pixels)):
            for some, their in _cut(part, labels, batch):
                yield layer, some, their


def _cut(values: Tensor, labels: Tensor, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """So many images' maps at a time, without those of the padding."""
    return zip(values[: len(labels)].split(batch), labels.split(batch), strict=True)


def _visit_gradients(
    net: SimpleNet,
    images: LabelledImages,
    preprocessing: Preprocessing,
    collectors: list[list[Collector]],
    batch: int,
) -> None:
    for pixels, labels in _blocks(net, images, preprocessing, GRADIENTS_BLOCK):
        # Maps need a history even where somebody froze the weights.
        maps = list(net.feature_maps(pixels.requires_grad_()))
        logits = net.classifier(maps[-1].flatten(1))[: len(labels)]
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        gradients = torch.autograd.grad(loss, maps)
        for layer, (values, gradient) in enumerate(zip(maps, gradients, strict=True)):
            for some, slopes, their in zip(
                values.detach()[: len(labels)].split(batch),
                gradient[: len(labels)].split(batch),
                labels.split(batch),
                strict=True,
            ):
                for collector in collectors[layer]:
                    collector.update(Maps(some, their, _nowhere(values), slopes))


def _finish(collectors: Collectors) -> dict[Request, Answer]:
    answers = {}
    for request in list(collectors):
        # Dropped one by one, so that kept averages are freed before the next layer is counted.
        answers[request] = collectors.pop(request).finish()
    return answers


def _plain(answer: Answer) -> Answer:
    for tensor in answer.values():
        if not bool(tensor.isfinite().all()):
            raise StatisticsError(NOT_FINITE)
    return {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in answer.items()
    }
