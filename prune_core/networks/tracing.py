"""Finds the channel groups of a network by tracing it.

torch.fx records the operations of a forward pass (`recording`), labels follow the channels through
the operations (`operations`, `labels`), and channels whose labels occur on the same axes form a
group (`grouping`).
"""

from __future__ import annotations

from torch import nn

from prune_core.networks import groups as kinds
from prune_core.networks.errors import ArchitectureError
from prune_core.networks.grouping import Grouping
from prune_core.networks.groups import Groups, Length, Sizes, Term
from prune_core.networks.operations import Walk
from prune_core.networks.recording import record


def trace(
    net: nn.Module,
    image_size: tuple[int, int],
    classes: int | None = None,
    grouping: kinds.Grouping = "all",
) -> Groups:
    """The channel groups of a network for images [N, 3, H, W] of a size.

    No weight is read, and the network is not changed. Channels that an addition joins are one
    group.

    Parameters
    ----------
    classes : the number of logits that the network must return; None for any number.
    grouping : which groups can be pruned.

    Raises
    ------
    ArchitectureError
        If the network cannot be traced (the message names the module), if its output is not a
        tensor [N, classes], or if no channel can be removed.
    """
    recording = record(net, image_size)
    found = Grouping(Walk(net, recording.results, classes), recording).groups()
    return inner(found) if grouping == "inner" else found


def inner(groups: Groups) -> Groups:
    """Only the groups that no addition joins; the others keep all their channels.

    Raises
    ------
    ArchitectureError
        If there is none.
    """
    chosen = [index for index, group in enumerate(groups.groups) if not group.joined]
    if not chosen:
        raise ArchitectureError(
            "additions join all channels of this network, so no inner group is left; use groups: "
            "all"
        )
    place = {old: new for new, old in enumerate(chosen)}

    def fixed(length: Length) -> Length:
        stay = sum(r * groups.widths[g] for g, r in length.repeats if g not in place)
        return Length(
            length.fixed + stay, tuple((place[g], r) for g, r in length.repeats if g in place)
        )

    def narrowed(terms: tuple[Term, ...]) -> tuple[Term, ...]:
        return tuple((factor, tuple(map(fixed, lengths))) for factor, lengths in terms)

    sizes = groups.sizes
    joined = [(group.name, "an addition joins them") for group in groups.groups if group.joined]
    return Groups(
        tuple(groups.groups[index] for index in chosen),
        Sizes(narrowed(sizes.parameter_terms), narrowed(sizes.mac_terms)),
        (*groups.fixed, *joined),
    )
