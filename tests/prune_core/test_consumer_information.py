"""The Gaussian information of channels with what reads them, against regressions."""

import math

import numpy as np
import pytest
import torch
from made_up_networks import CLASSES, architecture, lived_in
from torch import nn

from prune_core.images import LabelledImages
from prune_core.layer import Reader, views
from prune_core.metrics import Choice, MetricError
from prune_core.metrics.consumers import informations
from prune_core.networks.module import reading
from prune_core.preprocessing import Preprocessing
from prune_core.statistics import InputMoments, Patches, collect

SCALING = Preprocessing((120.0,) * 3, (60.0,) * 3)


def by_regression(reader, patches):
    """-0.5 ln(1 - R^2) of each output on each channel's inputs, [C, J], by lstsq."""
    rows = (patches - patches.mean(dim=0)).numpy()
    outputs = rows @ reader.weight.numpy().T
    found = np.zeros((len(reader.columns), outputs.shape[1]))
    for channel, columns in enumerate(reader.columns.numpy()):
        own = rows[:, columns]
        left = outputs - own @ np.linalg.lstsq(own, outputs, rcond=1e-6)[0]
        for j in range(outputs.shape[1]):
            whole = float((outputs[:, j] ** 2).sum())
            share = 1 - float((left[:, j] ** 2).sum()) / whole if whole > 1e-20 else 0.0
            found[channel, j] = -0.5 * math.log(max(1 - share, 1e-12))
    return found


def of_layer(layer, channels):
    """A reader whose inputs are all channels of one group, in order."""
    area = layer.weight[0, 0].numel()
    columns = torch.arange(channels * area).view(channels, area)
    return Reader("reader", layer, columns, True)


def test_independent_inputs():
    """Each explains the share that its weight and its variance have in the output."""
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2, 0], [3, 0, 0]]))
    moments = InputMoments(torch.zeros(3), torch.diag(torch.tensor([4.0, 1, 9])).double(), 0)
    found = informations(of_layer(layer, 3), moments)
    # The first output has the variance 4 + 4, the second one is the first input.
    half, most = 0.5 * math.log(2), -0.5 * math.log(1e-12)
    expected = [[half, most], [half, 0], [0, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)


def test_an_output_that_never_changes_tells_nothing():
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 5], [1, 1]]))
    moments = InputMoments(torch.ones(2), torch.diag(torch.tensor([2.0, 0])).double(), 0)
    found = informations(of_layer(layer, 2), moments)
    assert found[1].tolist() == [0, 0]  # the input is constant
    assert found[:, 0].tolist() == [0, 0]
    assert found[0, 1] == pytest.approx(13.8155, abs=1e-4)


@pytest.mark.parametrize("kernel", [1, 2, (1, 3)])
def test_correlated_inputs_are_those_of_a_regression(kernel):
    layer = nn.Conv2d(4, 5, kernel)
    inputs = layer.weight[0].numel()
    patches = torch.randn(600, inputs).double() @ torch.randn(inputs, inputs).double()
    patches = patches * torch.randn(inputs).exp() + 3
    area = inputs // 4
    if area > 1:
        patches[:, area - 1] = patches[:, 0]  # two pixels of one channel are equal
    about = patches - patches.mean(dim=0)
    moments = InputMoments(patches.mean(dim=0), about.T @ about / 600, 600)
    reader = of_layer(layer, 4)
    found = informations(reader, moments)
    np.testing.assert_allclose(found, by_regression(reader, patches), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["separable", "concatenating", "two_heads", "resnet_b_all"])
def test_scores_of_a_network_are_those_of_regressions(name):
    net = lived_in(architecture(name, (16, 16)))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (60, 3, 16, 16), generator=generator, dtype=torch.uint8)
    data = LabelledImages(pixels, torch.arange(60) % CLASSES)
    choice = Choice.parse("consumer_information(positions=4)")
    layers = views(net, collect(net, data, SCALING, choice.needs()))
    readers = {reader.name: reader for layer in layers for reader in layer.readers}
    patches = {}

    def take(reader, inputs):
        found = Patches(reader.layer, 4, 0).take(inputs)
        patches[reader.name] = found.flatten(0, 1).double()

    hooks = {one.layer: lambda inputs, one=one: take(one, inputs) for one in readers.values()}
    with reading(hooks), torch.no_grad():
        net(SCALING(data.images))
    for layer, scores in zip(layers, choice(layers), strict=True):
        expected = np.concatenate(
            [by_regression(reader, patches[reader.name]) for reader in layer.readers], axis=1
        ).mean(axis=1)
        np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)
        assert scores.min() >= 0


def test_positions_are_checked():
    with pytest.raises(MetricError, match="'positions' is 0; it must be 1 or more"):
        Choice.parse("consumer_information(positions=0)")
