"""Metrics of feature maps as a whole: the order of correlations, independence and entropy."""

import math

import pytest
import scipy.special
import scipy.stats
import torch
from made_up_networks import CLASSES, architecture, lived_in

from prune_core.budgets import global_, local
from prune_core.images import LabelledImages
from prune_core.layer import combined, views
from prune_core.metrics import Choice
from prune_core.metrics.feature_maps import eliminated
from prune_core.networks import architecture_of
from prune_core.preprocessing import Preprocessing
from prune_core.statistics import Covariance, collect
from prune_core.surgery import prune

SCALING = Preprocessing((120.0,) * 3, (60.0,) * 3)
CORRELATION = Choice.of("correlation")
MINE = (
    *("taylor_weight", "hessian_diag", "synflow", "correlation", "chip"),
    *("feature_map_entropy", "feature_map_entropy(of=value)"),
)


def images(count, size=(16, 16)):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(count) % CLASSES)


def made_up(channels, seed, factors=3):
    """Values [N, C] of channels that share a few factors, as those of a layer do."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(400, factors, generator=generator)
    mixed = shared @ torch.randn(factors, channels, generator=generator)
    return (mixed + 0.7 * torch.randn(400, channels, generator=generator)).double()


def naive(values):
    """The order and the largest correlations, by new correlations in every step."""
    left, order, largest = list(range(values.shape[1])), [], []
    whole = values.T.corrcoef().abs()
    while len(left) > 1:
        found = values[:, left].T.corrcoef().abs().fill_diagonal_(0)
        rows, columns = (found == found.max()).nonzero(as_tuple=True)
        pair = (int(rows[0]), int(columns[0]))
        # Without the pair itself, whose correlation both have.
        means = [float(found[at].sum()) for at in pair]
        if len(left) == 2:
            means = [float(whole[left[at]].sum()) for at in pair]
        leaves = pair[0] if means[0] >= means[1] else pair[1]
        largest.append(float(found.max()))
        order.append(left.pop(leaves))
    return order + left, [*largest, 0.0]


@pytest.mark.parametrize("channels", [1, 2, 3, 9, 40])
def test_the_order_of_correlations_is_that_of_the_definition(channels):
    for seed in range(3):
        values = made_up(channels, seed)
        magnitudes = values.T.corrcoef().abs().view(channels, channels)
        magnitudes = (magnitudes + magnitudes.T) / 2
        order, largest = eliminated(magnitudes, torch.zeros(channels, dtype=torch.bool))
        expected_order, expected = naive(values)
        assert order == expected_order
        assert largest == pytest.approx(expected, abs=1e-12)


def test_correlations_by_hand(scored):
    # Channel 1 is -2 times channel 0; 2 is uncorrelated with both; 3 never changes.
    values = torch.tensor([[1.0, -2, 1, 5], [2, -4, -1, 5], [3, -6, -1, 5], [4, -8, 1, 5]])
    found = scored("correlation", values).tolist()
    assert found[3] == pytest.approx(0, abs=1e-12)
    assert found[0] == pytest.approx(0, abs=1e-12)  # as correlated as channel 1, and before it
    assert found[3] < found[0] < 1e-12 < found[1]
    assert sorted(found[1:3]) == pytest.approx([1, 1])
    # Correlations 0.5 of 0 with 1, 0.8 of 1 with 2, 0 of 0 with 2: 1 has the larger mean.
    three = torch.tensor([[1, 0.5, 0.0], [0.5, 1, 0.8], [0, 0.8, 1]]).double()
    order, largest = eliminated(three, torch.zeros(3, dtype=torch.bool))
    assert order[0] == 1
    assert largest == pytest.approx([0.8, 0, 0])


def test_channels_without_correlations_all_stay():
    order, largest = eliminated(torch.eye(4).double(), torch.tensor([False, True, False, False]))
    assert order == [1, 0, 2, 3]
    assert largest == [1, 0, 0, 0]


def test_all_channels_may_be_constant(scored):
    found = scored("correlation", torch.ones(9, 5))
    assert len(found.unique()) == 5
    assert 0 <= found.min() <= found.max() < 1e-12


@pytest.mark.parametrize("name", ["simplenet", "resnet_b_all", "separable"])
def test_masks_of_correlations_nest(name):
    net = lived_in(architecture(name, (32, 32)))
    layers = views(net, collect(net, images(12, (32, 32)), SCALING, CORRELATION.needs()))
    scores, shape = combined(CORRELATION(layers), layers, "mean"), architecture_of(net)
    for values in scores:
        assert len(values.unique()) == len(values)
        assert 0 <= values.min() <= values.max() < 1 + 1e-6
    for rule in (local, global_):
        before = None
        for ratio in (0.9, 0.8, 0.7):
            kept = rule(scores, shape, ratio)
            for values, channels in zip(scores, kept, strict=True):
                last = values.argsort()[len(values) - len(channels) :].sort().values
                assert torch.equal(channels, last)
            if before is not None and rule is global_:
                for few, many in zip(kept, before, strict=True):
                    assert set(few.tolist()) <= set(many.tolist())
            before = kept


def test_a_copy_in_every_map_leaves_first():
    """A group with several producers: a copy in one of the maps alone is no copy."""
    net, data = lived_in(architecture("resnet_b_all")), images(12)
    answers = collect(net, data, SCALING, CORRELATION.needs())
    layers = [layer for layer in views(net, answers) if layer.group == 0]
    assert len(layers) > 1
    found = [layer.answer(Covariance())["covariance"].clone() for layer in layers]

    def scored_with(copied):
        for index, layer in enumerate(layers):
            covariance = found[index].clone()
            if index in copied:
                covariance[4], covariance[:, 4] = covariance[2], covariance[:, 2]
                covariance[4, 4] = covariance[4, 2] = covariance[2, 4] = covariance[2, 2]
            layer.answer(Covariance())["covariance"] = covariance
        return CORRELATION(layers)[0]

    everywhere = scored_with(range(len(layers)))
    assert everywhere[[2, 4]].min() < 1e-6
    assert everywhere.argmin() in (2, 4)
    assert scored_with([0])[[2, 4]].min() > 1e-3


def test_independence_of_orthogonal_maps(scored):
    # Each channel fires at a position of its own: it is worth its length, in the mean over images.
    values = torch.zeros(2, 3, 2, 2)
    values[0, 0, 0, 0], values[0, 1, 0, 1], values[0, 2, 1, 0] = 3, 1, 2
    values[1, 0, 1, 1], values[1, 2, 0, 0] = 5, 1
    assert scored("chip", values).tolist() == pytest.approx([4, 0.5, 1.5], rel=1e-12)


def test_entropies_of_maps_by_hand(scored):
    flat, peaked = torch.full((2, 2), 3.0), torch.tensor([[0.0, 0], [0, 4]])
    values = torch.stack([flat, peaked, 100 * peaked])[None]
    assert scored("feature_map_entropy", values).tolist() == pytest.approx(
        # The deviations are 3 for the peak and -1 for the others: e^9 and 3 times e^1.
        [-math.log(4), -scipy.stats.entropy(scipy.special.softmax([9, 1, 1, 1])), 0],
        abs=1e-12,
    )
    assert scored("feature_map_entropy(of=value)", values).tolist() == pytest.approx(
        [-math.log(4), -scipy.stats.entropy(scipy.special.softmax([4, 0, 0, 0])), 0], abs=1e-12
    )


def test_half_of_the_squares_of_weights_and_gradients():
    net, data = lived_in(architecture("separable", (16, 16))), images(6)
    choice = Choice.of("hessian_diag")
    (request,) = choice.needs()
    layers = views(net, collect(net, data, SCALING, [request]))
    for layer, scores in zip(layers, choice(layers), strict=True):
        assert torch.equal(2 * scores, layer.answer(request)["sum"])


# Depthwise, concatenations, two heads, additions; ResNet-50 has no other operations.
@pytest.mark.parametrize("name", ["separable", "concatenating", "two_heads", "resnet_a_all"])
def test_pruned_networks_are_scored_again(name):
    shape, data = architecture(name, (16, 16)), images(8)
    net, choices = lived_in(shape), [Choice.parse(text) for text in MINE]
    for share in (0.7, 0.5):
        needs = {request for choice in choices for request in choice.needs()}
        layers = views(net, collect(net, data, SCALING, needs))
        for choice in choices:
            scores = combined(choice(layers), layers, "mean")
            assert [len(values) for values in scores] == list(architecture_of(net).widths)
        kept = [
            values.argsort(descending=True)[: max(1, round(share * len(values)))].sort().values
            for values in combined(CORRELATION(layers), layers, "mean")
        ]
        net = prune(net, kept)
