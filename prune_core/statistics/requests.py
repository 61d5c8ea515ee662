"""What it means to ask something of a channel's feature maps.

A request is a value: it says what is wanted, gives the collector that accumulates it, and its
`repr` is its name in keys and file names. Counts are int64 and sums float64, so that no answer
depends on how the images were cut into batches.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from prune_core.statistics.maps import Maps

Answer = dict[str, Tensor]
"""One request's answer for one layer: named tensors, the first axis being channels."""

# fp32 keeps about 7 digits: a spread below this share of the values is rounding, not signal.
RESOLUTION = 1e-6

NOT_FINITE = "feature maps are NaN or infinite; the network has diverged"


class StatisticsError(ValueError):
    """Statistics that cannot be collected, or that were not."""


class Collector(Protocol):
    """Accumulates one request's answer for one layer."""

    def update(self, maps: Maps) -> None:
        """Takes in some images."""

    def finish(self) -> Answer:
        """The answer over all images taken in."""


@runtime_checkable
class Previewing(Protocol):
    """A collector that must see all images once before it can take them in."""

    def preview(self, maps: Maps) -> None:
        """Sees some images in the first of two passes."""


class Request(Protocol):
    """Something that metrics may need to know of a channel's feature maps.

    Attributes
    ----------
    gradients : whether its collector reads `Maps.gradients`, which cost a backward pass.
    """

    gradients: ClassVar[bool]

    def collector(self, classes: int) -> Collector:
        """A fresh collector for one layer."""
