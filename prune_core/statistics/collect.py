"""One pass over the images that collects what all metrics need, for all layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast

import torch
from torch import Tensor, nn

from prune_core.images import LabelledImages
from prune_core.networks import architecture_of, channel_groups, device_of
from prune_core.networks.groups import Producer
from prune_core.networks.module import all_finite, evaluating, reading, reading_layer
from prune_core.precision import full_precision
from prune_core.preprocessing import Preprocessing
from prune_core.statistics.maps import Maps, first_origin
from prune_core.statistics.moments import ClassMoments, Moments
from prune_core.statistics.reads import check_unchanged, maps_of
from prune_core.statistics.requests import (
    NOT_FINITE,
    Answer,
    Collector,
    FilterCollector,
    FilterRequest,
    InputCollector,
    InputRequest,
    MapRequest,
    NetworkRequest,
    Previewing,
    Request,
    StatisticsError,
)

STATISTICS_VERSION = 2
# The network always reads this many images at once, the last of them padded with black: for
# another number a convolution may choose another order of summation, and a rounding that moves
# an average over the edge of a bin would make the answer depend on the batch. On a processor
# they are few, so that a layer's feature maps stay in its cache.
BLOCKS = {"cpu": 32, "cuda": 128}
# In the backward pass, a convolution's rounding for one image depends on the number of others.
GRADIENTS_BLOCK = 128
USUAL_PIXELS = 32 * 32
"""Pixels of an image for which the numbers of images above are meant."""

Collectors = dict[MapRequest, Collector]
InputCollectors = dict[InputRequest, InputCollector]
FilterCollectors = dict[FilterRequest, FilterCollector]


def collect(
    net: nn.Module,
    images: LabelledImages,
    preprocessing: Preprocessing,
    requests: Iterable[Request],
    batch: int | None = None,
) -> list[dict[Request, Answer]]:
    """The answers to all requests for every producer of every channel group, in eval mode and fp32.

    One pass over the images answers them all, but for two kinds that cost one more each:
    histograms of single values, which need the channels' ranges first, and gradients; and those of
    the network alone, which read no images. No answer depends on what else is asked for, nor on
    `batch`. Memory grows with the number of images
    only by the averages that histograms keep, 8 bytes per image and channel.

    Parameters
    ----------
    images : uint8 [N, 3, H, W] and labels [N], on any device; no augmentation is applied.
    batch : images that collectors take in at a time, at most those of a block; a whole block if
        not given.

    Returns
    -------
    For each producer, in the order of `prune_core.layer.views`, a mapping from request to its
    answer, on the CPU. In a chain, producers are the convolutions.

    Raises
    ------
    StatisticsError
        If there are no images to read, or weights or feature maps are NaN or infinite.
    """
    wanted = list(dict.fromkeys(requests))
    of_network = [request for request in wanted if isinstance(request, NetworkRequest)]
    if len(images) == 0 and len(of_network) < max(1, len(wanted)):
        raise StatisticsError("there are no images to take statistics of")
    if not all_finite(net):
        raise StatisticsError("a weight is NaN or infinite; the network has diverged")
    batch = batch or max(GRADIENTS_BLOCK, *BLOCKS.values())
    classes = architecture_of(net).classes
    producers = channel_groups(net).producers
    of_inputs = [request for request in wanted if isinstance(request, InputRequest)]
    of_filters = [request for request in wanted if isinstance(request, FilterRequest)]
    of_maps = [
        request
        for request in wanted
        if not isinstance(request, InputRequest | FilterRequest | NetworkRequest)
    ]
    # The squares that they read find the sums, which others read too, on the way.
    of_maps.sort(key=lambda request: not isinstance(request, Moments | ClassMoments))
    layers: list[Collectors] = [
        {request: request.collector(classes) for request in of_maps} for _ in producers
    ]
    readers = _readers(producers)
    inputs: dict[str, InputCollectors] = {
        name: {request: request.of_inputs(reading_layer(net, name)) for request in of_inputs}
        for name in (readers if of_inputs else ())
    }
    filters: list[FilterCollectors] = [
        {request: request.of_filters(_producing(net, one), one.positions) for request in of_filters}
        for one in producers
    ]
    plain = [[c for r, c in layer.items() if not r.gradients] for layer in layers]
    graded = [[c for r, c in layer.items() if r.gradients] for layer in layers]
    passes = _Passes(net, producers, inputs, images, preprocessing, batch)
    with evaluating(net), full_precision():
        with torch.inference_mode():
            if any(isinstance(collector, Previewing) for collector in plain[0]):
                passes.preview(plain)
            if plain[0] or inputs:
                passes.update(plain)
        if graded[0] or of_filters:
            passes.update_with_gradients(graded, [list(one.values()) for one in filters])
        with torch.inference_mode():
            found = [
                {**_finish(one), **_finish(of)} for one, of in zip(layers, filters, strict=True)
            ]
        for network_request in of_network:
            own = network_request.of_network(net, images.image_size)
            for one, of_producer in zip(found, own, strict=True):
                one[network_request] = of_producer
        answers = [{r: _plain(answer) for r, answer in layer.items()} for layer in found]
        for request in of_inputs:
            for answer in answers:
                answer[request] = {}
            for name, first in readers.items():
                with torch.inference_mode():
                    of_layer = inputs[name].pop(request).finish()
                for field, tensor in _plain(of_layer).items():
                    answers[first][request][f"{name}.{field}"] = tensor
    return answers


def _readers(producers: Sequence[Producer]) -> dict[str, int]:
    """The layers that read channels of a group, each with the first producer that it reads."""
    found: dict[str, int] = {}
    for index, producer in enumerate(producers):
        for consumer in producer.consumers:
            found.setdefault(consumer.module, index)
    return found


@dataclass(frozen=True)
class _Passes:
    """Passes of a network over images, which show each layer's feature maps to its collectors.

    Attributes
    ----------
    inputs : by the name of a layer, the collectors that take in what it reads.
    batch : images whose maps a collector takes in at a time.
    """

    net: nn.Module
    producers: tuple[Producer, ...]
    inputs: Mapping[str, InputCollectors]
    images: LabelledImages
    preprocessing: Preprocessing
    batch: int

    def preview(self, collectors: list[list[Collector]]) -> None:
        """Shows all images to the collectors that must see them before they take them in."""

        def see(layer: int, values: Tensor, labels: Tensor) -> None:
            for part, own in self._cut(values, labels):
                maps = Maps(part, own, _no_origin(part))
                for collector in collectors[layer]:
                    if isinstance(collector, Previewing):
                        collector.preview(maps)

        for block in self._blocks(self._block):
            self._walk(block, see)

    def update(self, collectors: list[list[Collector]]) -> None:
        """Lets all collectors take in all images."""
        origins: dict[int, tuple[Tensor, bool]] = {}

        def see(layer: int, values: Tensor, labels: Tensor) -> None:
            if not collectors[layer]:
                return
            if layer not in origins:
                # Those of the first block, whatever the batch.
                origins[layer] = first_origin(values)
            origin, far = origins[layer]
            for part, own in self._cut(values, labels):
                maps = Maps(part, own, origin, far=far)
                for collector in collectors[layer]:
                    collector.update(maps)

        def take(name: str, values: Tensor) -> None:
            for part in values.split(self.batch):
                for collector in self.inputs[name].values():
                    collector.update(part)

        for block in self._blocks(self._block):
            self._walk(block, see, take)

    def update_with_gradients(
        self, collectors: list[list[Collector]], filters: list[list[FilterCollector]]
    ) -> None:
        """Lets all collectors take in all images with the gradients of their losses.

        Parameters
        ----------
        filters : collectors of each producer that take in what its convolution reads and computes.
        """
        names = list(self._read) if collectors[0] else []
        makers = {one.name for one, of in zip(self.producers, filters, strict=True) if of}
        for pixels, labels in self._blocks(self._sized(GRADIENTS_BLOCK)):
            inputs: dict[str, tuple[Tensor, int]] = {}
            made: dict[str, Tensor] = {}
            # Without this, maps have no history where the weights are frozen.
            with self._reading(partial(_note, inputs), makers), self._making(made, makers):
                logits = self.net(pixels.requires_grad_())[: len(labels)]
            check_unchanged(inputs)
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            wanted = [*(inputs[name][0] for name in names), *made.values()]
            found = torch.autograd.grad(loss, wanted)
            gradients = dict(zip(names, found[: len(names)], strict=True))
            slopes_of = dict(zip(made, found[len(names) :], strict=True))
            for layer, producer in enumerate(self.producers):
                if collectors[layer]:
                    name = producer.consumers[0].module
                    whole = maps_of(producer, inputs[name][0].detach())
                    slopes = self._cut(maps_of(producer, gradients[name]), labels)
                    for (values, own), (slope, _) in zip(
                        self._cut(whole, labels), slopes, strict=True
                    ):
                        for collector in collectors[layer]:
                            collector.update(Maps(values, own, _no_origin(whole), slope))
                for of_filters in filters[layer]:
                    # A whole block, whatever the batch: it may divide its images itself.
                    read, outputs, slope = (
                        tensor.detach()[: len(labels)]
                        for tensor in (
                            inputs[producer.name][0],
                            made[producer.name],
                            slopes_of[producer.name],
                        )
                    )
                    of_filters.update(read, outputs, slope)

    @property
    def _block(self) -> int:
        return self._sized(BLOCKS[device_of(self.net).type])

    def _sized(self, block: int) -> int:
        """Fewer images in a block if they are larger than 32 x 32, so that memory is bounded."""
        height, width = self.images.image_size
        most = block * USUAL_PIXELS
        while block > 1 and block * height * width > most:
            block //= 2
        return block

    @cached_property
    def _read(self) -> dict[str, list[int]]:
        """For each module that reads a scored feature map, the views that score it."""
        found: dict[str, list[int]] = {}
        for layer, producer in enumerate(self.producers):
            found.setdefault(producer.consumers[0].module, []).append(layer)
        return found

    def _blocks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels of `size` images, padded with black ones, and the labels of the real ones."""
        device = device_of(self.net)
        scale = self.preprocessing.on(device)
        for pixels, labels in self.images.batches(size, device):
            if len(labels) < size:
                padding = (0, 0, 0, 0, 0, 0, 0, size - len(labels))
                pixels = torch.nn.functional.pad(pixels, padding)
            yield scale(pixels), labels

    def _walk(
        self,
        block: tuple[Tensor, Tensor],
        see: Callable[[int, Tensor, Tensor], None],
        take: Callable[[str, Tensor], None] | None = None,
    ) -> None:
        """Runs the network on a block and shows each view its maps.

        `take` gets the inputs of each layer that collectors of inputs wait for.

        Each map is shown when it is read: it need not be kept, and nothing can change it before.
        """
        pixels, of_block = block

        def read(name: str, inputs: Tensor) -> None:
            for layer in self._read.get(name, ()):
                see(layer, maps_of(self.producers[layer], inputs)[: len(of_block)], of_block)
            if take is not None and name in self.inputs:
                take(name, inputs[: len(of_block)])

        with self._reading(read, [] if take is None else self.inputs):
            self.net(pixels)

    def _reading(
        self, read: Callable[[str, Tensor], None], others: Iterable[str] = ()
    ) -> AbstractContextManager[None]:
        """Calls `read` with the name and the input of each module that reads a scored map.

        Parameters
        ----------
        others : names of modules that it is called for too.
        """
        names = dict.fromkeys([*self._read, *others])
        return reading({self.net.get_submodule(name): partial(read, name) for name in names})

    @contextmanager
    def _making(self, made: dict[str, Tensor], names: Iterable[str]) -> Iterator[None]:
        """Notes what convolutions compute, and shows others a copy that they may change."""

        def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
            def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
                made[name] = output
                return output.clone()

            return hook

        handles = [self.net.get_submodule(name).register_forward_hook(note(name)) for name in names]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _cut(self, values: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The maps of a batch of images at a time, without those of the padding."""
        parts = values[: len(labels)].split(self.batch)
        return zip(parts, labels.split(self.batch), strict=True)


def _note(inputs: dict[str, tuple[Tensor, int]], name: str, read: Tensor) -> None:
    """Notes what a module reads, and how often it was changed in place before."""
    inputs[name] = read, read._version


def _no_origin(values: Tensor) -> Tensor:
    """Zeros, for collectors that read no squared distances."""
    return values.new_zeros(values.shape[1], dtype=torch.float64)


def _producing(net: nn.Module, producer: Producer) -> nn.Conv2d:
    layer = net.get_submodule(producer.name)
    assert isinstance(layer, nn.Conv2d)
    return layer


def _finish(collectors: Collectors | FilterCollectors) -> dict[Request, Answer]:
    waiting = cast("dict[Request, Collector | FilterCollector]", collectors)
    answers = {}
    for request in list(waiting):
        # Each collector is dropped at once, so that its averages are freed before the next counts.
        answers[request] = waiting.pop(request).finish()
    return answers


def _plain(answer: Answer) -> Answer:
    for tensor in answer.values():
        if not bool(tensor.isfinite().all()):
            raise StatisticsError(NOT_FINITE)
    return {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in answer.items()
    }
