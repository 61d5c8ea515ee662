"""Networks in which it is hard to see what reads a channel, and networks that must be refused."""

import copy

import pytest
import torch
from made_up_networks import Class
from torch import nn

import prune_core as pc
from prune_core.cost import count_multiply_accumulates
from prune_core.layer import views
from prune_core.metrics import Choice
from prune_core.network_files import load, save
from prune_core.networks import ArchitectureError, architecture_of, channel_groups, of
from prune_core.networks.own import OwnNetwork
from prune_core.networks.tracing import trace
from prune_core.preprocessing import Preprocessing
from prune_core.statistics import Rank, StatisticsError, collect
from prune_core.strided_convolutions import subsampled_first
from prune_core.surgery import check_removal, prune

SIZE = (16, 16)


class Squeeze(nn.Module):
    """Squeeze and excitation, by convolutions or by linear layers."""

    def __init__(self, channels, linear):
        super().__init__()
        self.linear = linear
        layer = nn.Linear if linear else lambda i, o: nn.Conv2d(i, o, 1)
        self.down, self.up = layer(channels, 3), layer(3, channels)

    def forward(self, maps):
        averages = maps.mean((2, 3), keepdim=not self.linear)
        gate = self.up(torch.relu(self.down(averages))).sigmoid()
        if self.linear:
            gate = gate.view(gate.shape[0], -1, 1, 1).expand_as(maps)
        return maps * gate


class Gated(nn.Module):
    """A residual block with a gate."""

    def __init__(self, classes, gate=None):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.branch = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.gate = gate or nn.Identity()
        self.reader = nn.Conv2d(6, 5, 3, padding=1)
        self.head = nn.Linear(5, classes)

    def forward(self, images):
        maps = torch.relu(self.stem(images))
        maps = torch.relu(maps + self.gate(self.norm(self.branch(maps))))
        return self.head(torch.relu(self.reader(maps)).mean((2, 3)))


@pytest.mark.parametrize("gate", [None, Squeeze(6, False), Squeeze(6, True)])
def test_a_gate_does_not_change_what_is_scored(gate):
    net = pc.adopt(Gated(4, gate), 4, SIZE)
    groups = {group.name: group for group in channel_groups(net).groups}
    joined = groups["stem"]
    # The gate scales the channels of the branch; it makes none and is no producer of them.
    assert [producer.name for producer in joined.producers] == ["stem", "branch"]
    branch = joined.producers[1]
    assert (branch.norm, branch.shape) == ("norm", SIZE)
    assert branch.consumers[0].module == "reader"
    if isinstance(gate, Squeeze):
        assert [one.module for one in branch.consumers] == ["reader", "gate.down"]
        members = {(one.module, one.side) for one in joined.members}
        assert {("gate.down", "inputs"), ("gate.up", "outputs")} <= members


class Flattened(nn.Module):
    """A linear layer that reads the pixels of a map, as one large convolution would."""

    def __init__(self, classes, size):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.AvgPool2d(2)
        self.head = nn.Linear(8 * size[0] * size[1] // 4, classes)

    def forward(self, images):
        return self.head(torch.flatten(self.pool(torch.relu(self.conv(images))), 1))


def test_a_flattened_map_keeps_its_height_and_width(coloured):
    torch.manual_seed(0)
    net = pc.adopt(Flattened(4, (32, 32)).eval(), 4)
    scaling = Preprocessing((90.0,) * 3, (60.0,) * 3)
    (answers,) = collect(net, coloured(8), scaling, [Rank()])
    (view,) = views(net, [answers])
    assert view.consumer_weights[0].shape == (4, 8, 16, 16)
    weight = net.head.weight.double().view(4, 8, 16, 16)
    torch.testing.assert_close(view.consumer_weights[0], weight)
    with torch.no_grad():
        maps = net.pool(torch.relu(net.conv(scaling(coloured(8).images))))
    expected = torch.linalg.matrix_rank(maps).double().mean(dim=0)
    torch.testing.assert_close(Choice.of("hrank")([view])[0], expected)
    assert expected.max() > 5


class Order(nn.Module):
    """One function, whose two statements may change places."""

    def __init__(self, classes, sum_first):
        super().__init__()
        self.sum_first = sum_first
        self.a, self.p = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.q, self.r = nn.Conv2d(6, 5, 1), nn.Conv2d(6, 5, 1)
        self.head = nn.Linear(5, classes)

    def forward(self, images):
        a, p = torch.relu(self.a(images)), torch.relu(self.p(images))
        if self.sum_first:
            y = self.r(a + p)
            z = self.q(a)
        else:
            z = self.q(a)
            y = self.r(a + p)
        return self.head((y * z).mean((2, 3)))


def test_the_order_of_statements_changes_no_reader():
    for sum_first in (True, False):
        group = trace(Order(4, sum_first), SIZE).groups[0]
        readers = {
            one.name: [consumer.module for consumer in one.consumers] for one in group.producers
        }
        assert readers == {"a": ["q"], "p": ["r"]}


class Smoothed(nn.Module):
    """One layer reads a map, and another the sum of the map and its local averages."""

    def __init__(self, classes):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.c, self.head = nn.Conv2d(8, 5, 3, padding=1), nn.Linear(11, classes)

    def forward(self, images):
        maps = torch.relu(self.a(images))
        one = torch.relu(self.b(maps)).mean((2, 3))
        smoothed = maps + nn.functional.avg_pool2d(maps, 3, 1, 1)
        return self.head(torch.cat([one, torch.relu(self.c(smoothed)).mean((2, 3))], 1))


def test_a_sum_of_a_map_and_its_averages_is_read_too():
    net = pc.adopt(Smoothed(4), 4, SIZE)
    group = channel_groups(net).groups[0]
    (producer,) = group.producers
    assert [one.module for one in producer.consumers] == ["b", "c"]
    assert not group.joined


CHANGED = """
import prune_core as pc
from torch import nn

def build(classes: int):
    net = pc.Architecture.named({variant!r}, classes, width=0.25).build()
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.{old}):
                setattr(module, name, nn.{new})
    return net
"""


@pytest.mark.parametrize(
    ("variant", "old", "new"),
    [("simplenet_310k", "MaxPool2d", "AvgPool2d(2)"), ("resnet20", "ReLU", "Tanh()")],
)
def test_a_network_of_this_package_that_a_person_changed_is_their_own(variant, old, new, tmp_path):
    text = CHANGED.format(variant=variant, old=old, new=new)
    (tmp_path / "mine.py").write_text(text)
    found = of(OwnNetwork.read("mine.py:build", base=tmp_path), 4)
    plain = pc.Architecture.named(variant, 4, width=0.25)
    assert found.identity() != plain.identity()
    halved = found.with_widths(tuple(width // 2 for width in found.widths))
    for architecture in (found, halved):
        net = architecture.build()
        kinds = {type(module).__name__ for module in net.modules()}
        assert new.split("(")[0] in kinds
        assert old not in kinds
        assert architecture_of(net) == architecture
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 4)
    assert found.widths == plain.widths


class Shared(nn.Module):
    """A batch normalisation without weights in two places."""

    def __init__(self, classes):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6, affine=False)
        self.c, self.head = nn.Conv2d(6, 5, 1), nn.Linear(5, classes)

    def forward(self, images):
        maps = torch.relu(self.norm(self.a(images)))
        maps = torch.relu(self.norm(self.b(maps)))
        return self.head(self.c(maps).mean((2, 3)))


def test_statistics_that_are_used_twice_keep_their_channels():
    found = trace(Shared(4), SIZE)
    assert found.names == ("c",)
    assert set(dict(found.fixed)) == {"a", "b"}


class Hidden(nn.Module):
    """A branch that shifts channels, behind a parameter that starts at 0."""

    def __init__(self, classes):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.scale = nn.Parameter(torch.zeros(1, 1, 1, 1))
        self.c, self.head = nn.Conv2d(6, 6, 1), nn.Linear(6, classes)

    def forward(self, images):
        maps = torch.relu(self.a(images))
        # torch.fx sees one padding, which keeps the shape.
        moved = nn.functional.pad(torch.relu(self.b(maps)), (0, 0, 0, 0, 1, -1))
        return self.head(torch.relu(maps + self.scale * self.c(moved)).mean((2, 3)))


class ZeroHead(Hidden):
    def __init__(self, classes):
        super().__init__(classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images):
        return self.head(torch.relu(self.c(torch.relu(self.a(images)))).mean((2, 3)))


def test_what_a_zero_hides_is_found():
    with pytest.raises(ArchitectureError, match="gives other logits"):
        pc.adopt(Hidden(4), 4, SIZE)
    pc.adopt(ZeroHead(4), 4, SIZE)


class Busy(nn.Module):
    """It does more in training."""

    def __init__(self, classes, second_output=False):
        super().__init__()
        self.a, self.n = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.head, self.second_output = nn.Linear(6, classes), second_output

    def forward(self, images):
        maps = torch.relu(self.a(images))
        if self.training and not self.second_output:
            maps = maps + 0.1 * self.n(maps)
        logits = self.head(maps.mean((2, 3)))
        return (logits, logits) if self.training and self.second_output else logits


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Busy(4), "the pruned network cannot run in training mode"),
        (Busy(4, second_output=True), "returns something else in training mode"),
        (Busy(5), r"logits \[N, 4\], not \[N, 5\]"),
        (
            nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(),
                nn.Linear(784, 4),
            ),
            "module '1' has no running statistics",
        ),
    ],
)  # fmt: skip
def test_what_would_fail_after_the_baseline_is_refused_before(net, message):
    with pytest.raises(ArchitectureError, match=message):
        pc.adopt(net, 4, SIZE)


class TwoNames(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.head = self.classifier = nn.Linear(6, classes)

    def forward(self, images):
        return self.head(torch.relu(self.a(images)).mean((2, 3)))


def test_a_module_with_two_names_is_pruned_and_stored(tmp_path):
    shape = of(Class(TwoNames), 4, SIZE)
    check_removal(shape)
    net = prune(shape.build(), [torch.tensor([1, 4])])
    assert net.classifier is net.head
    save(net, Preprocessing((1.0,) * 3, (1.0,) * 3), tmp_path)
    with pytest.raises(ValueError, match="no readable network"):
        load(tmp_path)  # it names no source


def depthwise(classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=4), nn.ReLU(), nn.Conv2d(8, 5, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, classes),
    )  # fmt: skip


def test_a_depthwise_convolution_of_one_channel_is_still_one():
    net = pc.adopt(depthwise(4), 4, SIZE)
    assert channel_groups(net).widths == (4, 5)
    once = prune(net, [torch.tensor([2]), torch.arange(4)])
    assert channel_groups(once).widths == architecture_of(once).widths == (1, 4)
    twice = prune(once, [torch.tensor([0]), torch.arange(2)])
    direct = prune(net, [torch.tensor([2]), torch.arange(2)])
    for key, tensor in direct.state_dict().items():
        assert torch.equal(tensor, twice.state_dict()[key]), key


def test_functional_and_transposed_convolutions_count():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 4, 3, padding=1)
            self.b = nn.ConvTranspose2d(4, 5, 2, stride=2)
            self.w = nn.Parameter(torch.ones(6, 5, 1, 1))
            self.head = nn.Linear(6, 2)

        def forward(self, images):
            maps = nn.functional.conv2d(self.b(self.a(images)), self.w)
            return self.head(maps.mean((2, 3)))

    # 8 x 8 pixels, and 16 x 16 behind the transposed convolution.
    expected = 64 * 4 * 27 + 256 * 5 * 4 + 256 * 6 * 5 + 12
    found = count_multiply_accumulates(Functional(), (8, 8))
    assert found == expected


def test_a_map_that_is_changed_after_it_was_read_has_no_gradient(coloured):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1).requires_grad_(False)
            self.c, self.head = nn.Conv2d(6, 6, 1).requires_grad_(False), nn.Linear(6, 4)

        def forward(self, images):
            maps = self.a(images)
            read = self.b(maps)
            return self.head((read + self.c(nn.functional.relu(maps, inplace=True))).mean((2, 3)))

    net = pc.adopt(InPlace(), 4)
    scaling, requests = Preprocessing((90.0,) * 3, (60.0,) * 3), Choice.of("taylor").needs()
    with pytest.raises(StatisticsError, match="the input of b is changed in place"):
        collect(net, coloured(4), scaling, requests)
    assert not any(module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize("padding", [0, "valid"])
def test_strided_pointwise_convolutions_are_computed_without_a_stride(padding):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1, stride=(2, 3), padding=padding), nn.Conv2d(4, 2, 3))
    images = torch.randn(2, 3, 17, 19)
    expected = net(images)
    with subsampled_first(net):
        assert net[0].stride == (1, 1)
        torch.testing.assert_close(net(images), expected)
    assert net[0].stride == (2, 3)
    assert not net[0]._forward_pre_hooks


def test_an_addition_of_one_producer_to_itself_joins_nothing():
    class Twofold(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

        def forward(self, images):
            maps = self.a(images)
            return self.head((maps + torch.relu(maps)).mean((2, 3)))

    (group,) = trace(Twofold(), SIZE).groups
    assert not group.joined


def test_two_filters_of_a_channel_share_their_scale():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([1.0, -3, 2, 2, 0, 1, 4, 4]))
    net = pc.adopt(net, 4, SIZE)
    assert views(net)[1].gamma.tolist() == [2, 2, 0.5, 4]


def test_linear_gates_and_copies_of_modules_survive_a_copy():
    net = pc.adopt(Gated(4, Squeeze(6, True)), 4, SIZE)
    twin = copy.deepcopy(net)
    assert channel_groups(twin).names == channel_groups(net).names
