"""What modules read: the feature maps of a producer in it, and whether it stayed as it was."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from prune_core.networks.groups import Producer
from prune_core.statistics.requests import StatisticsError


def maps_of(producer: Producer, inputs: Tensor) -> Tensor:
    """The channels of a producer in the input of its consumer, [N, C, H, W].

    Parameters
    ----------
    inputs : [N, F, H, W], or [N, F] of a linear layer.
    """
    consumer = producer.consumers[0]
    positions = consumer.positions
    channels, repeats = positions.shape
    if not (consumer.in_order and positions.numel() == inputs.shape[1]):
        inputs = inputs[:, positions.flatten().to(inputs.device)]
    if inputs.ndim == 2:
        return inputs.unflatten(1, (channels, *producer.window(repeats)))
    if repeats > 1:
        # The channels are there several times; the copies are more positions of the map.
        return inputs.unflatten(1, (channels, repeats)).flatten(2, 3)
    return inputs


def check_unchanged(read: Mapping[str, tuple[Tensor, int]]) -> None:
    """Refuses what was changed in place after a module read it: it has no gradient.

    Parameters
    ----------
    read : by the name of a module its input, and how often that was changed in place before.

    Raises
    ------
    StatisticsError
        Naming the module.
    """
    for name, (inputs, version) in read.items():
        if inputs._version != version:
            raise StatisticsError(
                f"the input of {name} is changed in place after it was read, so it has "
                "no gradient; use operations that are not in place there"
            )
