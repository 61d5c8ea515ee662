"""Schedules: the ratios and widths of their steps; and parts of a longer recipe."""

import math
import re

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from prune_core.budgets import Floor
from prune_core.images import LabelledImages
from prune_core.networks import Architecture
from prune_core.preprocessing import Preprocessing
from prune_core.schedule import ALL_AT_ONCE, Schedule, ScheduleError, floor_of
from prune_core.training import Recipe, one_cycle, train


@pytest.mark.parametrize(
    ("value", "steps", "label"),
    [
        ("one_shot", 1, "one_shot"),
        ("iterative(steps=3)", 3, "iterative(steps=3)"),
        ({"iterative": {"steps": 2, "spacing": "linear"}}, 2, "iterative(steps=2, spacing=linear)"),
    ],
)
def test_a_schedule_is_read_from_a_spec_and_named_as_there(value, steps, label):
    made = Schedule.parse(value)
    assert (made.steps, made.label) == (steps, label)
    assert Schedule.parse(made.label) == made


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("twice", "allowed: one_shot, iterative"),
        ("iterative", "needs a value for its option 'steps'"),
        ("iterative(steps=0)", "'steps' is 0; it must be in 1 to 1000"),
        ("iterative(steps=2.5)", "must be of type int"),
        ("iterative(steps=2, spacing=cubic)", "allowed: geometric, linear"),
        ("one_shot(steps=2)", "has no option 'steps'"),
        ("iterative(steps=2", "put an entry with a comma into quotes"),
    ],
)
def test_a_wrong_schedule_is_told(value, words):
    with pytest.raises(ScheduleError, match=re.escape(words)):
        Schedule.parse(value)


def test_geometric_steps_keep_the_same_fraction_and_linear_steps_remove_the_same_amount():
    assert Schedule(3).ratios(0.125) == pytest.approx((0.5, 0.25, 0.125))
    assert Schedule(4, "linear").ratios(0.2) == pytest.approx((0.8, 0.6, 0.4, 0.2))
    for target in (0.1, 0.3, 0.7):
        for steps in range(1, 8):
            # The last is the target itself, without rounding.
            assert Schedule(steps).ratios(target)[-1] == target


def test_widths_go_down_to_those_of_a_single_step():
    assert Schedule(2).widths((64, 16, 9), (16, 16, 4)) == [(32, 16, 6), (16, 16, 4)]
    assert Schedule(2, "linear").widths((64, 16), (16, 8)) == [(40, 12), (16, 8)]
    assert ALL_AT_ONCE.widths((64, 16), (16, 8)) == [(16, 8)]


def test_a_single_step_has_the_identity_of_one_shot():
    assert Schedule.parse("iterative(steps=1)").identity() == ALL_AT_ONCE.identity() == {}
    several = [Schedule(2).identity(), Schedule(2, "linear").identity(), Schedule(3).identity()]
    assert len({repr(one) for one in several}) == 3


def test_the_floor_of_a_pruned_network_is_a_fraction_of_its_full_widths():
    floor, full = Floor(2, 0.5, 4), (64, 6)
    assert floor_of(floor, full).of(full) == floor.of(full) == (32, 4)
    assert floor.of((40, 5)) == (20, 4)
    assert floor_of(floor, full).of((40, 3)) == (32, 3)


def images(count=96):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(count) % 10)


def trained(recipe, report=lambda net, epoch: None, start=None):
    """The weights after a recipe, and the learning rate of each step."""
    torch.manual_seed(0)
    net = Architecture.named("simplenet_310k", 10, 0.125).build()
    if start is not None:
        net.load_state_dict(start)
    rates = []
    hook = register_optimizer_step_pre_hook(
        lambda optimiser, *_: rates.append(optimiser.param_groups[0]["lr"])
    )
    some = images()
    train(net, some, Preprocessing.of(some), recipe, 1, False, lambda epoch: report(net, epoch))
    hook.remove()
    return net.state_dict(), rates


def test_a_recipe_that_stops_early_leaves_the_weights_of_that_epoch():
    whole = Recipe(epochs=3, batch_size=32, precision="fp32")
    seen = {}

    def note(net, epoch):
        seen[epoch.epoch] = {k: v.clone() for k, v in net.named_parameters()}

    _, rates = trained(whole, note)
    assert len(rates) == 9
    early, early_rates = trained(whole.all_but(1))
    assert early_rates == rates[:6]
    for name, tensor in seen[2].items():
        assert torch.equal(early[name], tensor)
        assert not torch.equal(early[name], seen[3][name])


def test_the_end_of_a_recipe_has_the_learning_rates_of_its_last_epochs():
    whole = Recipe(epochs=3, batch_size=32, precision="fp32")
    _, rates = trained(whole)
    _, last = trained(whole.last(1))
    assert last == rates[6:]
    assert rates[0] == one_cycle(whole, 0.5 / 9)
    assert whole.last(3) == whole
    assert trained(whole.all_but(3))[1] == []
    assert math.isclose(last[-1], one_cycle(whole, 8.5 / 9))
