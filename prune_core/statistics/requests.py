"""Requests for channel statistics, and the collectors that answer them.

A request is a value that describes a statistic and creates the collector that accumulates it. Its
`repr` is part of keys. Counts are int64 and sums float64, so that answers do not depend on the
batch size.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from prune_core.networks.module import ReadingLayer
from prune_core.statistics.maps import Maps

Answer = dict[str, Tensor]
"""The answer to one request for one layer: named tensors. For a statistic of feature maps, their
first axis is the channels."""

# fp32 has about 7 digits: a spread below this fraction of the values is only rounding error.
RESOLUTION = 1e-6

NOT_FINITE = "feature maps are NaN or infinite; the network has diverged"


class StatisticsError(ValueError):
    """Statistics cannot be collected, or were not collected."""


class Collector(Protocol):
    """Accumulates the answer to one request for one layer."""

    def update(self, maps: Maps) -> None:
        """Adds a batch of images."""

    def finish(self) -> Answer:
        """The answer over all images that were added."""


@runtime_checkable
class Previewing(Protocol):
    """A collector that needs a first pass over all images before `update`."""

    def preview(self, maps: Maps) -> None:
        """Reads a batch of images in the first of two passes."""


class MapRequest(Protocol):
    """A statistic of a channel's feature maps that metrics can ask for.

    Attributes
    ----------
    gradients : whether its collector reads `Maps.gradients`, which need a backward pass.
    """

    gradients: ClassVar[bool]

    def collector(self, classes: int) -> Collector:
        """A new collector for one layer."""


class InputCollector(Protocol):
    """Accumulates what is known of the inputs of one layer."""

    def update(self, inputs: Tensor) -> None:
        """Adds the inputs of a batch of images, as the layer reads them."""

    def finish(self) -> Answer:
        """The answer over all images that were added; its tensors may have any shape."""


@runtime_checkable
class InputRequest(Protocol):
    """A statistic of what the layers read that read the channels of a group.

    Its answer has fields `<name of the layer>.<field>`. Each layer is answered once, in the answer
    of the first producer whose channels it reads.
    """

    gradients: ClassVar[bool]

    def of_inputs(self, layer: ReadingLayer) -> InputCollector:
        """A new collector for one layer."""


class FilterCollector(Protocol):
    """Accumulates what is known of the filters of one convolution."""

    def update(self, inputs: Tensor, outputs: Tensor, gradients: Tensor) -> None:
        """Adds a batch of images.

        Parameters
        ----------
        inputs : [N, I, H, W], what the convolution reads.
        outputs : [N, O, H', W'], what it computes, with its bias.
        gradients : of each image's loss with respect to the outputs.
        """

    def finish(self) -> Answer:
        """The answer over all images that were added."""


@runtime_checkable
class FilterRequest(Protocol):
    """A statistic of the gradients of the loss with respect to the filters of each producer."""

    gradients: ClassVar[bool]

    def of_filters(self, layer: nn.Conv2d, positions: Tensor) -> FilterCollector:
        """A new collector for one producer.

        Parameters
        ----------
        positions : of the channels among the outputs of the layer, [C, r], int64.
        """


@runtime_checkable
class NetworkRequest(Protocol):
    """A statistic of the network alone, which reads no images."""

    gradients: ClassVar[bool]

    def of_network(self, net: nn.Module, image_size: tuple[int, int]) -> list[Answer]:
        """The answer for each producer of each channel group."""


Request = MapRequest | InputRequest | FilterRequest | NetworkRequest
"""A statistic that metrics can ask for."""
