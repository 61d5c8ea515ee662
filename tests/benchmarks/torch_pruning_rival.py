"""Scoring and removing channels: our code compared with torch-pruning, at the same widths.

python tests/benchmarks/torch_pruning_rival.py [--quick]
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from importlib.metadata import version

import torch
import torch_pruning
from made_up import CLASSES
from measuring import Load, begin, finish, in_turns, options, section, speed_ratio, table
from torch import nn

from prune_core.budgets import local, uniform_parameters
from prune_core.layer import views
from prune_core.metrics import Choice
from prune_core.networks import IMAGE_SIZE, INPUT_CHANNELS, Architecture, SimpleNet
from prune_core.surgery import prune

RATIO = 0.3
ROUNDING = 1e-4


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the seconds of both, after a check that they remove the same channels."""
    given = begin(options(__doc__), arguments)
    repeats = given.repeats or (2 if given.quick else 15)
    rows = []
    for variant in ["simplenet_310k"] if given.quick else ["simplenet_310k", "simplenet_5m"]:
        net = SimpleNet(Architecture.named(variant, CLASSES)).eval()
        kept = same_network(ours(net), theirs(net))
        mine, other = in_turns(
            Load(lambda net=net: ours(net)), Load(lambda net=net: theirs(net)), repeats=repeats
        )
        seconds = [timed.seconds.times(1e3).text(1) for timed in (mine, other)]
        rows.append([f"`{variant}`", f"{kept:,}", *seconds, speed_ratio(mine, other).text(1)])
    columns = ["network", "parameters left by both", "ours, ms", "torch-pruning, ms"]
    columns += ["ours, times as fast"]
    note = (
        f"Median (lowest to highest) of {repeats} turns: L1 norms of the filters, one keep "
        f"fraction for all layers, {RATIO} of the parameters, a new network with the original left "
        f"as it was. torch-pruning {version('torch-pruning')} was given the widths, since it "
        "knows no budget of parameters; counts and outputs of both networks agree."
    )
    name = "torch_pruning_rival"
    finish(name, section(f"{table(columns, rows)}\n\n{note}"), given.quick)


def ours(net: SimpleNet) -> SimpleNet:
    """Scores, budget and removal of channels by prune_core."""
    scores = Choice.of("input_l1")(views(net))
    return prune(net, local(scores, net.architecture, RATIO))


def theirs(net: SimpleNet) -> nn.Module:
    """The same by torch-pruning, which prunes in place and therefore gets a copy."""
    smaller = deepcopy(net)
    full = net.architecture.widths
    # Keep half a channel more, because torch-pruning rounds the remaining channels down.
    ratios = {
        block.conv: (width - left - 0.5) / width if left < width else 0.0
        for block, width, left in zip(
            smaller.blocks, full, uniform_parameters(net.architecture, RATIO), strict=True
        )
    }
    example = torch.zeros(1, INPUT_CHANNELS, *IMAGE_SIZE)
    norms = torch_pruning.importance.MagnitudeImportance(
        p=1, group_reduction="first", normalizer=None
    )
    pruner = torch_pruning.pruner.BasePruner(
        smaller,
        example,
        norms,
        pruning_ratio_dict=ratios,
        ignored_layers=[smaller.classifier],
    )
    pruner.step()
    return smaller


def same_network(one: nn.Module, other: nn.Module) -> int:
    """The number of parameters of two networks, after a check that they are the same.

    Raises
    ------
    ValueError
        If their numbers of parameters or their outputs differ.
    """
    counts = [sum(p.numel() for p in net.parameters()) for net in (one, other)]
    if counts[0] != counts[1]:
        raise ValueError(f"ours has {counts[0]:,} parameters, torch-pruning's {counts[1]:,}")
    chance = torch.Generator().manual_seed(0)
    images = torch.randn(4, INPUT_CHANNELS, *IMAGE_SIZE, generator=chance)
    with torch.inference_mode():
        mine, theirs = one.eval()(images), other.eval()(images)
    difference = float((mine - theirs).abs().max() / mine.abs().max())
    if not difference < ROUNDING:
        raise ValueError(f"outputs differ by {difference:.2g} of the largest: other channels")
    return counts[0]


if __name__ == "__main__":
    main()
