"""Statistics of filters and their gradients, and the flow of a network, by plain autograd."""

import copy

import pytest
import torch
from made_up_networks import CLASSES, Class, architecture, lived_in
from torch import nn

import prune_core
from prune_core.images import LabelledImages
from prune_core.layer import views
from prune_core.metrics import Choice
from prune_core.networks import channel_groups, of
from prune_core.networks.module import reading
from prune_core.preprocessing import Preprocessing
from prune_core.statistics import (
    FilterGradientProduct,
    FilterGradientSquares,
    GradientProduct,
    StatisticsError,
    SynapticFlow,
    collect,
    filters,
)

SCALING = Preprocessing((120.0,) * 3, (60.0,) * 3)
BOTH = [FilterGradientProduct(), FilterGradientSquares()]


def images(count, size=(16, 16), seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(count) % CLASSES)


def by_autograd(net, data):
    """Of each producer, both statistics from the gradients of each image's weights, in float64."""
    exact = copy.deepcopy(net).double()
    producers = channel_groups(net).producers
    weights = [exact.get_submodule(one.name).weight for one in producers]
    products = [torch.zeros(len(one.positions), dtype=torch.float64) for one in producers]
    squares = [torch.zeros_like(one) for one in products]
    for pixels, label in zip(SCALING(data.images).double(), data.labels, strict=True):
        loss = nn.functional.cross_entropy(exact(pixels[None]), label[None])
        for index, slope in enumerate(torch.autograd.grad(loss, weights)):
            each = (weights[index].detach() * slope)[producers[index].positions].flatten(1)
            products[index] += each.sum(dim=1).square() / len(data)
            squares[index] += each.square().sum(dim=1) / len(data)
    return products, squares


def agrees(net, data):
    for found, product, square in zip(
        collect(net, data, SCALING, BOTH), *by_autograd(net, data), strict=True
    ):
        for tensor, expected in (
            (found[BOTH[0]]["square"], product),
            (found[BOTH[1]]["sum"], square),
        ):
            assert tensor.dtype is torch.float64
            scale = float(expected.max())
            torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=1e-6 * scale)


# Depthwise convolutions, branches, sums of several producers, and more than a block of images.
@pytest.mark.parametrize(
    ("name", "count"),
    [("separable", 6), ("concatenating", 6), ("two_heads", 150), ("resnet_b_all", 5)],
)
def test_gradients_of_filters_are_those_of_each_image(name, count):
    agrees(lived_in(architecture(name, (16, 16))), images(count))


class InPlace(nn.Module):
    """Activations that overwrite what a convolution computed, and no batch normalisation."""

    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.second = nn.Conv2d(5, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.classifier = nn.Linear(6, classes)

    def forward(self, pixels):
        maps = self.relu(self.second(self.relu(self.first(pixels))))
        return self.classifier(maps.mean(dim=(2, 3)))


def test_what_a_convolution_computed_may_be_changed_in_place():
    net, data = lived_in(of(Class(InPlace), CLASSES, (16, 16))), images(7)
    with torch.no_grad():
        before = net(SCALING(data.images))
    agrees(net, data)
    with torch.no_grad():
        assert torch.equal(net(SCALING(data.images)), before)


@pytest.mark.parametrize("chunk", [1, 3000, 1 << 24])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3, stride=2, padding=2, dilation=2, groups=2),
        nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False),
        nn.Conv2d(6, 4, (3, 2), padding="same", padding_mode="reflect"),
        nn.Conv2d(6, 4, 1, stride=3),
        nn.Conv2d(6, 4, (1, 5), padding=(0, 3), padding_mode="circular"),
    ],
    ids=str,
)
def test_convolutions_of_every_kind(monkeypatch, layer, chunk):
    monkeypatch.setattr(filters, "VALUES_AT_A_TIME", chunk)
    inputs = torch.randn(9, 6, 11, 10)
    outputs = layer(inputs).detach()
    slopes = torch.randn_like(outputs)
    positions = torch.randperm(layer.out_channels).view(-1, 2)  # two filters of each channel
    expected = torch.zeros(2, len(positions), dtype=torch.float64)
    exact = copy.deepcopy(layer).double()
    for image, slope in zip(inputs.double(), slopes.double(), strict=True):
        (gradient,) = torch.autograd.grad(exact(image[None]), exact.weight, slope[None])
        each = (exact.weight.detach() * gradient)[positions].flatten(1)
        expected += torch.stack([each.sum(dim=1).square(), each.square().sum(dim=1)]) / 9
    for request, wanted in zip(BOTH, expected, strict=True):
        collector = request.of_filters(layer, positions)
        for part in ((0, 2), (2, 9)):
            collector.update(*(one[slice(*part)] for one in (inputs, outputs, slopes)))
        (found,) = collector.finish().values()
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6 * float(wanted.max()))


def test_images_are_divided_by_the_layer_alone():
    net, data = lived_in(architecture("separable", (16, 16))), images(40)
    whole = collect(net, data, SCALING, [GradientProduct(), *BOTH])
    for batch in (1, 9):
        for one, other in zip(
            whole, collect(net, data, SCALING, [*BOTH, GradientProduct()], batch), strict=True
        ):
            for request, answer in one.items():
                for field, tensor in answer.items():
                    assert torch.equal(tensor, other[request][field])


# A network by hand: two channels, then three, then the sum of two logits.


class ByHand(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.second = nn.Conv2d(2, 3, 1, bias=False)
        self.classifier = nn.Linear(3, classes)

    def forward(self, pixels):
        maps = torch.relu(self.second(torch.relu(self.norm(self.first(pixels)))))
        return self.classifier(maps.sum(dim=(2, 3)))


def test_the_flow_of_a_network_by_hand():
    net = of(Class(ByHand), 2, (1, 2)).build().eval()
    with torch.no_grad():
        net.first.weight.copy_(torch.tensor([[1.0, -2, 3], [0.5, 0, -0.5]])[:, :, None, None])
        net.first.bias.fill_(-100.0)
        net.norm.weight.copy_(torch.tensor([-3.0, 4]))
        net.norm.bias.fill_(7.0)
        net.norm.running_mean.fill_(11.0)
        net.norm.running_var.copy_(torch.tensor([4.0, 0.25]) - net.norm.eps)
        net.second.weight.copy_(torch.tensor([[1.0, -1], [0, 2], [-0.25, 0]])[:, :, None, None])
        net.classifier.weight.copy_(torch.tensor([[1.0, -2, 0], [-1, 0, 8]]))
    # Each of 2 pixels: channels 6 * 3 / 2 = 9 and 1 * 4 / 0.5 = 8; then 17, 16 and 2.25. A channel
    # of the last three counts |1| + |-1| = 2, 2 and 8 in the sum of the logits.
    first, second = collect(net, images(1, (1, 2)), SCALING, [SynapticFlow()])
    flow = SynapticFlow()
    assert second[flow]["flow"].tolist() == pytest.approx([2 * 34, 2 * 32, 2 * 18], rel=1e-6)
    assert first[flow]["flow"].tolist() == pytest.approx(
        [2 * 9 * (1 * 2 + 0.25 * 8), 2 * 8 * (1 * 2 + 2 * 2)], rel=1e-6
    )


@pytest.mark.parametrize("name", ["simplenet", "vgg"])
def test_flow_is_conserved_along_a_chain(name):
    net = lived_in(architecture(name))
    sums = [
        float(one[SynapticFlow()]["flow"].sum())
        for one in collect(net, images(1, (32, 32)), SCALING, [SynapticFlow()])
    ]
    assert len(sums) > 5
    assert sums == pytest.approx([sums[0]] * len(sums), rel=1e-12)
    assert sums[0] > 0


@pytest.mark.parametrize("name", ["resnet_a_all", "resnet_b_inner", "concatenating", "separable"])
def test_flow_is_the_derivative_of_a_gate(name):
    net = lived_in(architecture(name, (16, 16)))
    state = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    answers = collect(net, images(2), SCALING, [SynapticFlow()])
    assert all(torch.equal(tensor, state[key]) for key, tensor in net.state_dict().items())
    producers = channel_groups(net).producers
    positive = copy.deepcopy(net).double()
    with torch.no_grad():
        for module in positive.modules():
            for key, tensor in module.named_parameters(recurse=False):
                tensor.copy_(tensor.abs() * (key != "bias"))
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.zero_()
        for part in ("stem", "blocks") if name == "separable" else ():
            for block in (getattr(positive, part), *getattr(positive, part).children()):
                for key, child in block.named_children():
                    if isinstance(child, nn.ReLU6 | nn.Hardswish):
                        setattr(block, key, nn.ReLU())
    ones = torch.ones(1, 3, 16, 16, dtype=torch.float64)

    def gated(consumer, channel, factor):
        """The sum of the logits if the reader of a feature map sees the channel rescaled."""

        def reads(inputs):
            scale = torch.ones(inputs.shape[1], dtype=torch.float64)
            scale[consumer.positions[channel]] = factor
            return inputs * scale.view(1, -1, *[1] * (inputs.ndim - 2))

        with reading({positive.get_submodule(consumer.module): reads}), torch.no_grad():
            return float(positive(ones).sum())

    # Of other producers, an addition or another layer reads the map too.
    joined = [group.joined for group in channel_groups(net).groups for _ in group.producers]
    checked = 0
    for producer, of_sum, answer in zip(producers, joined, answers, strict=True):
        found = answer[SynapticFlow()]["flow"]
        assert (found >= 0).all()
        if of_sum or len(producer.consumers) > 1:
            continue
        checked += 1
        for channel in (0, len(found) - 1):
            above, below = (
                gated(producer.consumers[0], channel, factor) for factor in (1.001, 0.999)
            )
            slope = (above - below) / 0.002
            assert float(found[channel]) == pytest.approx(slope, rel=1e-6), producer.name
    assert checked >= 2


def test_flow_reads_neither_images_nor_biases():
    net = lived_in(architecture("separable", (16, 16)))
    other = copy.deepcopy(net)
    with torch.no_grad():
        for module in other.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias += 3
                module.running_mean -= 2
                module.weight.neg_()
    choice = Choice.of("synflow")
    scores = [
        choice(views(one, collect(one, data, SCALING, choice.needs())))
        for one, data in ((net, images(4)), (net, images(9, seed=1)), (other, images(4)))
    ]
    for first, second, third in zip(*scores, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, third)
        assert first.max() > 0


class Activated(nn.Module):
    """Two convolutions, each behind an activation, which may be one module under two names."""

    def __init__(self, first, second):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
        self.first, self.second, self.fc = first, second, nn.Linear(5, CLASSES)
        with torch.no_grad():
            for index, layer in enumerate((self.a, self.b, self.fc)):
                chance = torch.Generator().manual_seed(index)
                # So large that every activation that clips is at its limit.
                layer.weight.copy_(9 * torch.rand(layer.weight.shape, generator=chance))

    def forward(self, x):
        return self.fc(self.second(self.b(self.first(self.a(x)))).mean((2, 3)))


def flows(first, second):
    net = prune_core.adopt(Activated(first, second), CLASSES)
    found = collect(net, images(2), SCALING, [SynapticFlow()])
    return [answer[SynapticFlow()]["flow"] for answer in found]


@pytest.mark.parametrize(
    "kind",
    [nn.ReLU6, nn.Hardtanh, nn.Tanh, nn.Softsign, nn.Softplus, nn.Hardswish, nn.SiLU, nn.Mish],
)
def test_no_activation_hides_the_flow_of_positive_values(kind):
    expected = flows(nn.ReLU(), nn.ReLU())
    shared = kind()
    for activations in ((kind(), kind()), (shared, shared)):
        for found, flow in zip(flows(*activations), expected, strict=True):
            torch.testing.assert_close(found, flow)


class Overwriting(nn.Module):
    """Changes a map after a convolution has read it, and reads it again."""

    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.classifier = nn.Linear(4, classes)

    def forward(self, pixels):
        maps = torch.relu(self.first(pixels))
        read = self.second(maps)
        maps.mul_(2)
        return self.classifier((read + maps).mean(dim=(2, 3)))


@pytest.mark.parametrize("request_", [*BOTH, SynapticFlow()], ids=str)
def test_maps_that_change_after_they_were_read_are_refused(request_):
    net = lived_in(of(Class(Overwriting), CLASSES, (16, 16)))
    with pytest.raises(StatisticsError, match="is changed in place"):
        collect(net, images(4), SCALING, [request_])
