"""Channel groups of every kind of network: which there are, and that removing them is exact."""

import copy

import pytest
import torch
import torch_pruning
from made_up_networks import FAMILIES, NAMES, architecture, lived_in, random_kept
from torch import nn

import prune_core as pc
from prune_core.cost import count_parameters, multiply_accumulates, parameters
from prune_core.layer import views
from prune_core.networks import (
    Architecture,
    ArchitectureError,
    ModuleArchitecture,
    architecture_of,
    channel_groups,
    of,
)
from prune_core.networks.tracing import trace
from prune_core.surgery import check_removal, masked, prune

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def logits(net, images=IMAGES):
    with torch.no_grad():
        return net(images.to(next(net.parameters()).dtype))


@pytest.mark.parametrize("share", [0.6, 0.05])
@pytest.mark.parametrize("name", NAMES)
def test_removed_channels_equal_masked_channels(name, share):
    shape = architecture(name)
    kept = random_kept(shape.widths, seed=3, share=share)
    net = lived_in(shape, kept=kept)
    full, found = logits(net), logits(prune(net, kept))
    with masked(net, kept):
        expected = logits(net)
    # The masks change the logits: agreement is not trivial.
    assert not torch.allclose(full, expected, atol=1e-2)
    if share > 0.5:
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)
        # The logits depend on the image. With a single channel in a layer its signal may be 0.
        assert expected.std(dim=0).max() > 1e-3
    exact = prune(net.double(), kept)
    with masked(net, kept):
        torch.testing.assert_close(logits(exact), logits(net), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_those_of_the_module(name):
    shape = architecture(name)
    net = lived_in(shape)
    assert parameters(shape) == count_parameters(net)
    for seed, share in enumerate((0.9, 0.5, 0.1)):
        kept = random_kept(shape.widths, seed, share)
        pruned, widths = prune(net, kept), tuple(map(len, kept))
        assert parameters(shape, widths) == count_parameters(pruned)
        assert architecture_of(pruned).widths == widths
        narrow = shape.with_widths(widths)
        built = narrow.build()
        shapes = {key: tensor.shape for key, tensor in pruned.state_dict().items()}
        assert {key: tensor.shape for key, tensor in built.state_dict().items()} == shapes
        assert multiply_accumulates(narrow) < multiply_accumulates(shape)


@pytest.mark.parametrize("name", NAMES)
def test_pruning_twice_is_pruning_once(name):
    shape = architecture(name)
    net = lived_in(shape)
    first = random_kept(shape.widths, seed=5, share=0.8)
    once = prune(net, first)
    second = random_kept(channel_groups(once).widths, seed=6, share=0.6)
    both = [one[two] for one, two in zip(first, second, strict=True)]
    twice, direct = prune(once, second), prune(net, both)
    for key, tensor in direct.state_dict().items():
        assert torch.equal(tensor, twice.state_dict()[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_the_pruned_network_trains(name):
    shape = architecture(name)
    pruned = prune(lived_in(shape), random_kept(shape.widths, seed=2)).train()
    pruned(IMAGES).square().mean().backward()
    for key, parameter in pruned.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.shape == parameter.shape


def test_a_residual_network_has_its_groups():
    both = {
        groups: Architecture.named("resnet20", 10, options={"shortcut": "B"}, groups=groups)
        for groups in ("all", "inner")
    }
    every, inner = both["all"].groups, both["inner"].groups
    # One group inside each of nine blocks, and one for each stage.
    assert len(inner.groups) == 9
    assert inner.widths == (16,) * 3 + (32,) * 3 + (64,) * 3
    assert inner.names == tuple(f"layer{s}.{b}.conv1" for s in (1, 2, 3) for b in range(3))
    joined = [group for group in every.groups if group.joined]
    assert [group.channels for group in joined] == [16, 32, 64]
    assert [producer.name for producer in joined[0].producers] == [
        "conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2",
    ]  # fmt: skip
    stem = joined[0].producers[0]
    assert stem.norm == "bn1"
    assert [one.module for one in stem.consumers] == ["layer1.0.conv1"]
    # The last block's sum is read by the next block and by its projection.
    last = joined[0].producers[-1]
    assert [one.module for one in last.consumers] == ["layer2.0.conv1", "layer2.0.downsample.0"]
    assert [one.module for one in joined[2].producers[-1].consumers] == ["fc"]


def test_padded_shortcuts_join_the_stages_channel_by_channel():
    groups = Architecture.named("resnet20", 10).groups
    joined = [group for group in groups.groups if group.joined]
    # 16 channels run through all stages, 16 more begin in the second one, 32 in the third one.
    assert [group.channels for group in joined] == [16, 16, 32]
    first = {producer.name for producer in joined[0].producers}
    assert {"conv1", "layer2.0.conv2", "layer3.2.conv2"} <= first
    assert joined[2].producers[0].name == "layer3.0.conv2"


def test_a_concatenation_has_groups_of_its_parts():
    groups = {group.name: group for group in architecture("concatenating").groups.groups}
    assert set(groups) == {"stem", "one", "three", "pooled", "last"}
    three = groups["three"].producers[0]
    assert three.norm == "joint"
    assert three.norm_positions[:, 0].tolist() == list(range(5, 12))
    assert [one.module for one in three.consumers] == ["last"]
    # Four layers read the stem: two branches, the pooled branch, and the end beside them.
    stem = groups["stem"].producers[0]
    assert sorted(one.module for one in stem.consumers) == ["last", "one", "pooled", "three"]
    positions = {one.module: one.positions[:, 0].tolist() for one in stem.consumers}
    assert positions["last"] == list(range(16, 22))


def test_a_depthwise_convolution_is_a_producer_of_its_input():
    groups = {group.name: group for group in architecture("separable").groups.groups}
    names = [producer.name for producer in groups["stem.0"].producers]
    assert names == ["stem.0", "blocks.0.0"]
    assert [one.norm for one in groups["stem.0"].producers] == ["stem.1", "blocks.0.1"]
    # The linear layer reads 2 x 2 pixels of each of the last channels.
    last = groups["blocks.2.3"].producers[0].consumers[0]
    assert (last.module, tuple(last.positions.shape)) == ("classifier", (10, 4))


def test_a_head_that_cannot_be_pruned_keeps_its_channels_and_says_why():
    groups = architecture("two_heads").groups
    assert set(groups.names) == {"stem", "body"}
    fixed = dict(groups.fixed)
    assert "'group_norm'" in fixed["mixed"]
    assert fixed["logits"] == "they are outputs of the network"


def test_views_read_the_weights_of_their_channels():
    shape = architecture("concatenating")
    net = lived_in(shape)
    for view in views(net):
        conv = net.get_submodule(view.name)
        torch.testing.assert_close(view.weight, conv.weight.double(), rtol=0, atol=0)
    by_name = {view.name: view for view in views(net)}
    read = net.last.weight.double()
    torch.testing.assert_close(by_name["three"].consumer_weights[0], read[:, 5:12])
    torch.testing.assert_close(by_name["three"].gamma, net.joint.weight[5:12].double())
    sums = by_name["stem"].consumed.abs().sum(dim=1)
    others = [net.one, net.three, net.pooled]
    expected = sum(one.weight.double().abs().sum(dim=(0, 2, 3)) for one in others)
    torch.testing.assert_close(sums, expected + read[:, 16:].abs().sum(dim=(0, 2, 3)))


@pytest.mark.parametrize(
    ("variant", "options"), [("vgg16_bn", {}), ("resnet56", {"shortcut": "B"})]
)
def test_torch_pruning_finds_the_same_groups_and_network(variant, options):
    shape = Architecture.named(variant, 10, 0.25, options=options)
    net = lived_in(shape)
    kept = random_kept(shape.widths, seed=4)
    ours, theirs = prune(net, kept), copy.deepcopy(net)
    graph = torch_pruning.DependencyGraph().build_dependency(theirs, example_inputs=IMAGES[:1])
    found = set()
    for group, channels in zip(shape.groups.groups, kept, strict=True):
        convolution = theirs.get_submodule(group.name)
        gone = sorted(set(range(group.channels)) - set(channels.tolist()))
        dependency = graph.get_pruning_group(
            convolution, torch_pruning.prune_conv_out_channels, gone
        )
        layers = {id(one.target.module) for one, _ in dependency}
        members = {id(theirs.get_submodule(one.module)) for one in group.members}
        # Theirs also lists operations, such as additions, which have no weights.
        assert members == layers & {id(module) for module in theirs.modules()}, group.name
        found |= members
        dependency.prune()
    # Nothing with channels to remove is left over.
    whole = [one for one in theirs.modules() if isinstance(one, nn.Conv2d | nn.BatchNorm2d)]
    assert {id(one) for one in whole} <= found
    for key, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[key]), key
    theirs.to(memory_format=torch.channels_last)
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-5, atol=1e-5)
    assert logits(ours).std(dim=0).max() > 0.01


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("resnet_")])
def test_initial_weights_of_a_narrow_network_are_those_of_he(name):
    shape = architecture(name)
    torch.manual_seed(0)
    narrow = shape.with_widths(tuple(max(4, width // 2) for width in shape.widths)).build()
    ratios = [
        float(conv.weight.detach().std() / (2 / conv.weight[0].numel()) ** 0.5)
        for conv in narrow.modules()
        if isinstance(conv, nn.Conv2d) and conv.weight.numel() > 100
    ]
    assert len(ratios) > 10
    assert sum(ratios) / len(ratios) == pytest.approx(1, abs=0.05)


class Holder(nn.Module):
    """Convolution, something, convolution, linear layer."""

    def __init__(self, middle):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = middle
        self.second = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, images):
        maps = self.middle(self.first(images))
        return self.head(torch.relu(self.second(maps)).mean((2, 3)))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, maps):
        return self.function(maps)


def shuffled(maps):
    n, c, h, w = maps.shape
    return maps.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def in_place(maps):
    maps.add_(torch.relu(maps))
    return maps


def set_in_place(maps):
    maps = maps.clone()
    maps[:, 0] = 0
    return maps


def halves(maps):
    first, second = maps.chunk(2, dim=1)
    return torch.cat([second, first], dim=1)


@pytest.mark.parametrize(
    "middle",
    [
        nn.GroupNorm(2, 8),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)),
        nn.ConvTranspose2d(8, 8, 1),
        nn.LocalResponseNorm(3),
        nn.Softmax2d(),
        Function(shuffled),
        Function(halves),
        Function(lambda maps: maps.flip(1)),
        Function(lambda maps: maps[:, [1, 0, 2, 3, 4, 5, 6, 7]]),
        Function(lambda maps: maps * torch.arange(8.0)[:, None, None]),
        Function(lambda maps: torch.nn.functional.pad(maps[:, 1:], (0, 0, 0, 0, 0, 1))),
        Function(lambda maps: maps.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2)),
        Function(lambda maps: maps - maps.mean(dim=1, keepdim=True)),
        Function(lambda maps: maps.softmax(dim=1)),
        Function(lambda maps: maps.cumsum(1)),
        Function(lambda maps: maps + torch.zeros(2, 8, 16, 16)),
    ],
)
def test_channels_that_reach_an_unknown_operation_are_kept(middle):
    found = trace(Holder(middle), (16, 16))
    assert found.names == ("second",)
    assert "first" in dict(found.fixed)


class Twice(nn.Module):
    """One convolution for two places."""

    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, classes)

    def forward(self, images):
        maps = self.shared(self.shared(self.first(images)).relu()).relu()
        return self.head(self.last(maps).relu().mean((2, 3)))


def test_weights_that_are_used_twice_keep_their_channels():
    assert trace(Twice(4), (16, 16)).names == ("last",)


def test_an_addition_in_place_joins_channels():
    found = trace(Holder(Function(in_place)), (16, 16))
    assert found.names == ("first", "second")


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Holder(Function(lambda maps: maps if maps.sum() > 0 else -maps)), "module 'middle'.*flow"),
        (Holder(Function(set_in_place)), "module 'middle'.*item assignment"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), r"logits \[N, classes\].*4, 14, 14"),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), "no channel.*can be removed"),
        (nn.Sequential(nn.Conv2d(3, 4, 5), nn.Conv2d(5, 4, 3), nn.Flatten()), "fails for images"),
    ],
)
def test_what_cannot_be_traced_is_refused(net, message):
    with pytest.raises(ArchitectureError, match=message):
        trace(net, (16, 16))


def test_tied_weights_are_refused():
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(432, 4))
    net[1].weight = net[0].weight
    with pytest.raises(ArchitectureError, match=r"0\.weight and 1\.weight are one tensor"):
        trace(net, (16, 16))


class Counting(nn.Module):
    """Divides by the number of channels, which a trace takes for any other number."""

    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        maps = self.norm(self.first(images)).relu()
        return self.head((maps / maps.shape[1]).mean((2, 3)))


class Built:
    def __init__(self, kind):
        self.kind = kind

    def build(self, classes):
        return self.kind(classes)

    def identity(self):
        return {}

    description = identity


def test_a_network_that_counts_its_channels_is_found_out():
    shape = of(Built(Counting), 4, (16, 16))
    with pytest.raises(ArchitectureError, match="gives other logits"):
        check_removal(shape)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_passes_the_check_of_removal(name):
    check_removal(architecture(name))


def test_both_ways_are_one_in_a_network_without_additions():
    shape = architecture("concatenating")
    assert isinstance(shape, ModuleArchitecture)
    assert of(shape.builder, shape.classes, shape.image_size, "inner") == shape


def test_a_module_at_hand_is_adopted_and_pruned():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    with pytest.raises(ArchitectureError, match=r"adopt\(net, classes\)"):
        channel_groups(net)
    before = copy.deepcopy(net.state_dict())
    assert pc.adopt(net, 4, (16, 16)) is net
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    scores = [view.consumed.abs().sum(dim=1) for view in views(net)]
    kept = pc.global_(scores, architecture_of(net), 0.5)
    pruned = prune(net, kept)
    assert count_parameters(pruned) == parameters(architecture_of(pruned))
    with masked(net, kept):
        expected = logits(net)
    torch.testing.assert_close(logits(pruned), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ArchitectureError, match="no source that a file"):
        architecture_of(net).description()


@pytest.mark.parametrize("size", [(33, 47), (64, 64)])
@pytest.mark.parametrize("name", ["resnet_a_all", "vgg", "simplenet", "separable"])
def test_images_of_another_size(name, size):
    shape = architecture(name, size)
    net = lived_in(shape)
    assert multiply_accumulates(shape) > multiply_accumulates(architecture(name))
    kept = random_kept(shape.widths, seed=1)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with masked(net, kept):
        expected = logits(net, images)
    torch.testing.assert_close(logits(prune(net, kept), images), expected, rtol=1e-5, atol=1e-5)
