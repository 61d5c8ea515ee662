import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prune_core.cost import multiply_accumulates, parameters
from prune_core.networks import Architecture, ArchitectureError, SimpleNet, SimpleNetArchitecture
from prune_core.networks.simplenet import VARIANTS

# Variant, classes, trainable parameters, those without convolution biases and batch
# normalisation, millions of multiply-accumulates at 32 x 32.
FACTS = [
    ("simplenet_5m", 10, 5_498_378, 5_484_746, 652.2),
    ("simplenet_5m", 100, 5_521_508, 5_507_876, 652.2),
    ("simplenet_5m_extra_pool", 10, 5_498_378, 5_484_746, 631.5),
    ("simplenet_460k", 10, 385_790, 383_186, 73.2),
    ("simplenet_310k", 10, 312_362, 309_578, 55.8),
]


@pytest.mark.parametrize(("variant", "classes", "total", "kernels_only", "mmacs"), FACTS)
def test_published_sizes(variant, classes, total, kernels_only, mmacs):
    architecture = Architecture.named(variant, classes)
    net = SimpleNet(architecture)
    assert sum(parameter.numel() for parameter in net.parameters()) == total
    assert parameters(architecture) == total
    scalars = sum(
        block.conv.bias.numel() + block.bn.weight.numel() + block.bn.bias.numel()
        for block in net.blocks
    )
    assert total - scalars == kernels_only
    assert round(multiply_accumulates(architecture) / 1e6, 1) == mmacs


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("side", [32, 48])
def test_costs_agree_with_counted_operations(variant, side):
    architecture = Architecture.named(variant, 7, width=0.23)
    narrow = tuple(max(1, width - 2 * index) for index, width in enumerate(architecture.widths))
    architecture = architecture.with_widths(narrow)
    net = SimpleNet(architecture).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.randn(1, 3, side, side))
    architecture = architecture.for_images((side, side))
    assert multiply_accumulates(architecture) == counter.get_total_flops() / 2
    assert parameters(architecture) == sum(parameter.numel() for parameter in net.parameters())


def test_parameters_of_other_widths(small):
    widths = (3, 2, 7, 5)
    assert parameters(small, widths) == parameters(small.with_widths(widths))


def test_the_named_architecture_is_the_papers():
    architecture = Architecture.named("simplenet_5m", 10)
    widths = (64, 128, 128, 128, 128, 128, 256, 256, 256, 512, 2048, 256, 256)
    assert architecture.widths == widths
    assert architecture.kernels == (3,) * 10 + (1, 1, 3)
    assert [index for index, pooled in enumerate(architecture.pooled) if pooled] == [3, 6, 8, 11]
    assert architecture.inputs == (3, *widths[:-1])
    extra = Architecture.named("simplenet_5m_extra_pool", 10)
    assert [index for index, pooled in enumerate(extra.pooled) if pooled] == [3, 6, 8, 9, 11]


def test_width_multiplies_every_layer():
    architecture = Architecture.named("simplenet_310k", 10, width=0.25)
    assert architecture.widths == (16, 8, 8, 8, 8, 8, 16, 16, 16, 32, 64, 16, 16)
    assert min(Architecture.named("simplenet_310k", 10, width=0.001).widths) == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Architecture.named("resnet", 10), "resnet.*allowed: .*simplenet_5m"),
        (lambda: Architecture.named("simplenet_310k", 10, width=0), "width 0"),
        (lambda: Architecture.named("simplenet_310k", 10, width=math.nan), "width nan"),
        (lambda: Architecture.named("simplenet_310k", 1), "classes 1"),
        (lambda: SimpleNetArchitecture((4, 0), (3, 3), (False, False), 2), "at least 1 channel"),
        (lambda: SimpleNetArchitecture((4, 4), (3, 5), (False, False), 2), "kernel size"),
        (lambda: SimpleNetArchitecture((4, 4), (3,), (False, False), 2), "equally long"),
        (lambda: SimpleNetArchitecture((), (), (), 2), "at least 1"),
    ],
)
def test_invalid_architectures_are_refused(build, message):
    with pytest.raises(ArchitectureError, match=message):
        build()


def test_a_block_is_convolution_normalisation_relu_pool(small, lived_in):
    net = lived_in(small)
    images = torch.randn(5, 3, 32, 32)
    expected = images
    for index, block in enumerate(net.blocks):
        norm, conv = block.bn, block.conv
        made = nn.functional.conv2d(expected, conv.weight, conv.bias, padding=conv.padding)
        scaled = (made - norm.running_mean[:, None, None]) / torch.sqrt(
            norm.running_var[:, None, None] + 1e-5
        )
        expected = torch.relu(scaled * norm.weight[:, None, None] + norm.bias[:, None, None])
        if small.pooled[index]:
            expected = nn.functional.max_pool2d(expected, 2)
        assert expected.shape[2:] == (32, 32) if index < 1 else (16, 16)
    logits = expected.amax(dim=(2, 3)) @ net.classifier.weight.T + net.classifier.bias
    torch.testing.assert_close(net(images), logits, rtol=1e-5, atol=1e-5)


def test_a_chain_has_a_group_for_each_convolution(small):
    groups = small.groups
    assert groups.widths == small.widths
    assert groups.names == tuple(f"blocks.{index}.conv" for index in range(4))
    readers = [*groups.names[1:], "classifier"]
    for index, (group, reader) in enumerate(zip(groups.groups, readers, strict=True)):
        (producer,) = group.producers
        assert producer.norm == f"blocks.{index}.bn"
        assert [consumer.module for consumer in producer.consumers] == [reader]
        assert not group.joined
    # The last map is read as the global maximum.
    shapes = [group.producers[0].shape for group in groups.groups]
    assert shapes == [(32, 32), (16, 16), (16, 16), (1, 1)]


def test_dropout_follows_every_pool_and_precedes_the_linear_layer(small):
    net = SimpleNet(small)
    rates = [getattr(block.dropout, "p", None) for block in net.blocks]
    assert rates == [0.1 if pooled else None for pooled in small.pooled]
    assert net.dropout.p == 0.1
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(net(images), net(images))
        net.eval()
        assert torch.equal(net(images), net(images))


def test_initial_weights():
    net = SimpleNet(Architecture.named("simplenet_310k", 10))
    for index, block in enumerate(net.blocks):
        weight = block.conv.weight
        positions = weight.shape[2] ** 2
        bound = math.sqrt(2) * math.sqrt(6 / ((weight.shape[0] + weight.shape[1]) * positions))
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.95 * bound, index
        assert not block.conv.bias.any()
        assert (block.bn.eps, block.bn.momentum) == (1e-5, 0.05)
    assert not net.classifier.bias.any()


def test_the_seed_determines_the_weights(small):
    def weights(seed):
        torch.manual_seed(seed)
        return SimpleNet(small).state_dict()

    same, other = weights(3), weights(4)
    assert all(torch.equal(tensor, same[name]) for name, tensor in weights(3).items())
    assert not torch.equal(same["blocks.0.conv.weight"], other["blocks.0.conv.weight"])
