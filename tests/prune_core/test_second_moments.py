"""Second moments of what layers read, against unfolded inputs in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_networks import CLASSES, architecture, lived_in
from torch import nn

import prune_core as pc
from prune_core.images import LabelledImages
from prune_core.layer import views
from prune_core.networks import channel_groups
from prune_core.networks.module import reading, reading_layer
from prune_core.preprocessing import Preprocessing
from prune_core.statistics import (
    AverageHistogram,
    GradientProduct,
    Moments,
    Patches,
    PixelHistogram,
    SecondMoments,
    StatisticsError,
    collect,
    moments_bytes,
    moments_of,
)
from prune_core.statistics.collect import BLOCKS

SCALING = Preprocessing((120.0,) * 3, (60.0,) * 3)
ALL = SecondMoments(positions=10_000)
FEW = SecondMoments(positions=5)

# Layers with 3 input channels. A string names the padding mode.
LAYERS = {
    "3x3": nn.Conv2d(3, 4, 3, padding=1),
    "1x1": nn.Conv2d(3, 4, 1, bias=False),
    "valid": nn.Conv2d(3, 4, 3, padding="valid"),
    "strided": nn.Conv2d(3, 4, 3, stride=2, padding=1),
    "strided by axis": nn.Conv2d(3, 4, 3, stride=(1, 3), padding=(2, 0)),
    "strided shortcut": nn.Conv2d(3, 4, 1, stride=2),
    "dilated": nn.Conv2d(3, 4, 3, padding=2, dilation=2),
    "dilated by axis": nn.Conv2d(3, 4, (2, 3), dilation=(3, 2)),
    "same": nn.Conv2d(3, 4, 3, padding="same"),
    "same, even kernel": nn.Conv2d(3, 4, (2, 4), padding="same", dilation=(1, 3)),
    "asymmetric": nn.Conv2d(3, 4, (1, 5), padding=(0, 2)),
    "reflected": nn.Conv2d(3, 4, 3, padding=2, padding_mode="reflect"),
    "circular": nn.Conv2d(3, 4, (3, 5), padding=(1, 2), stride=2, padding_mode="circular"),
    "replicated": nn.Conv2d(3, 4, 3, padding="same", dilation=2, padding_mode="replicate"),
    "of a whole map": nn.Conv2d(3, 4, (7, 8)),
}


def padded(layer, maps):
    """The maps with a convolution's padding, by torch's documented rules."""
    around = []
    for axis in (1, 0):  # torch pads the last axis first
        if layer.padding == "same":
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            around += [total // 2, total - total // 2]
        else:
            around += [0 if layer.padding == "valid" else layer.padding[axis]] * 2
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return nn.functional.pad(maps, around, mode=mode)


def unfolded(layer, inputs):
    """All patches that a layer reads, [N, L, D], float64."""
    inputs = inputs.double()
    if isinstance(layer, nn.Linear):
        return inputs[:, None]
    return nn.functional.unfold(
        padded(layer, inputs), layer.kernel_size, layer.dilation, stride=layer.stride
    ).transpose(1, 2)


def check(answer, patches, tolerance):
    """An answer is the mean and covariance of patches [M, D]."""
    assert answer["count"].tolist() == [len(patches)]
    mean, deviation = patches.mean(dim=0), patches.std(dim=0, correction=0).max()
    covariance = (patches - mean).T @ (patches - mean) / len(patches)
    torch.testing.assert_close(answer["mean"], mean, rtol=0, atol=tolerance * deviation)
    torch.testing.assert_close(
        answer["covariance"], covariance, rtol=0, atol=tolerance * deviation**2
    )


def in_order(patches):
    """The order that sorts the patches of an image, [L, D], and the sorted patches."""
    rows = patches.tolist()
    order = sorted(range(len(rows)), key=rows.__getitem__)
    return order, patches[order]


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_patches_are_what_a_convolution_computes_with(layer, memory_format):
    inputs = torch.randn(3, 3, 7, 8).contiguous(memory_format=memory_format)
    found = Patches(layer, 10_000, seed=3).take(inputs)
    assert found.dtype is torch.float32
    with torch.no_grad():
        outputs = layer(inputs).flatten(2).transpose(1, 2)
        bias = 0 if layer.bias is None else layer.bias
    expected = unfolded(layer, inputs)
    assert found.shape == expected.shape
    for image in range(3):
        (order, sorted_), (at, all_) = in_order(found[image]), in_order(expected[image])
        assert torch.equal(sorted_.double(), all_)
        # In the order of `weight.flatten(1)`: their products with the weights are the outputs.
        products = found[image][order] @ layer.weight.detach().flatten(1).T + bias
        torch.testing.assert_close(products, outputs[image][at])


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_moments_are_those_of_unfolded_inputs(layer):
    inputs = torch.randn(70, 3, 7, 8) * torch.tensor([1.0, 0.1, 4])[:, None, None] + 0.5
    collector = ALL.of_inputs(layer)
    for part in inputs.split(9):
        collector.update(part)
    check(collector.finish(), unfolded(layer, inputs).flatten(0, 1), 1e-13)


def test_a_linear_layer_reads_all_at_once():
    layer, inputs = nn.Linear(6, 3), torch.randn(50, 6)
    collector = FEW.of_inputs(layer)
    collector.update(inputs)
    check(collector.finish(), inputs.double(), 1e-13)


def places(height, width):
    """A layer that reads one pixel, and images whose pixels are the numbers of their positions."""
    numbers = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)
    return nn.Conv2d(1, 1, 1), numbers


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    positions=st.integers(1, 40),
    parts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_position_is_taken_as_often_as_any_other(height, width, positions, parts, seed):
    layer, numbers = places(height, width)
    together, apart = Patches(layer, positions, seed), Patches(layer, positions, seed)
    found = together.take(numbers.expand(sum(parts), -1, -1, -1))[..., 0]
    # No image gives a position twice, and the number of images in a batch changes nothing.
    assert found.shape == (sum(parts), min(positions, height * width))
    assert all(len(one.unique()) == len(one) for one in found)
    split = [apart.take(numbers.expand(part, -1, -1, -1))[..., 0] for part in parts]
    assert torch.equal(torch.cat(split), found)
    times = torch.bincount(found.flatten().long(), minlength=height * width)
    assert times.max() - times.min() <= 1


def test_positions_are_in_a_random_order():
    layer, numbers = places(6, 6)
    orders = {
        tuple(Patches(layer, 36, seed).take(numbers).flatten().tolist()) for seed in range(20)
    }
    assert len(orders) == 20


@pytest.mark.parametrize("positions", [9, 10, 1000])
def test_more_positions_than_there_are_take_all(positions):
    layer = nn.Conv2d(2, 3, 3)
    inputs = torch.randn(40, 2, 5, 5)
    collector = SecondMoments(positions).of_inputs(layer)
    collector.update(inputs)
    check(collector.finish(), unfolded(layer, inputs).flatten(0, 1), 1e-13)


# As the products of such numbers are rounded, E[x^2] - E[x]^2 is not 0.
@pytest.mark.parametrize("value", [0.0, 1 / 3, -1.7, 1e6 / 7, 1e-20])
def test_constant_inputs_have_no_variance_at_all(value):
    inputs = torch.randn(75, 3, 6, 6)
    inputs[:, 1] = value
    collector = SecondMoments(20).of_inputs(nn.Conv2d(3, 2, 3))
    collector.update(inputs)
    answer = collector.finish()
    constant = torch.arange(9, 18)
    expected = torch.tensor(value, dtype=torch.float32).double().expand(9)
    torch.testing.assert_close(answer["mean"][constant], expected, rtol=1e-12, atol=0)
    assert not answer["covariance"][constant].any()
    assert not answer["covariance"][:, constant].any()
    assert (answer["covariance"].diagonal()[[0, 8, 18, 26]] > 0.5).all()


def test_a_small_variance_around_a_large_mean_is_kept():
    inputs = 4096 + 0.25 * torch.randn(200, 2, 4, 4)
    collector = ALL.of_inputs(layer := nn.Conv2d(2, 2, 3))
    collector.update(inputs)
    check(collector.finish(), unfolded(layer, inputs).flatten(0, 1), 1e-5)


def test_moments_about_zero_are_means_of_products():
    inputs = torch.randn(40, 3, 5, 5) + 2
    inputs[:, 2] = 1.25  # constant: it has no covariance, but a product
    layer = nn.Conv2d(3, 2, 3, bias=False)
    collector = ALL.of_inputs(layer)
    collector.update(inputs)
    answer = {f"layer.{name}": tensor for name, tensor in collector.finish().items()}
    moments = moments_of([{ALL: answer}], ALL)["layer"]
    patches = unfolded(layer, inputs).flatten(0, 1)
    torch.testing.assert_close(
        moments.about(False), patches.T @ patches / len(patches), rtol=1e-12, atol=1e-12
    )
    assert torch.equal(moments.about(True), moments.covariance)
    assert moments.count == len(patches)


class Readers(nn.Module):
    """Layers of every kind that read one map, and one that reads a concatenation."""

    def __init__(self, classes):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.readers = nn.ModuleDict(
            {
                "plain": nn.Conv2d(5, 4, 3, padding=1),
                "strided": nn.Conv2d(5, 4, 3, stride=2, padding=1, bias=False),
                "dilated": nn.Conv2d(5, 4, 3, padding="same", dilation=2),
                "reflected": nn.Conv2d(5, 4, 3, padding=1, padding_mode="reflect"),
                "circular": nn.Conv2d(5, 4, (2, 3), padding="same", padding_mode="circular"),
            }
        )
        self.both = nn.Conv2d(9, 6, 1)
        self.of_pixels, self.pooled = nn.Linear(4 * 16, classes), nn.Linear(6, classes)

    def forward(self, images):
        maps = torch.relu(self.norm(self.stem(images)))
        read = {name: torch.relu(reader(maps)) for name, reader in self.readers.items()}
        strided = nn.functional.adaptive_avg_pool2d(read["strided"] * 2, 4)
        rest = read["dilated"] + read["reflected"] + read["circular"]
        both = self.both(torch.cat([read["plain"] + rest, maps], dim=1))
        logits = self.of_pixels(strided.flatten(1))
        return logits + self.pooled(torch.relu(both).mean((2, 3)))


def readers_of(net):
    return list(
        dict.fromkeys(
            one.module for producer in channel_groups(net).producers for one in producer.consumers
        )
    )


def read_by(net, images):
    """What each layer reads that reads channels, when it runs in the blocks of `collect`."""
    read = {name: [] for name in readers_of(net)}
    hooks = {
        net.get_submodule(name): lambda inputs, name=name: read[name].append(inputs.clone())
        for name in read
    }
    size = BLOCKS["cpu"]
    pixels = torch.cat([images.images, images.images.new_zeros(-len(images) % size, 3, 32, 32)])
    with reading(hooks), torch.no_grad():
        for part in pixels.split(size):
            net(SCALING(part))
    return {name: torch.cat(parts)[: len(images)] for name, parts in read.items()}


def of_network(name):
    if name == "readers":
        torch.manual_seed(0)
        return pc.adopt(Readers(CLASSES).eval(), CLASSES)
    return lived_in(architecture(name))


@pytest.fixture(scope="module")
def images():
    """More than a block of images, whose last block is padded."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (41, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(41) % CLASSES)


@pytest.mark.parametrize("name", ["readers", "concatenating", "separable", "resnet_b_all"])
def test_collected_moments_are_those_of_what_the_layers_read(name, images):
    net = of_network(name)
    answers = collect(net, images, SCALING, [ALL])
    # Each layer is answered once, with all three fields.
    fields = [field for answer in answers for field in answer[ALL]]
    parts = ("mean", "covariance", "count")
    assert sorted(fields) == sorted(f"{one}.{part}" for one in readers_of(net) for part in parts)
    # It comes with the first producer that it reads.
    seen = set()
    for answer, producer in zip(answers, channel_groups(net).producers, strict=True):
        own = {one.module for one in producer.consumers} - seen
        assert {field.rpartition(".")[0] for field in answer[ALL]} == own
        seen |= own
    moments = moments_of(answers, ALL)
    for layer, inputs in read_by(net, images).items():
        found = {part: getattr(moments[layer], part) for part in ("mean", "covariance")}
        found["count"] = torch.tensor([moments[layer].count])
        check(found, unfolded(reading_layer(net, layer), inputs).flatten(0, 1), 1e-12)
    # Metrics find the moments of every layer in every view.
    for view in views(net, answers):
        assert len(view.answer(ALL)) == len(fields)
    sizes = [len(one.mean) for one in moments.values()]
    assert moments_bytes(net, moments) == sum(8 * (size * size + size) for size in sizes)


def test_a_layer_that_reads_a_concatenation_has_the_covariances_of_its_parts(images):
    net = of_network("concatenating")
    last = moments_of(collect(net, images, SCALING, [ALL]), ALL)["last"]
    assert last.covariance.shape == (22 * 9, 22 * 9)
    correlated = last.covariance[: 16 * 9, 16 * 9 :]
    assert correlated.abs().max() > 1e-3


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        for field, tensor in other[FEW].items():
            assert torch.equal(one[FEW][field], tensor), field


@pytest.mark.parametrize("name", ["readers", "resnet_b_all"])
def test_neither_the_batch_nor_other_requests_change_a_bit(name, images):
    net = of_network(name)
    expected = collect(net, images, SCALING, [FEW])
    for batch in (1, 7, 32, 500):
        same(collect(net, images, SCALING, [FEW], batch=batch), expected)
    others = [Moments(), AverageHistogram(20), SecondMoments(9), PixelHistogram(8), FEW]
    found = collect(net, images, SCALING, [*others, GradientProduct()], batch=3)
    same(found, expected)
    assert found[0].keys() == {*others, GradientProduct()}
    assert torch.equal(
        found[0][Moments()]["mean"],
        collect(net, images, SCALING, [Moments()])[0][Moments()]["mean"],
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_not_changed(images, training):
    net = of_network("readers").train(training)
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    answers = collect(net, images, SCALING, [FEW])
    assert net.training is training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    for answer in answers:
        for tensor in answer[FEW].values():
            assert tensor.is_contiguous()
            assert not tensor.is_inference()
            assert tensor.dtype in (torch.float64, torch.int64)


def test_the_moments_of_a_part_are_not_those_of_the_padding(images):
    """With one image, all but one of the images in the block are padding."""
    net = of_network("readers")
    one = images.first(1)
    moments = moments_of(collect(net, one, SCALING, [ALL]), ALL)
    assert moments["both"].count == 32 * 32
    assert moments["pooled"].count == 1
    assert not moments["pooled"].covariance.any()
    inputs = read_by(net, one)["pooled"]
    torch.testing.assert_close(moments["pooled"].mean, inputs[0].double(), rtol=1e-12, atol=0)


def test_a_diverged_network_and_absent_images_are_refused(images):
    net = of_network("readers")
    with pytest.raises(StatisticsError, match="no images"):
        collect(net, images.first(0), SCALING, [FEW])
    with torch.no_grad():
        net.norm.weight.fill_(3e38)
        net.norm.bias.fill_(3e38)
    with pytest.raises(StatisticsError, match="diverged"):
        collect(net, images.first(2), SCALING, [FEW])
    with torch.no_grad():
        net.norm.bias[1] = torch.nan
    with pytest.raises(StatisticsError, match="diverged"):
        collect(net, images.first(2), SCALING, [FEW])
    with pytest.raises(StatisticsError, match="positions 0: at least 1"):
        SecondMoments(0)
