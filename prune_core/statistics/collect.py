"""One pass over the images that collects what all metrics need, for all layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
# In the backward pass, a convolution's rounding for one image depends on the number of others.
GRADIENTS_BLOCK = 128
# Each channel's average over so many images is the origin of squared distances.
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
    passes = _Passes(net, images, preprocessing, batch)
    with _evaluating(net), full_precision():
        with torch.inference_mode():
            if any(isinstance(collector, Previewing) for collector in plain[0]):
                passes.preview(plain)
            if plain[0]:
                passes.update(plain)
        if graded[0]:
            passes.update_with_gradients(graded)
        with torch.inference_mode():
            answers = [_finish(layer) for layer in layers]
    return [{r: _plain(answer) for r, answer in layer.items()} for layer in answers]


@contextmanager
def _evaluating(net: SimpleNet) -> Iterator[None]:
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


@dataclass(frozen=True)
class _Passes:
    """Passes of a network over images, which show each layer's feature maps to its collectors.

    Attributes
    ----------
    batch : images whose maps a collector takes in at a time.
    """

    net: SimpleNet
    images: LabelledImages
    preprocessing: Preprocessing
    batch: int

    def preview(self, collectors: list[list[Collector]]) -> None:
        """Shows all images to the collectors that must see them before they take them in."""
        for layer, values, labels in self._walk(self._blocks(self._block)):
            for collector in collectors[layer]:
                if isinstance(collector, Previewing):
                    collector.preview(Maps(values, labels, _no_origin(values)))

    def update(self, collectors: list[list[Collector]]) -> None:
        """Lets all collectors take in all images."""
        blocks = self._blocks(self._block)
        # The first blocks pass each layer together, since their mean is the layer's origin.
        first = list(islice(blocks, ORIGIN_IMAGES // self._block))
        origins = []
        passes = [self.net.feature_maps(pixels) for pixels, _ in first]
        for layer, parts in enumerate(zip(*passes, strict=True)):
            several = [
                Maps(values, labels, _no_origin(values))
                for part, (_, of_block) in zip(parts, first, strict=True)
                for values, labels in self._cut(part, of_block)
            ]
            origins.append(torch.cat([maps.averages for maps in several]).mean(dim=0))
            for maps in several:
                maps.origin = origins[layer]
                for collector in collectors[layer]:
                    collector.update(maps)
        for layer, values, labels in self._walk(blocks):
            maps = Maps(values, labels, origins[layer])
            for collector in collectors[layer]:
                collector.update(maps)

    def update_with_gradients(self, collectors: list[list[Collector]]) -> None:
        """Lets all collectors take in all images with the gradients of their losses."""
        for pixels, labels in self._blocks(GRADIENTS_BLOCK):
            # Without this, maps have no history where the weights are frozen.
            maps = list(self.net.feature_maps(pixels.requires_grad_()))
            logits = self.net.classifier(maps[-1].flatten(1))[: len(labels)]
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            gradients = torch.autograd.grad(loss, maps)
            for layer, (whole, gradient) in enumerate(zip(maps, gradients, strict=True)):
                slopes = self._cut(gradient, labels)
                for (values, own), (slope, _) in zip(
                    self._cut(whole.detach(), labels), slopes, strict=True
                ):
                    for collector in collectors[layer]:
                        collector.update(Maps(values, own, _no_origin(whole), slope))

    @property
    def _block(self) -> int:
        return BLOCKS[self.net.classifier.weight.device.type]

    def _blocks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels of `size` images, padded with black ones, and the labels of the real ones."""
        device = self.net.classifier.weight.device
        for start in range(0, len(self.images), size):
            pixels = self.images.images[start : start + size].to(device)
            labels = self.images.labels[start : start + size].to(device)
            padding = (0, 0, 0, 0, 0, 0, 0, size - len(labels))
            yield self.preprocessing(torch.nn.functional.pad(pixels, padding)), labels

    def _walk(
        self, blocks: Iterable[tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Each layer with the maps of a batch of images, and their labels."""
        for pixels, of_block in blocks:
            for layer, part in enumerate(self.net.feature_maps(pixels)):
                for values, labels in self._cut(part, of_block):
                    yield layer, values, labels

    def _cut(self, values: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The maps of a batch of images at a time, without those of the padding."""
        parts = values[: len(labels)].split(self.batch)
        return zip(parts, labels.split(self.batch), strict=True)


def _no_origin(values: Tensor) -> Tensor:
    """Zeros, for collectors that read no squared distances."""
    return values.new_zeros(values.shape[1], dtype=torch.float64)


def _finish(collectors: Collectors) -> dict[Request, Answer]:
    answers = {}
    for request in list(collectors):
        # Each collector is dropped at once, so that its averages are freed before the next counts.
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
