import math
import re

import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_core.budgets import (
    BudgetError,
    Floor,
    check_ratio,
    collapsed,
    global_,
    local,
    lowest_ratio,
    top,
    uniform_channels,
    uniform_parameters,
)
from prune_core.cost import cost, parameters
from prune_core.networks import Architecture, SimpleNet, SimpleNetArchitecture
from prune_core.surgery import prune

TENTHS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def scores_of(architecture, seed=0, kind="even"):
    """Random scores; `skewed` ones differ between layers by orders, as raw metrics do."""
    generator = torch.Generator().manual_seed(seed)
    scores = [
        torch.rand(width, generator=generator, dtype=torch.float64) for width in architecture.widths
    ]
    if kind == "skewed":
        weights = torch.randperm(len(scores), generator=generator).double()
        return [10**weight * layer for weight, layer in zip(weights, scores, strict=True)]
    return scores


def widths_of(kept):
    return tuple(len(channels) for channels in kept)


def achieved(architecture, kept):
    return parameters(architecture, widths_of(kept)) / parameters(architecture)


@pytest.fixture(scope="module", params=[10, 100])
def large(request):
    return Architecture.named("simplenet_5m", request.param)


@pytest.mark.parametrize("ratio", TENTHS)
@pytest.mark.parametrize("scope", [local, global_])
@pytest.mark.parametrize("kind", ["even", "skewed"])
def test_the_ratio_is_met_within_a_tenth_of_a_point(large, ratio, scope, kind):
    kept = scope(scores_of(large, kind=kind), large, ratio)
    assert abs(achieved(large, kept) - ratio) < 1e-3


def test_local_at_three_tenths():
    architecture = Architecture.named("simplenet_5m", 10)
    widths = uniform_parameters(architecture, 0.3)
    assert parameters(architecture, widths) / parameters(architecture) == pytest.approx(
        0.29996, abs=5e-6
    )
    # rho = 0.5470, and each layer has the whole part of rho n or one channel more.
    rests = [width - 0.5470 * full for width, full in zip(widths, architecture.widths, strict=True)]
    assert all(-1 <= rest <= 1 for rest in rests)


@pytest.mark.parametrize("kind", ["even", "skewed"])
def test_global_misses_by_at_most_half_of_the_largest_channel(large, kind):
    # The costliest channel, of a layer 256 wide that is read by 512 filters, is 6,915 parameters.
    scores = scores_of(large, seed=3, kind=kind)
    for percent in range(5, 100, 3):
        kept = global_(scores, large, percent / 100)
        assert abs(achieved(large, kept) - percent / 100) <= 0.00063


@pytest.mark.parametrize("floor", [Floor(), Floor(4, 0.1)])
@pytest.mark.parametrize("kind", ["even", "skewed"])
def test_global_masks_are_nested_over_ratios(large, floor, kind):
    scores = scores_of(large, kind=kind)
    larger = [set(range(width)) for width in large.widths]
    for percent in range(95, 5, -5):
        kept = [set(layer.tolist()) for layer in global_(scores, large, percent / 100, floor)]
        assert all(a <= b for a, b in zip(kept, larger, strict=True))
        larger = kept


@pytest.mark.parametrize("scope", [local, global_])
def test_everything_is_kept_at_ratio_one(small, scope):
    kept = scope(scores_of(small), small, 1.0)
    assert [channels.tolist() for channels in kept] == [list(range(w)) for w in small.widths]


architectures = st.integers(1, 5).flatmap(
    lambda depth: st.builds(
        SimpleNetArchitecture,
        st.tuples(*[st.integers(1, 9)] * depth),
        st.tuples(*[st.sampled_from([1, 3])] * depth),
        st.tuples(*[st.booleans()] * depth),
        st.integers(2, 5),
    )
)
floors = st.builds(
    Floor, st.integers(1, 4), st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([1, 1, 2, 3])
)


def global_by_recounting(scores, architecture, ratio, floor, of):
    """The definition, slowly: every state along the order, counted anew; the nearest wins."""
    order = sorted(
        (value, layer, channel)
        for layer, values in enumerate(scores)
        for channel, value in enumerate(values.tolist())
    )
    full = architecture.widths
    low, target = floor.of(full), ratio * cost(architecture, of)
    states = [[list(range(width)) for width in full]]
    reached = [[] for _ in full]
    for _, layer, channel in order:
        reached[layer].append(channel)
        # The widest allowed layer that has lost as many channels as were reached, or fewer.
        left = full[layer] - len(reached[layer])
        allowed = [w for w in range(1, full[layer]) if w % floor.round_to == 0] + [full[layer]]
        width = max(low[layer], min(w for w in allowed if w >= left))
        state = [list(each) for each in states[-1]]
        gone = set(reached[layer][: full[layer] - width])
        state[layer] = [c for c in range(full[layer]) if c not in gone]
        if state != states[-1]:
            states.append(state)
    misses = [abs(cost(architecture, of, [len(k) for k in state]) - target) for state in states]
    # Of two equally near states the smaller network, which is within the budget.
    return [s for s, miss in zip(states, misses, strict=True) if miss == min(misses)][-1]


@settings(max_examples=80, deadline=None)
@given(
    architectures,
    floors,
    st.floats(0.02, 1),
    st.integers(0, 2**31 - 1),
    st.sampled_from([1, 2, 1000]),
    st.sampled_from(["parameters", "macs"]),
)
def test_global_is_the_nearest_state_of_one_order(architecture, floor, ratio, seed, levels, of):
    # Few levels make many ties; a score of 0 for all is what dead channels look like.
    scores = [(layer * levels).floor() for layer in scores_of(architecture, seed)]
    if ratio < lowest_ratio(architecture, floor, of):
        with pytest.raises(BudgetError, match="lowest reachable"):
            global_(scores, architecture, ratio, floor, of=of)
        return
    kept = [channels.tolist() for channels in global_(scores, architecture, ratio, floor, of=of)]
    assert kept == global_by_recounting(scores, architecture, ratio, floor, of)


def wider(architecture, widths, layer, step):
    """The widths with one more step for a layer."""
    most = architecture.widths[layer]
    return (*widths[:layer], min(most, widths[layer] + step), *widths[layer + 1 :])


def room_left(architecture, widths, budget, step):
    """The layers that could take one more step within the budget."""
    return [
        layer
        for layer, width in enumerate(widths)
        if width < architecture.widths[layer]
        and parameters(architecture, wider(architecture, widths, layer, step)) <= budget
    ]


def local_by_recounting(architecture, floor, ratio):
    """The definition, slowly: of all layers with room, the one furthest below rho n grows."""
    full, low, step = architecture.widths, floor.of(architecture.widths), floor.round_to
    if ratio == 1:
        return full
    budget = ratio * parameters(architecture)

    def shares(rho):
        return [max(least, rho * most) for least, most in zip(low, full, strict=True)]

    def excess(rho):
        inputs, total = 3, architecture.classes
        for width, kernel in zip(shares(rho), architecture.kernels, strict=True):
            total += width * (inputs * kernel**2 + 3)
            inputs = width
        return total + inputs * architecture.classes - budget

    rho = scipy.optimize.brentq(excess, 0, 1, xtol=1e-15) if excess(0) < 0 < excess(1) else 0
    # Below the root in spite of rounding; a layer that is a step too narrow then grows first.
    ideal = shares(max(0, rho - 1e-12))
    widths = tuple(
        most if share >= most else max(least, math.floor(share / step) * step)
        for share, least, most in zip(ideal, low, full, strict=True)
    )
    while able := room_left(architecture, widths, budget, step):
        furthest = max(able, key=lambda layer: round(ideal[layer] - widths[layer], 9))
        widths = wider(architecture, widths, furthest, step)
    return widths


VARIANTS = ["simplenet_5m", "simplenet_5m_extra_pool", "simplenet_460k", "simplenet_310k"]


@pytest.mark.parametrize("step", [1, 8, 16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_layer_can_take_another_step_within_the_budget(variant, step):
    for floor in (Floor(round_to=step), Floor(4, 0.1, step)):
        for classes in (10, 100):
            architecture = Architecture.named(variant, classes)
            for ratio in [*TENTHS, 0.35, 0.53, 0.97]:
                budget = ratio * parameters(architecture)
                if ratio < lowest_ratio(architecture, floor):
                    continue
                widths = uniform_parameters(architecture, ratio, floor)
                assert parameters(architecture, widths) <= budget
                assert not room_left(architecture, widths, budget, step), ratio


def test_steps_go_to_the_layer_furthest_below_its_share():
    # P(k) = k1 (3 + 3) + k2 (k1 + 3) + k2 2 + 2 = 212 for (10, 10); at 0.5 the budget is 106, and
    # P(10 rho) = 100 rho^2 + 110 rho + 2 = 106 gives rho = 0.609. (6, 6) costs 104; one more
    # channel of the first layer costs 6 + 6 = 12, of the second 6 + 3 + 2 = 11: neither fits.
    square = SimpleNetArchitecture((10, 10), (1, 1), (False, False), 2)
    assert uniform_parameters(square, 0.5) == (6, 6)
    # At 0.56 the budget is 118.72 and rho = 0.663: both lack 0.63. The first gets its channel
    # (116); then a channel of the second costs 12, of the first 12 more: neither fits.
    assert uniform_parameters(square, 0.56) == (7, 6)


def test_a_layer_takes_a_second_step_if_no_other_can_take_its_first():
    # P(k) = 6 k1 + k2 (k1 + 3) + k3 (k2 + 3) + 2 k3 + 2 is 320 for (4, 2, 40), so the budget is 240
    # and rho n is (3.17, 1.59, 31.75). From (3, 1, 31), which costs 212, the last layer gets a
    # channel (218). One for the middle layer would cost 38. The first layer gets its last (225).
    # Now only the last layer can take more: two at 6 each (237).
    narrow = SimpleNetArchitecture((4, 2, 40), (1, 1, 1), (False,) * 3, 2)
    assert parameters(narrow, (4, 1, 34)) == 237
    assert uniform_parameters(narrow, 0.75) == (4, 1, 34)


@settings(max_examples=50, deadline=None)
@given(architectures, floors, st.floats(0.02, 1), st.integers(0, 2**31 - 1))
def test_local_fits_the_budget_and_nothing_more_would(architecture, floor, ratio, seed):
    if ratio < lowest_ratio(architecture, floor):
        with pytest.raises(BudgetError, match="lowest reachable"):
            local(scores_of(architecture, seed), architecture, ratio, floor)
        return
    scores = scores_of(architecture, seed)
    kept = local(scores, architecture, ratio, floor)
    widths, budget = widths_of(kept), ratio * parameters(architecture)
    assert parameters(architecture, widths) <= budget * (1 + 1e-12)
    assert not room_left(architecture, widths, budget, floor.round_to)
    for layer, (width, full, low) in enumerate(
        zip(widths, architecture.widths, floor.of(architecture.widths), strict=True)
    ):
        assert low <= width <= full
        best = sorted(range(full), key=lambda c, s=scores[layer]: (s[c].item(), c))[full - width :]
        assert kept[layer].tolist() == sorted(best)
        assert width % floor.round_to == 0 or width == full
    assert widths == local_by_recounting(architecture, floor, ratio)


@settings(max_examples=50, deadline=None)
@given(architectures, floors)
def test_the_named_lowest_ratio_works_and_less_does_not(architecture, floor):
    lowest = lowest_ratio(architecture, floor)
    scores = scores_of(architecture)
    for scope in (local, global_):
        if lowest * 0.99 > 0:
            with pytest.raises(BudgetError) as refusal:
                scope(scores, architecture, lowest * 0.99, floor)
            named = float(
                re.search(r"reachable ratio is (\S+) of the parameters;", str(refusal.value)).group(
                    1
                )
            )
            kept = scope(scores, architecture, min(1.0, named), floor)
            assert achieved(architecture, kept) <= named
        exact = scope(scores, architecture, lowest, floor)
        assert widths_of(exact) == floor.of(architecture.widths)


@pytest.mark.parametrize("ratio", [0, -0.1, 1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("scope", [local, global_])
def test_impossible_ratios_are_refused(small, ratio, scope):
    with pytest.raises(BudgetError, match=r"must lie in \(0, 1\]"):
        scope(scores_of(small), small, ratio)
    with pytest.raises(BudgetError, match=r"must lie in \(0, 1\]"):
        check_ratio(small, ratio, Floor())


def test_the_recount_is_of_the_network_that_is_built(lived_in):
    architecture = Architecture.named("simplenet_310k", 10)
    net = lived_in(architecture)
    for scope in (local, global_):
        kept = scope(scores_of(architecture, kind="skewed"), architecture, 0.4)
        built = sum(parameter.numel() for parameter in prune(net, kept).parameters())
        assert built == parameters(architecture, widths_of(kept))


def test_ties_are_decided_by_layer_and_channel():
    architecture = SimpleNetArchitecture((3, 3), (1, 1), (False, False), 2)
    zeros = [torch.zeros(3), torch.zeros(3)]
    assert [c.tolist() for c in top(zeros, (1, 2))] == [[2], [1, 2]]
    # Dead channels all score 0: just as many go as the budget asks, the first ones first.
    assert [c.tolist() for c in global_(zeros, architecture, 0.7)] == [[1, 2], [0, 1, 2]]
    signed = [torch.tensor([0.0, -0.0, 0.0]), torch.tensor([-0.0, 0.0, -0.0])]
    assert [c.tolist() for c in global_(signed, architecture, 0.7)] == [[1, 2], [0, 1, 2]]
    assert [c.tolist() for c in top(signed, (1, 2))] == [[2], [1, 2]]


def test_a_layer_at_its_floor_loses_no_more():
    architecture = Architecture.named("simplenet_310k", 10)
    scores = scores_of(architecture, kind="skewed")
    floor = Floor(4, 0.1)
    kept = global_(scores, architecture, 0.3, floor)
    assert min(widths_of(kept)) >= 4
    assert all(
        len(channels) >= 0.1 * width
        for channels, width in zip(kept, architecture.widths, strict=True)
    )
    assert min(widths_of(global_(scores, architecture, 0.3))) == 1
    for channels, layer in zip(kept, scores, strict=True):
        gone = sorted(set(range(len(layer))) - set(channels.tolist()))
        assert not gone or layer[gone].max() < layer[channels].min()


def test_floors():
    assert Floor(4, 0.1).of((2, 64, 2048)) == (2, 7, 205)
    assert Floor().of((1, 5)) == (1, 1)
    assert Floor(1, 1.0).of((3, 5)) == (3, 5)
    assert Floor(1, 0.07).of((100,)) == (7,)  # though 0.07 * 100 is above 7 in floating point
    for bad in (lambda: Floor(0), lambda: Floor(1, 1.1), lambda: Floor(1, -0.1)):
        with pytest.raises(BudgetError, match="min_channels"):
            bad()


def test_a_channel_budget_keeps_the_same_share_of_every_layer():
    architecture = Architecture.named("simplenet_5m", 10)
    widths = uniform_channels(architecture, 0.3)
    expected = [max(1, round(0.3 * width)) for width in architecture.widths]
    assert list(widths) == expected
    assert parameters(architecture, widths) / parameters(architecture) == pytest.approx(
        0.0907, abs=5e-5
    )
    assert uniform_channels(architecture, 1.0) == architecture.widths
    assert set(uniform_channels(architecture, 1e-9)) == {1}
    assert min(uniform_channels(architecture, 0.01, Floor(4, 0.1))) == 7
    assert uniform_channels(architecture.with_widths((5,) * 13), 0.5) == (3,) * 13
    for ratio in (0, 1.5, float("nan")):
        with pytest.raises(BudgetError, match=r"must lie in \(0, 1\]"):
            uniform_channels(architecture, ratio)


@pytest.mark.parametrize("step", [8, 16, 32])
@pytest.mark.parametrize("variant", ["simplenet_5m", "simplenet_460k"])
def test_widths_in_steps(step, variant):
    architecture, floor = Architecture.named(variant, 10), Floor(round_to=step)
    full, scores = architecture.widths, scores_of(Architecture.named(variant, 10), kind="skewed")
    for ratio in (0.35, 0.5, 0.65, 0.8, 1.0):
        budget = ratio * parameters(architecture)
        narrow = uniform_parameters(architecture, ratio, floor)
        for widths in (
            narrow,
            uniform_channels(architecture, ratio, floor),
            widths_of(global_(scores, architecture, ratio, floor)),
        ):
            assert all(
                width == most or (width % step == 0 and width >= step)
                for width, most in zip(widths, full, strict=True)
            )
            assert ratio < 1 or widths == full
        assert parameters(architecture, narrow) <= budget
        assert not room_left(architecture, narrow, budget, step)
        # The miss of the global ranking is at most half of the largest step.
        largest = max(
            parameters(architecture)
            - parameters(architecture, [*full[:layer], full[layer] - step, *full[layer + 1 :]])
            for layer in range(len(full))
            if full[layer] > step
        )
        count = parameters(architecture, widths_of(global_(scores, architecture, ratio, floor)))
        assert abs(count - budget) <= largest / 2


def test_global_masks_in_steps_are_nested():
    architecture, floor = Architecture.named("simplenet_310k", 10), Floor(2, 0.1, round_to=8)
    scores = scores_of(architecture, kind="skewed")
    larger = [set(range(width)) for width in architecture.widths]
    for percent in range(95, 15, -5):
        kept = global_(scores, architecture, percent / 100, floor)
        smaller = [set(layer.tolist()) for layer in kept]
        assert all(a <= b for a, b in zip(smaller, larger, strict=True))
        larger = smaller


@pytest.mark.parametrize(
    ("ratio", "floor", "advice"),
    [
        (0.001, Floor(40), "raise the ratio or lower min_channels"),
        (0.001, Floor(1, 0.5), "raise the ratio or lower min_channels"),
        (0.3, Floor(round_to=1024), "raise the ratio or lower round_to"),
        (0.3, Floor(500, round_to=1024), "raise the ratio or lower min_channels and round_to"),
        (1e-9, Floor(40), "raise the ratio"),
    ],
    ids=str,
)
def test_an_unreachable_ratio_names_what_would_reach_it(large, ratio, floor, advice):
    with pytest.raises(BudgetError, match=f"; {advice}$"):
        check_ratio(large, ratio, floor)


def test_steps_have_a_lowest_ratio_of_their_own(small):
    with pytest.raises(BudgetError, match=r"1 channel a layer, in multiples of 4 the lowest"):
        local(scores_of(small), small, 0.05, Floor(round_to=4))
    assert Floor(3, round_to=4).of((8, 3, 100, 6)) == (4, 3, 4, 4)
    assert Floor(5, 0.1, round_to=4).of((8, 7, 100)) == (8, 7, 12)
    with pytest.raises(BudgetError, match="round_to 0"):
        Floor(round_to=0)


def test_widths_of_another_ranking_take_the_best_of_ones_own(small):
    mine, theirs = scores_of(small, 1), scores_of(small, 2)
    widths = widths_of(global_(theirs, small, 0.5))
    kept = top(mine, widths)
    assert widths_of(kept) == widths
    for channels, scores in zip(kept, mine, strict=True):
        gone = sorted(set(range(len(scores))) - set(channels.tolist()))
        assert not gone or scores[gone].max() < scores[channels].min()


def test_collapse_is_a_layer_cut_down_to_its_floor(small):
    assert not collapsed(small, small.widths, Floor())
    assert not collapsed(small, (2, 2, 2, 2), Floor())
    assert collapsed(small, (2, 1, 2, 2), Floor())
    assert collapsed(small, (8, 6, 12, 4), Floor(4))
    narrow = small.with_widths((1, 6, 12, 9))
    assert not collapsed(narrow, (1, 2, 2, 2), Floor())  # it was that narrow before


def test_scores_that_give_no_order_are_refused(small):
    for scope in (local, global_):
        with pytest.raises(BudgetError, match="widths"):
            scope(scores_of(small)[:-1], small, 0.5)
        bad = scores_of(small)
        bad[2][4] = float("nan")
        with pytest.raises(BudgetError, match=r"layer 2 .* not finite"):
            scope(bad, small, 0.5)


def test_the_network_built_from_uniform_parameters_is_the_budgets():
    architecture = Architecture.named("simplenet_460k", 10)
    widths = uniform_parameters(architecture, 0.5)
    net = SimpleNet(architecture.with_widths(widths))
    total = sum(parameter.numel() for parameter in net.parameters())
    assert total == pytest.approx(0.5 * 385_790, rel=2e-3)
