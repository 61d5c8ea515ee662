"""The surgeon's order, against solving for every candidate anew."""

import copy
import itertools

import pytest
import torch
from made_up_networks import CLASSES, architecture, lived_in
from torch import nn

from prune_core.budgets import global_, local
from prune_core.cost import multiply_accumulates, parameters
from prune_core.images import LabelledImages
from prune_core.layer import Reader, combined, views
from prune_core.metrics import Choice, MetricError
from prune_core.metrics.surgeon import BLOCK, eliminated, elimination_of
from prune_core.networks import channel_groups
from prune_core.networks.module import reading
from prune_core.preprocessing import Preprocessing
from prune_core.statistics import InputMoments, Patches, SecondMoments, collect
from prune_core.surgery import prune

SCALING = Preprocessing((120.0,) * 3, (60.0,) * 3)
SURGEON = Choice.of("surgeon")


def images(count, size=(32, 32), seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(count) % CLASSES)


def scored(net, data, choice="surgeon"):
    """The scores of each group."""
    metric = Choice.parse(choice)
    layers = views(net, collect(net, data, SCALING, metric.needs()))
    return combined(metric(layers), layers, "mean")


# Brute force.


class Problem:
    """One consumer with patches that it reads, [P, D], float64."""

    def __init__(self, reader, patches, ridge):
        self.reader, self.ridge = reader, ridge
        mean = patches.mean(dim=0)
        about = patches - mean
        self.moments = InputMoments(mean, about.T @ about / len(patches), len(patches))
        read = about if reader.centred else patches
        scale = read.square().mean(dim=0).sqrt()
        # What does not vary but for rounding is made up for by the bias.
        varies = scale > 1e-6 * patches.square().mean(dim=0).sqrt()
        self.weight = torch.where(varies, reader.weight * scale, 0.0)
        read = torch.where(varies, read / scale.clamp(min=1e-300), 0.0) / len(read) ** 0.5
        variance = (read @ self.weight.T).square().sum(dim=0)
        self.per_variance = torch.where(variance > 1e-12, 1 / variance.clamp(min=1e-300), 0.0)
        # A row for the ridge of each input makes it an ordinary problem of least squares.
        penalty = torch.eye(len(scale), dtype=torch.float64) * ridge**0.5
        self.rows = torch.cat([read, penalty])

    def elimination(self):
        return elimination_of(self.reader, self.moments, self.ridge)

    def error(self, gone):
        """The least sum of relative squared errors of the filters without some channels."""
        columns = self.reader.columns[list(gone)].flatten()
        left = torch.ones(self.rows.shape[1], dtype=torch.bool)
        left[columns] = False
        lost = self.rows[:, columns] @ self.weight[:, columns].T
        if left.any():
            solution = torch.linalg.lstsq(self.rows[:, left], lost).solution
            lost = lost - self.rows[:, left] @ solution
        return float(lost.square().sum(dim=0) @ self.per_variance)


def brute_force(problems):
    """The order in which channels leave, and the rises, by solving for every candidate anew."""
    filters = sum(len(problem.weight) for problem in problems)
    left = set(range(len(problems[0].reader.columns)))
    order, rises, before = [], [], 0.0
    while left:
        errors = {
            channel: sum(problem.error([*order, channel]) for problem in problems) / filters
            for channel in sorted(left)
        }
        best = min(errors, key=errors.__getitem__)
        rises.append(errors[best] - before)
        before = errors[best]
        order.append(best)
        left.remove(best)
    return order, rises


def agrees(problems, tolerance=1e-6):
    order, rises = eliminated([problem.elimination() for problem in problems])
    expected_order, expected = brute_force(problems)
    assert order == expected_order
    # Each rise is a difference of errors, whose rounding is relative to their sum.
    assert rises == pytest.approx(expected, rel=tolerance, abs=1e-9 * sum(expected))


def reader(channels, kernel, filters, others=0, repeats=1, centred=True, name="reader"):
    """A convolution that reads a group's channels in a random order, beside other inputs."""
    inputs = channels * repeats + others
    layer = nn.Conv2d(inputs, filters, kernel)
    area = layer.weight[0, 0].numel()
    places = torch.randperm(inputs)[: channels * repeats].view(channels, repeats)
    columns = (places[:, :, None] * area + torch.arange(area)).flatten(1)
    return Reader(name, layer, columns, centred)


def patches_of(read, count, rank=None):
    """Correlated patches of usual sizes; with `rank` they are singular but for noise."""
    inputs = read.layer.weight[0].numel()
    mixed = (
        torch.randn(count, rank or inputs).double() @ torch.randn(rank or inputs, inputs).double()
    )
    scales = torch.randn(inputs).exp().double()
    return (mixed / inputs**0.5 + 0.1 * torch.randn(count, inputs) + torch.rand(inputs)) * scales


@pytest.mark.parametrize("ridge", [1e-3, 0.2])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("others", [0, 3])
@pytest.mark.parametrize("kernel", [1, 3, (1, 2)])
def test_the_order_is_that_of_brute_force(kernel, others, centred, ridge):
    for seed, channels in enumerate((1, 2, 5, 7)):
        torch.manual_seed(seed)
        read = reader(channels, kernel, 4, others, centred=centred)
        agrees([Problem(read, patches_of(read, 400), ridge)])


@pytest.mark.parametrize("seed", range(4))
def test_several_consumers_of_one_group(seed):
    torch.manual_seed(seed)
    readers = [
        reader(6, 1, 5, others=2),
        reader(6, 3, 3, centred=False),
        reader(6, 1, 8, repeats=4),  # a linear layer that reads pixels
    ]
    agrees([Problem(one, patches_of(one, 300), 1e-3) for one in readers])


@pytest.mark.parametrize("count", [3, 20])
def test_fewer_patches_than_inputs(count):
    torch.manual_seed(count)
    read = reader(6, 3, 4)
    agrees([Problem(read, patches_of(read, count), 1e-3)], 1e-5)


def test_nearly_singular_inputs():
    torch.manual_seed(0)
    read = reader(7, 2, 4)
    agrees([Problem(read, patches_of(read, 500, rank=3), 1e-3)], 1e-5)


def naive(problems):
    """As `eliminated`, by a new inverse in every step."""
    order, rises, filters = [], [], 0
    states = []
    for problem in problems:
        moments = problem.rows.T @ problem.rows
        states.append((moments, problem.weight * problem.per_variance.sqrt()[:, None], problem))
        filters += len(problem.weight)
    left = list(range(len(problems[0].reader.columns)))
    while left:
        totals = torch.zeros(len(left), dtype=torch.float64)
        for moments, weight, problem in states:
            gone = problem.reader.columns[order].flatten()
            stays = torch.ones(len(moments), dtype=torch.bool)
            stays[gone] = False
            inverse = torch.zeros_like(moments)
            at = stays.nonzero().flatten()
            inverse[at[:, None], at] = torch.linalg.inv(moments[at][:, at])
            # The weights that make up for all that is gone.
            now = torch.zeros_like(weight)
            now[:, at] = weight @ moments[:, at] @ inverse[at][:, at]
            for index, channel in enumerate(left):
                own = problem.reader.columns[channel]
                part = now[:, own]
                block = inverse[own[:, None], own]
                totals[index] += (part @ torch.linalg.inv(block) * part).sum()
        index = int(totals.argmin())
        rises.append(float(totals[index]) / filters)
        order.append(left.pop(index))
    return order, rises


@pytest.mark.parametrize(("kernel", "others"), [(1, 0), (1, 40), ((1, 2), 0)])
def test_many_channels(kernel, others):
    """Changes of the inverse are put off for `BLOCK` channels; here three times and a rest."""
    torch.manual_seed(3)
    channels = 100
    assert channels > 3 * BLOCK
    read = reader(channels, kernel, 30, others)
    problem = Problem(read, patches_of(read, 2000), 1e-3)
    order, rises = eliminated([problem.elimination()])
    expected_order, expected = naive([problem])
    assert order == expected_order
    assert rises == pytest.approx(expected, rel=1e-9)
    # All rises up to a channel are the error without all of them.
    for count in (1, BLOCK, BLOCK + 1, 2 * BLOCK + 5, channels):
        error = problem.error(order[:count]) / 30
        assert sum(rises[:count]) == pytest.approx(error, rel=1e-6)


def test_many_channels_with_several_consumers():
    torch.manual_seed(4)
    readers = [reader(BLOCK + 8, 1, 10, others=3), reader(BLOCK + 8, (2, 1), 6, centred=False)]
    problems = [Problem(one, patches_of(one, 600), 1e-2) for one in readers]
    order, rises = eliminated([problem.elimination() for problem in problems])
    expected_order, expected = naive(problems)
    assert order == expected_order
    assert rises == pytest.approx(expected, rel=1e-7)


# Networks.


@pytest.mark.parametrize("name", ["concatenating", "separable", "two_heads"])
def test_scores_of_a_network_are_those_of_brute_force(name):
    """With what its layers read: concatenations, pixels, and several layers that read one map."""
    net, data = lived_in(architecture(name, (16, 16))), images(30, (16, 16))
    choice = "surgeon(positions=6)"
    layers = views(net, collect(net, data, SCALING, Choice.parse(choice).needs()))
    scores = combined(Choice.parse(choice)(layers), layers, "mean")
    patches = {}

    def take(read, inputs):
        patches[read.name] = Patches(read.layer, 6, 0).take(inputs).flatten(0, 1).double()

    found = {read.name: read for layer in layers for read in layer.readers}
    hooks = {read.layer: lambda inputs, read=read: take(read, inputs) for read in found.values()}
    with reading(hooks), torch.no_grad():
        net(SCALING(data.images))
    for group, values in enumerate(scores):
        readers = {
            read.name: read for layer in layers if layer.group == group for read in layer.readers
        }
        if len(values) > 10:
            continue  # brute force would take long
        problems = [Problem(read, patches[name], 1e-3) for name, read in readers.items()]
        order, rises = brute_force(problems)
        assert values.argsort().tolist() == order
        highest = list(itertools.accumulate(rises, max))
        assert values[order].tolist() == pytest.approx(highest, rel=1e-5, abs=1e-9)


def test_other_inputs_make_up_too():
    """A channel that another group's channel equals costs almost nothing, beside it."""
    net, data = lived_in(architecture("concatenating", (16, 16))), images(40, (16, 16))
    names = [group.name for group in channel_groups(net).groups]
    before = scored(net, data)[names.index("one")][4]
    with torch.no_grad():
        # The channels of `one` and `three` lie one behind the other in one normalisation.
        net.three.weight[2] = 0
        net.three.weight[2, :, 1, 1] = net.one.weight[4, :, 0, 0]
        net.three.bias[2] = net.one.bias[4]
        for key in ("weight", "bias", "running_mean", "running_var"):
            getattr(net.joint, key)[5 + 2] = getattr(net.joint, key)[4]
    after = scored(net, data)
    assert after[names.index("one")][4] < before / 50
    assert after[names.index("three")][2] < before / 50


def degenerate(small, build):
    """A network with two dead channels, a constant one and three equal ones in each layer."""
    net = build(small, seed=2)
    with torch.no_grad():
        for block in net.blocks:
            for dead in (0, 4):
                block.bn.weight[dead], block.bn.bias[dead] = 0, -1
            block.bn.weight[1], block.bn.bias[1] = 0, 1.3
            for tensor in (block.conv.weight, block.conv.bias, *block.bn.state_dict().values()):
                if tensor.ndim:
                    tensor[2] = tensor[3]
                    tensor[5] = tensor[3]
    return net


@pytest.mark.parametrize("count", [2, 60])
def test_scores_differ_and_masks_nest(small, lived_in, coloured, scaling, count):
    net = degenerate(small, lived_in)
    layers = views(net, collect(net, coloured(60).first(count), scaling, SURGEON.needs()))
    scores = SURGEON(layers)
    for values in scores:
        assert len(values.unique()) == len(values)
        assert values.min() >= 0
        # Dead channels leave before all others; only a constant one is worth as little.
        order = values.argsort().tolist()
        assert set(order[:2]) <= {0, 1, 4}
        assert {0, 4} <= set(order[:3])
        assert values[[0, 4]].max() <= 1e-14
        # A common factor, as of `per`, and the mean over producers keep the order.
        for other in (values / 1234567, torch.stack([values] * 3).mean(dim=0)):
            assert torch.equal(other.argsort(), values.argsort())
            assert len(other.unique()) == len(other)
    for rule in (local, global_):
        before = None
        for ratio in (0.9, 0.7, 0.5, 0.3, 0.15):
            kept = rule(scores, small, ratio)
            for values, channels in zip(scores, kept, strict=True):
                # Those kept are exactly the last of the order.
                last = values.argsort()[len(values) - len(channels) :].sort().values
                assert torch.equal(channels, last)
            if before is not None:
                for few, many in zip(kept, before, strict=True):
                    assert set(few.tolist()) <= set(many.tolist())
            before = kept


def test_only_the_last_of_equal_channels_is_worth_much(small, lived_in, coloured, scaling):
    net = degenerate(small, lived_in)
    layers = views(net, collect(net, coloured(200), scaling, SURGEON.needs()))
    for values in SURGEON(layers)[:3]:
        first, second, third = values[[2, 3, 5]].sort().values
        # The last of them has got the weights of all three.
        assert 0 < first < second < 0.01 * third


@pytest.mark.parametrize("factor", [4.0, 7.3, 1e-4])
def test_rescaling_changes_no_score(small, lived_in, coloured, scaling, factor):
    net, data = lived_in(small, seed=3), coloured(60)
    with torch.no_grad():
        for block in net.blocks:
            block.bn.eps = 0.0
    other = copy.deepcopy(net)
    with torch.no_grad():
        for layer, block in enumerate(other.blocks):
            following = other.blocks[layer + 1].conv if layer < 3 else other.classifier
            block.bn.weight[1] *= factor
            block.bn.bias[1] *= factor
            following.weight[:, 1] /= factor
            block.conv.weight[2] *= factor
            block.conv.bias[2] *= factor
            block.bn.running_mean[2] *= factor
            block.bn.running_var[2] *= factor**2
    found, expected = (
        SURGEON(views(one, collect(one, data, scaling, SURGEON.needs()))) for one in (other, net)
    )
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.argsort(), b.argsort())
        exact = factor == 4  # in fp32 too
        torch.testing.assert_close(a, b, rtol=1e-9 if exact else 2e-4, atol=1e-12)


def test_a_groups_producers_share_one_score():
    net, data = lived_in(architecture("resnet_b_all", (16, 16))), images(20, (16, 16))
    layers = views(net, collect(net, data, SCALING, SURGEON.needs()))
    scores = SURGEON(layers)
    producers = {}
    for values, layer in zip(scores, layers, strict=True):
        producers.setdefault(layer.group, []).append(values)
    assert max(map(len, producers.values())) == 4
    for several in producers.values():
        assert all(torch.equal(values, several[0]) for values in several)
    # All layers that read the residual stream count, not those of the first producer alone.
    alone = SURGEON([layers[0]])[0]
    assert not torch.allclose(alone, scores[0])
    # A sum over producers would rank groups by the number of their producers.
    added, mean = combined(scores, layers, "sum"), combined(scores, layers, "mean")
    for one, other, several in zip(added, mean, producers.values(), strict=True):
        torch.testing.assert_close(one, other * len(several), rtol=1e-12, atol=0)
        torch.testing.assert_close(other, several[0], rtol=1e-12, atol=0)
    assert {SURGEON.combine(how) for how in ("mean", "sum", "max")} == {"mean"}
    assert Choice.of("output_l1").combine("sum") == "sum"


def test_a_statistic_that_comes_with_any_producer_is_found():
    """The moments of a layer are stored with the first producer that it reads."""
    net, data = lived_in(architecture("resnet_b_all", (16, 16))), images(20, (16, 16))
    answers = collect(net, data, SCALING, SURGEON.needs())
    expected = SURGEON(views(net, answers))
    (request,) = SURGEON.needs()
    whole = {name: tensor for answer in answers for name, tensor in answer[request].items()}
    moved = [{request: {}} for _ in answers]
    moved[-1][request] = whole
    for one, other in zip(SURGEON(views(net, moved)), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18_all", "concatenating", "separable"])
def test_scores_per_parameter_and_per_mac(name):
    shape = architecture(name, (16, 16))
    net, data = lived_in(shape), images(20, (16, 16))
    plain = scored(net, data)
    counts = {"parameter": parameters, "mac": multiply_accumulates}
    for per, count in counts.items():
        divided, costs = scored(net, data, f"surgeon(per={per})"), []
        for group, (values, scores) in enumerate(zip(divided, plain, strict=True)):
            fewer = [width - (index == group) for index, width in enumerate(shape.widths)]
            costs.append(count(shape) - count(shape.with_widths(fewer)))
            torch.testing.assert_close(values * costs[-1], scores, rtol=1e-12, atol=0)
        assert len(set(costs)) > 2


def test_a_pruned_network_is_scored_by_what_is_left(small, lived_in, coloured, scaling):
    """Removing a channel that nothing needs changes no score of the others."""
    net, data = lived_in(small, seed=1), coloured(60)
    with torch.no_grad():
        for block in net.blocks:
            block.bn.weight[2], block.bn.bias[2] = 0, -1
    before = SURGEON(views(net, collect(net, data, scaling, SURGEON.needs())))
    for group in range(4):
        kept = [torch.arange(width) for width in small.widths]
        kept[group] = kept[group][kept[group] != 2]
        pruned = prune(net, kept)
        after = SURGEON(views(pruned, collect(pruned, data, scaling, SURGEON.needs())))
        for other, (whole, part) in enumerate(zip(before, after, strict=True)):
            if other != group - 1:  # its consumer has a filter less, so other means
                expected = whole[kept[other]]
                torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-9)


def test_constant_outputs_and_constant_inputs():
    """A filter without variance has no error that could be compared with it."""
    torch.manual_seed(0)
    read = reader(5, 1, 4)
    with torch.no_grad():
        read.layer.weight[1] = 0
    patches = patches_of(read, 200)
    patches[:, read.columns[3, 0]] = 2.5
    problem = Problem(read, patches, 1e-3)
    order, rises = eliminated([problem.elimination()])
    assert order[0] == 3
    assert rises[0] == 0
    agrees([problem])
    # Nothing varies at all.
    still = Problem(read, torch.ones(10, 5).double(), 1e-3)
    order, rises = eliminated([still.elimination()])
    assert sorted(order) == list(range(5))
    assert rises == [0] * 5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("surgeon(positions=0)", "'surgeon': option 'positions' is 0; it must be 1 or more"),
        ("surgeon(ridge=0)", "'surgeon': option 'ridge' is 0.0; it must be above 0"),
        ("surgeon(ridge=-0.1)", "'surgeon': option 'ridge' is -0.1; it must be above 0"),
        ("surgeon(ridge=nan)", "'surgeon', option 'ridge' is nan; it must be a finite number"),
        ("surgeon(ridge=inf)", "'surgeon', option 'ridge' is inf; it must be a finite number"),
        ("surgeon(per=foo)", "'per' is 'foo'; allowed: channel, parameter, mac"),
        ("surgeon(images=0)", "'images' is 0; it must be 1 or more"),
        ("surgeon(bins=3)", "no option 'bins'; allowed: per, positions, ridge, images"),
    ],
)
def test_invalid_options_are_refused(value, message):
    with pytest.raises(MetricError, match=message):
        Choice.parse(value)


def test_options_and_needs():
    assert SURGEON.images == 1024
    assert SURGEON.needs() == {SecondMoments(24)}
    choice = Choice.parse("surgeon(positions=5, per=mac, images=none)")
    assert choice.needs() == {SecondMoments(5)}
    assert choice.label == "surgeon(per=mac, positions=5, images=none)"


def test_a_ridge_below_the_rounding_is_refused_by_name(small, lived_in, coloured, scaling):
    net = degenerate(small, lived_in)
    choice = Choice.parse("surgeon(ridge=1e-300)")
    layers = views(net, collect(net, coloured(40), scaling, choice.needs()))
    with pytest.raises(MetricError, match=r"what blocks.1.conv read .*'ridge' 1e-300; raise it"):
        choice(layers)
