"""What every budget rule promises, and the formulas of single rules."""

import math

import pytest
import scipy.optimize
import torch
from made_up_networks import architecture

from prune_core.budgets import (
    BUDGETS,
    BudgetChoice,
    BudgetError,
    Floor,
    Importances,
    erk,
    lengths,
    lowest_ratio,
    uniform_macs,
    uniform_parameters,
)
from prune_core.cost import cost, macs, parameters
from prune_core.networks import SimpleNetArchitecture
from prune_core.options import option_defaults

FLOORS = [Floor(), Floor(2, 0.25), Floor(1, round_to=4)]
RATIOS = [0.9, 0.5, 0.3]

NETWORKS = {
    "chain": SimpleNetArchitecture((8, 16, 12, 9), (3, 3, 1, 3), (False, True, False, True), 4),
    "residual": architecture("resnet_b_all"),
}


def choices():
    """Every rule that prunes, for each cost that it can count."""
    for name, rule in BUDGETS.items():
        if rule.scope == "unpruned" or name == "widths":
            continue
        yield BudgetChoice(name)
        if "of" in option_defaults(rule.function):
            yield BudgetChoice(name, (("of", "macs"),))


CHOICES = list(choices())
OF_COST = [choice for choice in CHOICES if choice.ratio_of != "channels"]
NESTED = [choice for choice in CHOICES if choice.ranks or choice.reads_loss]
FILLED = [choice for choice in OF_COST if not choice.ranks and not choice.reads_loss]


def ids(choice):
    return choice.label


def importances_of(shape, seed=0):
    """Scores, and a loss to which channels of high scores and of narrow layers matter most."""
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.rand(width, generator=generator, dtype=torch.float64) for width in shape.widths]
    weights = torch.rand(len(scores), generator=generator, dtype=torch.float64)

    def loss(kept):
        lost = [
            weight * (1 - float(layer[channels].sum() / layer.sum()))
            for weight, layer, channels in zip(weights, scores, kept, strict=True)
        ]
        return 1.0 + float(sum(lost))

    comparable = [weight * layer for weight, layer in zip(weights, scores, strict=True)]
    return Importances(scores, comparable, loss)


def reachable(choice, shape, floor):
    of = choice.ratio_of
    return [r for r in RATIOS if of == "channels" or r >= lowest_ratio(shape, floor, of)]


def test_all_rules_are_here():
    labels = {choice.label for choice in CHOICES}
    assert {"uniform_macs", "erk(of=macs)", "global(of=macs)", "widths_of(of=macs)"} < labels
    assert {choice.name for choice in CHOICES} == {*BUDGETS} - {"unpruned", "widths"}
    assert {choice.label for choice in FILLED} == {
        "uniform_parameters",
        "uniform_macs",
        "erk",
        "erk(of=macs)",
    }


@pytest.mark.parametrize("floor", FLOORS, ids=str)
@pytest.mark.parametrize("shape", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("choice", CHOICES, ids=ids)
def test_widths_are_allowed_and_channels_are_those_of_the_widths(choice, shape, floor):
    importances = importances_of(shape)
    for ratio in [1.0, *reachable(choice, shape, floor)]:
        choice.check(shape, ratio, floor)
        kept = choice.kept(shape, ratio, floor, importances)
        widths = choice.widths(shape, ratio, floor, importances)
        assert lengths(kept) == widths
        for channels, width, full, low in zip(
            kept, widths, shape.widths, floor.of(shape.widths), strict=True
        ):
            assert low <= width <= full
            assert width == full or width % floor.round_to == 0
            assert channels.dtype == torch.int64
            assert bool((channels.diff() > 0).all())
            assert 0 <= int(channels[0]) <= int(channels[-1]) < full
        assert ratio < 1 or widths == shape.widths
        likely = choice.likely_widths(shape, ratio, floor)
        assert len(likely) == len(widths)
        assert choice.ranks or choice.reads_loss or likely == widths


@pytest.mark.parametrize("floor", FLOORS, ids=str)
@pytest.mark.parametrize("shape", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("choice", [c for c in NESTED if c.ratio_of != "channels"], ids=ids)
def test_rankings_and_greedy_widths_are_exact_and_nested(choice, shape, floor):
    importances, of = importances_of(shape, seed=2), choice.ratio_of
    # A step costs most in the full network: later its inputs and consumers are fewer.
    steps = [
        shape.groups.sizes.difference(shape.widths, layer, max(low, floor.below(width)), of)
        for layer, (width, low) in enumerate(zip(shape.widths, floor.of(shape.widths), strict=True))
    ]
    larger = [set(range(width)) for width in shape.widths]
    for ratio in reachable(choice, shape, floor):
        kept = choice.kept(shape, ratio, floor, importances)
        miss = cost(shape, of, lengths(kept)) - ratio * cost(shape, of)
        assert abs(miss) <= max(steps) / 2
        smaller = [set(channels.tolist()) for channels in kept]
        assert all(a <= b for a, b in zip(smaller, larger, strict=True))
        larger = smaller


@pytest.mark.parametrize("floor", FLOORS, ids=str)
@pytest.mark.parametrize("shape", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("choice", FILLED, ids=ids)
def test_rules_that_fill_a_budget_leave_no_room_for_a_step(choice, shape, floor):
    of = choice.ratio_of
    for ratio in reachable(choice, shape, floor):
        budget = ratio * cost(shape, of)
        widths = choice.widths(shape, ratio, floor, Importances())
        assert cost(shape, of, widths) <= budget
        for layer, (width, full) in enumerate(zip(widths, shape.widths, strict=True)):
            wider = [*widths]
            wider[layer] = min(full, width + floor.round_to)
            assert width == full or cost(shape, of, wider) > budget


@pytest.mark.parametrize("choice", CHOICES, ids=ids)
def test_a_ratio_out_of_reach_is_refused_in_the_words_of_the_cost(choice):
    shape, floor = NETWORKS["chain"], Floor(4, 0.5)
    choice.check(shape, 1.0, floor)
    for bad in (0, 1.5, math.nan):
        with pytest.raises(BudgetError, match=r"must lie in \(0, 1\]"):
            choice.check(shape, bad, floor)
    if choice.ratio_of == "channels":
        # Layers stay at their floor, whatever it costs.
        choice.check(shape, 1e-3, floor)
        assert choice.likely_widths(shape, 1e-3, floor) == floor.of(shape.widths)
        return
    lowest = lowest_ratio(shape, floor, choice.ratio_of)
    noun = {"parameters": "parameters", "macs": "multiply-accumulates"}[choice.ratio_of]
    message = rf"lowest reachable ratio is {lowest + 5e-7:.6f} of the {noun}"
    for refused in (choice.check, lambda *given: choice.kept(*given, importances_of(shape))):
        with pytest.raises(BudgetError, match=message):
            refused(shape, lowest * 0.99, floor)
    assert choice.kept(shape, lowest, floor, importances_of(shape)) is not None


def test_rules_can_be_used_without_options():
    """As a plug-in's rule is, and every rule was before there were options."""
    shape, floor = NETWORKS["chain"], Floor()
    importances = importances_of(shape)
    for choice in CHOICES:
        if not choice.options:
            found = BUDGETS[choice.name].kept(shape, 0.5, floor, importances)
            expected = choice.kept(shape, 0.5, floor, importances)
            assert all(map(torch.equal, found, expected))


def test_uniform_macs_by_hand():
    # M(k) = 4 (3 k1 + k1 k2) + 2 k2 is 540 for (10, 10), so the budget is 270 and rho is 0.665.
    # (6, 6) costs 228; the first layer gets one more (264); after it neither can.
    square = SimpleNetArchitecture((10, 10), (1, 1), (False, False), 2, (2, 2))
    assert macs(square) == 540
    assert uniform_macs(square, 0.5) == (7, 6)
    assert uniform_parameters(square, 0.5) == (6, 6)


def test_erk_by_hand():
    # (n_in + n_out + 2 k) / (n_in n_out k^2): 13/108, 16/40 and 22/100. With the factor 3, the
    # second layer is capped, and the widths are 1.444, 10 and 6.6.
    shape = SimpleNetArchitecture((4, 10, 10), (3, 1, 1), (False,) * 3, 2)
    real = (4 * 3 * 13 / 108, 10, 10 * 3 * 0.22)
    ratio = shape.groups.sizes.parameters(real) / parameters(shape)
    assert ratio == pytest.approx(188.777778 / 342)
    # (1, 10, 6) has 162 parameters. The last layer is furthest below its share (177); a channel of
    # the first costs 40, another of the last 15.
    assert erk(shape, ratio) == (1, 10, 7)
    assert parameters(shape, (1, 10, 7)) == 177
    assert erk(shape, ratio, Floor(2)) == (2, 10, 5)  # 187 parameters, of 188.8
    # At each position the real widths cost 119.4 and (1, 10, 6) costs 27 + 10 + 60 = 97. A channel
    # of the first layer costs 37, one of the last 10: two of these fit.
    ratio = shape.groups.sizes.macs(real) / macs(shape)
    assert erk(shape, ratio, of="macs") == (1, 10, 8)


@pytest.mark.parametrize("of", ["parameters", "macs"])
def test_erk_adds_up_the_producers_of_a_group(of):
    shape = NETWORKS["residual"]
    modules = dict(shape.build().named_modules())
    density = []
    for group in shape.groups.groups:
        weights = [modules[producer.name].weight.shape for producer in group.producers]
        density.append(sum(map(sum, weights)) / sum(map(math.prod, weights)))
    assert any(len(group.producers) > 2 for group in shape.groups.groups)

    def real(factor):
        return [
            max(1, min(1, factor * share) * width)
            for share, width in zip(density, shape.widths, strict=True)
        ]

    def excess(factor, budget):
        return shape.groups.sizes.cost(of, real(factor)) - budget

    for ratio in (0.3, 0.6):
        budget = ratio * cost(shape, of)
        factor = scipy.optimize.brentq(excess, 0, 1 / min(density), args=(budget,))
        found = erk(shape, ratio, of=of)
        rests = [width - share for width, share in zip(found, real(factor), strict=True)]
        assert all(-1 <= rest < 4 for rest in rests)
        assert sum(-1 <= rest <= 1 for rest in rests) > 0.8 * len(rests)
    assert found != uniform_parameters(shape, 0.6)
