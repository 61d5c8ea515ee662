"""Metrics that compare a channel with its layer, where the layer is in several groups."""

import pytest
import torch
from torch import nn

import prune_core
from prune_core.layer import LayerView, views
from prune_core.metrics import Choice
from prune_core.networks import Architecture, architecture_of
from prune_core.statistics import ClassMoments, Moments

EXPLAINED = 0.1
"""The fraction of every channel's variance that lies between its two classes."""


class Concatenated(nn.Module):
    """One convolution reads the outputs of two; a linear layer reads 4 pixels of 3 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.few, self.many = nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(3, 7, 3, padding=1)
        self.reader = nn.Conv2d(9, 3, 3, padding=1)
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        x = self.reader(torch.cat([self.few(x).relu(), self.many(x).relu()], dim=1)).relu()
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


def networks():
    torch.manual_seed(0)
    return {
        "shortcut A": Architecture.named("resnet20", 10).build(),
        # A convolution in the shortcut: two producers make the channels that the next layer reads.
        "shortcut B": Architecture.named("resnet20", 10, options={"shortcut": "B"}).build(),
        "concatenation": prune_core.adopt(Concatenated(), 10),
        "chain": Architecture.named("simplenet_310k", 10, width=0.25).build(),
    }


@pytest.fixture(scope="module", params=["shortcut A", "shortcut B", "concatenation", "chain"])
def case(request):
    """The views with made-up statistics, and for each the variance of all inputs of its readers."""
    net = networks()[request.param]
    chance = torch.Generator().manual_seed(1)
    producers = architecture_of(net).groups.producers
    # Producers that are added before a layer reads them have one feature map.
    maps = [(one.consumers[0].module, int(one.consumers[0].positions[0, 0])) for one in producers]
    of_map = {
        place: torch.rand(len(one.positions), generator=chance, dtype=torch.float64) + 0.1
        for place, one in zip(maps, producers, strict=True)
    }
    variances = [of_map[place] for place in maps]
    found = views(net, [_answers(variance) for variance in variances])
    inputs: dict[str, torch.Tensor] = {}
    for producer, variance in zip(producers, variances, strict=True):
        for consumer in producer.consumers:
            size = net.get_submodule(consumer.module).weight.shape[1]
            whole = inputs.setdefault(consumer.module, torch.full((size,), torch.nan).double())
            whole[consumer.positions] = variance[:, None]
    return net, list(zip(found, producers, strict=True)), inputs


def _answers(variance):
    """Statistics of channels with this variance, and mean 0."""
    shift = (EXPLAINED * variance).sqrt()
    classes = {
        "count": torch.full((len(variance), 2), 500),
        "mean": torch.stack([shift, -shift], dim=1),
        "variance": ((1 - EXPLAINED) * variance)[:, None].expand(-1, 2),
    }
    return {
        Moments(): {"mean": torch.zeros_like(variance), "variance": variance},
        ClassMoments(): classes,
    }


def _power(net, consumer, inputs):
    """Weights squared times the variance of what they read, [J, inputs, k^2], of a whole layer."""
    weight = net.get_submodule(consumer.module).weight.detach().double()
    return (
        weight.flatten(2 if weight.ndim > 2 else 1).reshape(*weight.shape[:2], -1).square()
        * (inputs[consumer.module][:, None])
    )


def scores(name: str, layer: LayerView):
    return Choice.parse(name)([layer])[0]


def test_fpgm_compares_a_filter_with_all_filters_of_its_convolution(case):
    net, found, _ = case
    for layer, producer in found:
        filters = net.get_submodule(producer.name).weight.detach().double().flatten(1)
        expected = (filters[:, None] - filters).square().sum(dim=2).sqrt().sum(dim=1)
        torch.testing.assert_close(scores("fpgm", layer), expected[producer.positions[:, 0]])


def test_the_power_of_other_channels_is_that_of_the_whole_input(case):
    net, found, inputs = case
    for layer, producer in found:
        expected = torch.zeros(layer.channels, dtype=torch.float64)
        for consumer in producer.consumers:
            power = _power(net, consumer, inputs).sum(dim=2)
            own = power[:, consumer.positions].sum(dim=2)
            signal = own / (power.sum(dim=1, keepdim=True) - own)
            terms = 0.5 * ((1 + signal) / (1 + signal * (1 - EXPLAINED))).log()
            expected += terms.sum(dim=0)
        torch.testing.assert_close(scores("wmi_snr", layer), expected)


def test_a_share_is_that_of_all_weights_of_a_filter(case):
    net, found, inputs = case
    for layer, producer in found:
        logs = []
        for consumer in producer.consumers:
            power = _power(net, consumer, inputs)
            share = (power / power.mean(dim=(1, 2), keepdim=True)).sqrt().clamp(min=1e-3)
            logs.append(share[:, consumer.positions].log().transpose(0, 1).flatten(1))
        choice = "wmi_gauge_free(information=gaussian, estimator=pixel)"
        known = scores("mutual_information_gaussian(estimator=pixel)", layer)
        expected = known + torch.cat(logs, dim=1).mean(dim=1)
        torch.testing.assert_close(scores(choice, layer), expected)


def test_kse_is_scaled_over_all_that_a_consumer_reads(case):
    _, found, _ = case
    layers = [layer for layer, _ in found]
    readers = {reader.name for layer in layers for reader in layer.readers}
    for name in readers:
        parts = [
            (layer, number)
            for layer in layers
            for number, reader in enumerate(layer.readers)
            if reader.name == name
        ]
        norms = torch.cat([one.kernels[at].flatten(1).abs().sum(dim=1) for one, at in parts])
        scaled = (norms - norms.min()) / (norms.max() - norms.min())
        # With alpha 0 the score is the root of the scaled norm.
        found_here = [scores("kse(alpha=0)", one) for one, _ in parts]
        if all(len(one.readers) == 1 for one, _ in parts):
            torch.testing.assert_close(torch.cat(found_here), scaled.sqrt())
