"""Comparisons are fair: the same channels, the same recipe, correct arithmetic."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
import torch_pruning_rival
from made_up import CLASSES, SCALING, inference_flop, network, noise, training_flop
from packed import Packing
from sweep_rival import Sampled, seconds_of, share_inside
from usual_loop import TransformedImages, usual_train

from prune_core.cost import multiply_accumulates, parameters
from prune_core.networks import Architecture, SimpleNet
from prune_core.preprocessing import Preprocessing
from prune_core.training import Recipe, train

# Strong weight decay, so that its effect is visible.
RECIPE = Recipe(2, 16, 0.01, weight_decay=0.5, crop_padding=0, flip=False, recalibrate=False)
# With this scaling both loops compute exactly the same pixels.
EXACT = Preprocessing((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))


@pytest.fixture(autouse=True)
def _seeded():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def narrow() -> SimpleNet:
    return SimpleNet(Architecture.named("simplenet_310k", CLASSES, 0.25)).eval()


def test_torch_pruning_removes_the_same_channels(narrow: SimpleNet) -> None:
    ours, theirs = torch_pruning_rival.ours(narrow), torch_pruning_rival.theirs(narrow)
    count = torch_pruning_rival.same_network(ours, theirs)
    assert count == parameters(ours.architecture) < 0.31 * parameters(narrow.architecture)


def test_different_channels_are_detected(narrow: SimpleNet) -> None:
    ours = torch_pruning_rival.ours(narrow)
    first = narrow.blocks[0].conv.weight
    with torch.no_grad():
        first.copy_(first.flip(0))
    with pytest.raises(ValueError, match="other channels"):
        torch_pruning_rival.same_network(ours, torch_pruning_rival.theirs(narrow))
    with pytest.raises(ValueError, match="parameters"):
        torch_pruning_rival.same_network(ours, narrow)


def test_the_usual_loop_takes_the_same_steps_as_ours(
    narrow: SimpleNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without random order, crops and dropout, both loops end with the same weights."""
    images = noise(32)
    monkeypatch.setattr("torch.randperm", lambda count, **_: torch.arange(count))
    other = SimpleNet(narrow.architecture)
    other.load_state_dict(narrow.state_dict())
    for net in (narrow, other):
        # In fp32 rounding depends on the memory layout, and may change which value is the maximum.
        net.double().register_forward_pre_hook(lambda _, given: (given[0].double(),))
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    before = narrow.classifier.weight.clone()
    train(narrow, images, EXACT, RECIPE, seed=0, flip_keeps_label=False)
    usual_train(other, images, EXACT, RECIPE, seed=0, flip_keeps_label=False, workers=0)
    for ours, theirs in zip(narrow.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert (narrow.classifier.weight - before).abs().max() > 0.01


def test_the_usual_loop_crops_and_mirrors(narrow: SimpleNet) -> None:
    seen: list[str] = []

    class Peeked(TransformedImages):
        def __init__(self, images, transform) -> None:
            seen.extend(type(step).__name__ for step in transform.transforms)
            super().__init__(images, transform)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("usual_loop.TransformedImages", Peeked)
        recipe = replace(RECIPE, epochs=1, flip=True)
        usual_train(narrow, noise(16), SCALING, recipe, 0, flip_keeps_label=True, workers=0)
    assert seen == ["RandomCrop", "RandomHorizontalFlip", "ToTensor", "Normalize"]


def test_networks_to_time_have_the_widths_of_pruned_ones() -> None:
    full = network("simplenet_310k").architecture
    for scope in ("local", "global"):
        for step in (1, 8):
            found = network("simplenet_310k", 0.3, scope, step).architecture
            assert abs(parameters(found) / parameters(full) - 0.3) < 0.02
            assert all(
                width % step == 0 or width == most
                for width, most in zip(found.widths, full.widths, strict=True)
            )
    shares = [
        width / most
        for width, most in zip(
            network("simplenet_310k", 0.3, "global").architecture.widths, full.widths, strict=True
        )
    ]
    assert max(shares) > 1.5 * min(shares)


def test_work_is_counted_as_three_passes_of_two_operations() -> None:
    net = network("simplenet_310k")
    macs = multiply_accumulates(net.architecture)
    assert (inference_flop(net), training_flop(net)) == (2 * macs, 6 * macs)


def test_a_sample_of_the_usual_sweep_is_scaled_up() -> None:
    found = Sampled(wall=50.0, trials=(30.0, 40.0, 20.0, 30.0), slots=2)
    assert (found.overhead, found.of(40)) == (0.0, 40 * 30 / 2)
    slow = replace(found, wall=75.0)
    assert (slow.overhead, slow.of(40)) == (15.0, 15 + 40 * 30 / 2)


def test_the_share_of_slots_counts_time_inside_cells() -> None:
    began = pd.to_datetime([0, 0, 10], unit="s", utc=True)
    ended = pd.to_datetime([10, 15, 20], unit="s", utc=True)
    frame = pd.DataFrame({"started_at": began, "finished_at": ended})
    assert share_inside(frame, slots=2) == pytest.approx(35 / 40)


def test_a_process_that_fails_is_not_timed() -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3:\n why"):
        seconds_of(["sh", "-c", "echo ' why'; exit 3"])
    assert seconds_of(["true"]) > 0


def test_packed_trials_count_from_the_first_beginning_to_the_last_end() -> None:
    found = Packing(2, began=(10.0, 12.0, 10.0, 13.0), ended=(12.0, 14.0, 13.0, 18.0))
    assert found.trials_per_hour == 3600 * 4 / 8
    assert found.trial_seconds == [2.0, 2.0, 3.0, 5.0]
