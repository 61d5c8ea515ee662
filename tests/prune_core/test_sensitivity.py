"""Greedy widths by a measured loss."""

import pytest
import torch
from torch import nn

from prune_core.budgets import (
    BudgetChoice,
    BudgetError,
    Floor,
    Importances,
    held_out_loss,
    lengths,
    sensitivity,
)
from prune_core.cost import macs, parameters
from prune_core.networks import SimpleNetArchitecture
from prune_core.surgery import prune

# P(k) = 6 k1 + k2 (k1 + 3) + 2 k2 + 2 is 62 for (4, 4); M(k) = 4 (3 k1 + k1 k2) + 2 k2 is 120.
SQUARE = SimpleNetArchitecture((4, 4), (1, 1), (False, False), 2, (2, 2))
SCORES = [torch.tensor([3.0, 1.0, 0.0, 2.0]), torch.tensor([0.0, 3.0, 2.0, 1.0])]

# At (4, 4), the first layer raises the loss by 0.38 for 10 parameters, the second by 0.36 for 9:
# the first shrinks. At (3, 4) both lower it: by 0.13 for 10 and by 0.08 for 8 parameters: the first
# again. Both raise it by 0.0625 for each parameter at (2, 4), 0.625 for 10 and 0.4375 for 7: a tie,
# so the first. Then the first is at its floor.
LOSSES = {
    (4, 4): 1.0,
    (3, 4): 1.38,
    (4, 3): 1.36,
    (2, 4): 1.25,
    (3, 3): 1.30,
    (1, 4): 1.875,
    (2, 3): 1.6875,
    (1, 3): 9.0,
    (1, 2): 8.0,
    (1, 1): 9.5,
}
PATH = [((4, 4), 62), ((3, 4), 52), ((2, 4), 42), ((1, 4), 32), ((1, 3), 26), ((1, 2), 20)]


class Table:
    """A loss of the widths alone, which remembers what it was asked."""

    def __init__(self, losses=LOSSES):
        self.losses = losses
        self.asked = []

    def __call__(self, kept):
        self.asked.append(lengths(kept))
        return self.losses[self.asked[-1]]


@pytest.mark.parametrize(("widths", "count"), PATH)
def test_the_path_is_the_one_worked_out_by_hand(widths, count):
    assert parameters(SQUARE, widths) == count
    found = sensitivity(SCORES, Table(), SQUARE, count / 62, step=0.25)
    assert lengths(found) == widths
    # The best channels of each layer stay.
    first, second = ([0, 3, 1, 2], [1, 2, 3, 0])
    assert found[0].tolist() == sorted(first[: widths[0]])
    assert found[1].tolist() == sorted(second[: widths[1]])


def test_the_nearer_of_two_states_is_kept():
    for target, widths in ((46, (2, 4)), (48, (3, 4)), (53, (3, 4)), (58, (4, 4)), (27, (1, 3))):
        assert lengths(sensitivity(SCORES, Table(), SQUARE, target / 62, step=0.25)) == widths
    # Of two equally near ones the smaller, which is within the budget.
    assert lengths(sensitivity(SCORES, Table(), SQUARE, 47 / 62, step=0.25)) == (2, 4)


def test_each_candidate_is_asked_for_once():
    loss = Table()
    sensitivity(SCORES, loss, SQUARE, 32 / 62, step=0.25)
    assert loss.asked == [(4, 4), (3, 4), (4, 3), (2, 4), (3, 3), (1, 4), (2, 3)]
    loss = Table()
    sensitivity(SCORES, loss, SQUARE, 1.0)
    assert loss.asked == []


def test_the_rise_counts_for_each_multiply_accumulate():
    # At (3, 4), the first layer saves 28 and the second 14: 0.13 / 28 < 0.08 / 14.
    assert macs(SQUARE) == 120
    assert macs(SQUARE, (3, 3)) == 78
    found = sensitivity(SCORES, Table(), SQUARE, 78 / 120, of="macs", step=0.25)
    assert lengths(found) == (3, 3)


def test_a_step_ends_where_the_budget_is_met():
    # Steps of two channels: (2, 4) raises the loss by 0.25 for 20, (4, 2) by 2 for 18.
    losses = {(4, 4): 1.0, (2, 4): 1.25, (4, 2): 3.0}
    loss = Table(losses)
    assert lengths(sensitivity(SCORES, loss, SQUARE, 52 / 62, step=0.5)) == (3, 4)
    assert loss.asked == [*losses]
    assert lengths(sensitivity(SCORES, Table(losses), SQUARE, 42 / 62, step=0.5)) == (2, 4)


def test_floors_end_the_steps_of_a_layer():
    found = sensitivity(SCORES, Table(), SQUARE, 37 / 62, Floor(2), step=0.25)
    assert lengths(found) == (2, 3)
    loss = Table({(4, 4): 1.0, (2, 4): 1.25, (4, 2): 3.0, (2, 2): 4.0})
    found = sensitivity(SCORES, loss, SQUARE, 0.5, Floor(round_to=2), step=0.25)
    assert lengths(found) == (2, 2)
    assert loss.asked == [(4, 4), (2, 4), (4, 2), (2, 2)]


def test_what_cannot_be_decided_is_refused():
    diverged = Table({**LOSSES, (3, 4): float("nan")})
    with pytest.raises(BudgetError, match=r"widths \(3, 4\) is nan; .* not diverged"):
        sensitivity(SCORES, diverged, SQUARE, 0.5, step=0.25)
    with pytest.raises(BudgetError, match="lowest reachable"):
        sensitivity(SCORES, Table(), SQUARE, 0.1)
    choice = BudgetChoice("sensitivity")
    for importances in (Importances(), Importances(SCORES), Importances(loss=Table())):
        with pytest.raises(BudgetError, match="needs scores and the loss of a trained network"):
            choice.kept(SQUARE, 0.5, Floor(), importances)


def test_the_number_of_evaluations_is_about_right():
    choice = BudgetChoice.parse("sensitivity(step=0.25)")
    # All alike, the widths at 0.5 are (2, 2): four steps of two candidates.
    assert choice.likely_widths(SQUARE, 0.5, Floor()) == (2, 2)
    assert choice.evaluations(SQUARE, 0.5, Floor()) == 1 + 4 * 2
    assert choice.evaluations(SQUARE, 1.0, Floor()) == 0
    loss = Table()
    sensitivity(SCORES, loss, SQUARE, 0.5, step=0.25)
    assert len(loss.asked) == 8
    coarse = BudgetChoice.parse("sensitivity(step=0.5)")
    assert coarse.evaluations(SQUARE, 0.5, Floor()) == 1 + 2 * 2


# The loss of a real network.


def everything(architecture):
    return [torch.arange(width) for width in architecture.widths]


def by_hand(net, kept, images, scaling, bounds):
    """In eval mode, but every normalisation computed from its own input."""
    smaller = prune(net, kept).eval()

    def from_batch(module, inputs, _):
        return nn.functional.batch_norm(
            inputs[0], None, None, module.weight, module.bias, training=True, eps=module.eps
        )

    for module in smaller.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(from_batch)
    losses = []
    with torch.no_grad():
        for start, end in bounds:
            pixels, labels = images.batch(slice(start, end))
            losses.append(
                nn.functional.cross_entropy(smaller(scaling(pixels)), labels, reduction="sum")
            )
    return float(sum(losses)) / bounds[-1][1]


@pytest.mark.parametrize(("count", "bounds"), [(40, [(0, 40)]), (300, [(0, 150), (150, 300)])])
def test_the_loss_uses_the_statistics_of_equal_batches(
    small, lived_in, coloured, scaling, count, bounds
):
    net, images = lived_in(small), coloured(count)
    loss = held_out_loss(net, images, scaling)
    for kept in (everything(small), [torch.tensor([0, 2, 3, 5])] * 4):
        expected = by_hand(net, kept, images, scaling, bounds)
        assert loss(kept) == pytest.approx(expected, rel=1e-5)
    assert loss(everything(small)) != pytest.approx(loss([torch.tensor([0, 2])] * 4), rel=1e-3)


def test_the_loss_reads_no_running_statistics_draws_nothing_and_changes_nothing(
    small, lived_in, coloured, scaling
):
    net, images, kept = lived_in(small).train(), coloured(32), [torch.tensor([0, 2, 3, 5])] * 4
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state, loss = torch.get_rng_state(), held_out_loss(net, images, scaling)
    first = loss(kept)
    assert loss(kept) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    for block in net.blocks:
        block.bn.running_mean.add_(3)
        block.bn.running_var.mul_(5)
    assert held_out_loss(net, images, scaling)(kept) == first
    with pytest.raises(BudgetError, match="at least 2 images for its loss; there are 1"):
        held_out_loss(net, images.first(1), scaling)


@pytest.mark.parametrize("label", ["sensitivity(step=0.3)", "sensitivity(of=macs, step=0.3)"])
def test_greedy_widths_of_a_real_network(small, lived_in, coloured, scaling, label):
    net, choice, floor = lived_in(small), BudgetChoice.parse(label), Floor(2)
    generator = torch.Generator().manual_seed(5)
    scores = [torch.rand(width, generator=generator) for width in small.widths]
    calls = []
    measured = held_out_loss(net, coloured(24), scaling)

    def loss(kept):
        calls.append(kept)
        return measured(kept)

    found = choice.kept(small, 0.5, floor, Importances(scores, loss=loss))
    assert all(2 <= width <= full for width, full in zip(lengths(found), small.widths, strict=True))
    count = parameters if choice.ratio_of == "parameters" else macs
    sizes = small.groups.sizes
    largest = max(
        sizes.difference(small.widths, group, width - 1, choice.ratio_of)
        for group, width in enumerate(small.widths)
    )
    assert abs(count(small, lengths(found)) - 0.5 * count(small)) <= largest / 2
    expected = choice.evaluations(small, 0.5, floor)
    assert expected / 3 < len(calls) < 3 * expected
    again = choice.kept(small, 0.5, floor, Importances(scores, loss=measured))
    assert all(map(torch.equal, found, again))
