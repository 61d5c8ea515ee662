"""Parameters and multiply-accumulates of widths: what the pruned network really has."""

import pytest
import torch
from made_up_networks import CLASSES, NAMES, Class, architecture, random_kept
from torch import nn

from prune_core.cost import (
    cost,
    count_multiply_accumulates,
    count_parameters,
    macs,
    multiply_accumulates,
    parameters,
)
from prune_core.networks import SimpleNetArchitecture, of
from prune_core.surgery import prune


class Unusual(nn.Module):
    """Multiply-accumulates in a function, in a layer that is called twice, in a frozen layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.frozen = nn.Conv2d(6, 5, 1).requires_grad_(False)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(4, 5, 1, 1))
        self.linear = nn.Linear(4, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.frozen(torch.relu(self.stem(images)))
        maps = self.twice(self.twice(nn.functional.conv2d(maps, self.weight)))
        tokens = self.linear(maps.flatten(2).transpose(1, 2))
        return tokens.mean(1)


@pytest.mark.parametrize("size", [(32, 32), (40, 56)])
@pytest.mark.parametrize("name", NAMES)
def test_costs_are_those_of_the_pruned_network(name, size):
    shape = architecture(name, size)
    net = shape.build()
    assert macs(shape) == count_multiply_accumulates(net, size) == multiply_accumulates(shape)
    for seed, share in ((1, 0.7), (2, 0.2)):
        kept = random_kept(shape.widths, seed, share)
        widths, smaller = tuple(map(len, kept)), prune(net, kept)
        assert macs(shape, widths) == count_multiply_accumulates(smaller, size) < macs(shape)
        assert parameters(shape, widths) == count_parameters(smaller)


def test_whatever_no_group_changes_counts_too():
    shape = of(Class(Unusual), CLASSES, (8, 12))
    assert shape.groups.names == ("stem",)
    net = shape.build()
    # stem, frozen, the function, twice, and a linear layer at every position; 4 x 6 positions.
    full = 24 * (6 * 27 + 6 * 5 + 5 * 4 + 2 * 4 * 36 + 4 * CLASSES)
    assert macs(shape) == count_multiply_accumulates(net, (8, 12)) == full
    smaller = prune(net, [torch.tensor([0, 3])])
    assert macs(shape, (2,)) == count_multiply_accumulates(smaller, (8, 12))
    assert macs(shape, (2,)) == full - 24 * 4 * (27 + 5)


def test_costs_of_a_network_computed_by_hand():
    # 3 x 3 on 8 x 8 pixels, pooled; 1 x 1 on 4 x 4; then the linear layer on one position.
    shape = SimpleNetArchitecture((5, 7), (3, 1), (True, False), 3, (8, 8))
    assert macs(shape) == 64 * 3 * 9 * 5 + 16 * 5 * 7 + 7 * 3
    assert macs(shape, (2, 4)) == 64 * 3 * 9 * 2 + 16 * 2 * 4 + 4 * 3
    assert parameters(shape, (2, 4)) == 2 * (27 + 3) + 4 * (2 + 3) + 4 * 3 + 3
    assert cost(shape, "macs", (2, 4)) == macs(shape, (2, 4))
    assert cost(shape, "parameters") == parameters(shape)


@pytest.mark.parametrize("of", ["parameters", "macs"])
@pytest.mark.parametrize("name", ["resnet_b_all", "separable", "concatenating"])
def test_a_difference_is_that_of_two_costs(name, of):
    shape = architecture(name)
    sizes, widths = shape.groups.sizes, list(map(len, random_kept(shape.widths, 4)))
    for group, width in enumerate(widths):
        changed = [*widths]
        changed[group] = max(1, width - 2)
        found = sizes.difference(widths, group, changed[group], of)
        assert found == cost(shape, of, widths) - cost(shape, of, changed)
        assert (found > 0) == (width > 1)
