"""One-shot pruning does what its steps do one by one, and refuses what would give wrong figures."""

import copy
import dataclasses
from collections.abc import Callable

import made_up_networks
import pytest
import torch
from torch import nn

import prune_core as pc
from prune_core.budgets import BudgetError, global_, uniform_parameters
from prune_core.compensation import Compensation, CompensationError, compensated
from prune_core.cost import count_parameters
from prune_core.images import LabelledImages
from prune_core.metrics import MetricError
from prune_core.networks import ArchitectureError
from prune_core.normalisation import normalise
from prune_core.one_shot import OneShot, OneShotError, Selection, usual_metric
from prune_core.seeds import derive
from prune_core.statistics import StatisticsError

NAMES = ("ant", "bee", "cat", "dog")
RATIO = 0.5


@pytest.fixture
def net(small, lived_in, scaling):
    return pc.Classifier(lived_in(small), scaling, NAMES)


@pytest.fixture(scope="module")
def images(coloured):
    return coloured(96)


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same tensors, bit for bit."""
    mine, others = one.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[n], others[n]) for n in mine)


def test_a_classifier_becomes_a_smaller_classifier(net, images, scaling):
    before = state(net)
    smaller = pc.one_shot(net, images, RATIO)
    assert isinstance(smaller, pc.Classifier)
    assert (smaller.preprocessing, smaller.class_names) == (scaling, NAMES)
    assert not smaller.training
    assert count_parameters(smaller) / count_parameters(net) == pytest.approx(RATIO, abs=0.05)
    assert smaller(images.images[:2]).shape == (2, 4)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_it_is_the_same_as_its_steps_one_by_one(net, images, scaling):
    choice, how = pc.Choice.parse("surgeon(per=parameter)"), Compensation.parse("least_squares")
    layers = pc.views(net.net, pc.collect(net.net, images, scaling, choice.needs()))
    scores = pc.combined(choice(layers), layers, "mean")
    kept = global_(scores, pc.architecture_of(net.net), RATIO)
    expected = compensated(net.net, kept, how, images, scaling)
    assert same(pc.one_shot(net, images, RATIO).net, expected)
    # The compensation is more than rounding.
    assert not same(pc.one_shot(net, images, RATIO, compensation="none").net, expected)


@pytest.mark.parametrize(
    ("budget", "metric"),
    [
        ("global", "surgeon(per=parameter)"),
        ("global(of=macs)", "surgeon(per=mac)"),
        ("uniform_parameters", "surgeon"),
        ("uniform_channels", "surgeon"),
    ],
)
def test_the_usual_metric_divides_by_what_a_global_ratio_counts(budget, metric, net, images):
    assert usual_metric(pc.BudgetChoice.parse(budget)).label == metric
    found = pc.one_shot(net, images, RATIO, budget=budget)
    assert same(found, pc.one_shot(net, images, RATIO, budget=budget, metric=metric))


def test_without_compensation_it_only_removes(net, images, scaling):
    choice = pc.Choice.of("entropy_gaussian", {"images": 40})
    answers = pc.collect(net.net, images.first(40), scaling, choice.needs())
    layers = pc.views(net.net, answers)
    scores = normalise("layer_zscore", choice, choice(layers), layers)
    kept = global_(scores, pc.architecture_of(net.net), RATIO, pc.Floor(3))
    found = pc.one_shot(
        net,
        images,
        RATIO,
        metric="entropy_gaussian(images=40)",
        normalisation="layer_zscore",
        floor=pc.Floor(3),
        compensation="none",
    )
    assert same(found.net, pc.prune(net.net, kept))


def test_a_local_budget_needs_no_comparable_scores(net, images):
    found = pc.one_shot(net, images, RATIO, metric="output_l1", budget="uniform_parameters")
    shape = pc.architecture_of(net.net)
    assert pc.architecture_of(found.net).widths == uniform_parameters(shape, RATIO)


def test_random_channels_are_those_of_the_seed_as_in_a_sweep(net, images):
    def kept(seed: int) -> list[list[int]]:
        how = OneShot(
            ratio=RATIO,
            metric=pc.Choice.of("random"),
            compensation=Compensation.parse("none"),
            seed=seed,
        )
        selection = how.select(net.net, images, net.preprocessing)
        return [channels.tolist() for channels in selection.kept]

    layers = pc.views(net.net, seed=derive(3, "metric"))
    expected = global_(pc.Choice.of("random")(layers), pc.architecture_of(net.net), RATIO)
    assert kept(3) == [channels.tolist() for channels in expected]
    assert kept(3) != kept(4)


def test_second_moments_that_both_want_are_collected_once(net, images, scaling):
    def forward_passes(compensation: str) -> int:
        seen = []
        with_hook = copy.deepcopy(net)
        with_hook.net.register_forward_pre_hook(lambda *_: seen.append(1))
        pc.one_shot(with_hook, images, RATIO, compensation=compensation)
        return len(seen)

    alone = forward_passes("none")
    assert forward_passes("least_squares") == alone > 0
    # Other positions, and fewer images than there are, are other moments.
    assert forward_passes("least_squares(positions=7)") == 2 * alone
    assert forward_passes("least_squares(images=64)") > alone
    how = OneShot(
        ratio=RATIO,
        metric=pc.Choice.of("surgeon"),
        compensation=Compensation.parse("least_squares"),
    )
    shared = how.select(net.net, images, scaling)
    assert shared.moments is not None
    apart = how.smaller(net.net, Selection(shared.kept), images, scaling)
    assert same(how.smaller(net.net, shared, images, scaling), apart)


def test_only_the_first_images_are_read(net, images):
    changed = LabelledImages(images.images.clone(), images.labels)
    changed.images[64:] = 0
    words = {"metric": "surgeon(images=64)", "compensation": "least_squares(images=64)"}
    assert same(pc.one_shot(net, images, RATIO, **words), pc.one_shot(net, changed, RATIO, **words))
    assert not same(pc.one_shot(net, images, RATIO), pc.one_shot(net, changed, RATIO))


def test_a_ratio_of_1_changes_nothing(net, images):
    assert same(pc.one_shot(net, images, 1.0), net)


@pytest.mark.parametrize("name", made_up_networks.NAMES)
def test_every_network_can_be_pruned_and_pruned_again(name, coloured, scaling):
    images = coloured(48, made_up_networks.CLASSES)
    full = made_up_networks.lived_in(made_up_networks.architecture(name))
    once = pc.one_shot(full, images, 0.8, preprocessing=scaling)
    twice = pc.one_shot(once, images, 0.8, preprocessing=scaling)
    counts = [count_parameters(each) for each in (full, once, twice)]
    assert counts[0] > counts[1] > counts[2]
    shapes = [pc.architecture_of(each) for each in (full, once, twice)]
    assert [pc.parameters(shape) for shape in shapes] == counts
    widths = [shape.widths for shape in shapes]
    assert all(a >= b >= c for a, b, c in zip(*widths, strict=True))
    assert twice(scaling(images.images)).isfinite().all()


def test_a_module_that_a_program_has_at_hand_can_be_pruned(images, scaling):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)
    )
    smaller = pc.one_shot(pc.adopt(net, classes=4), images, RATIO, preprocessing=scaling)
    assert isinstance(smaller, nn.Sequential)
    assert smaller[0].out_channels == 4
    with pytest.raises(ArchitectureError, match=r"build it with Architecture\.build"):
        pc.one_shot(nn.Linear(3, 4), images, RATIO, preprocessing=scaling)


def test_a_saved_classifier_is_the_same_again(net, images, tmp_path):
    # In float32 this would be another number.
    scaling = dataclasses.replace(net.preprocessing, mean=(90.123456789012345, 85.0, 80.0))
    smaller = pc.one_shot(pc.Classifier(net.net, scaling, NAMES), images, RATIO)
    smaller.save(tmp_path / "new" / "folder")
    found = pc.load(tmp_path / "new" / "folder")
    assert found.preprocessing == scaling
    assert found.class_names == NAMES
    assert same(found, smaller)
    assert same(pc.one_shot(found, images, RATIO), pc.one_shot(smaller, images, RATIO))


def _sorted(images: LabelledImages) -> LabelledImages:
    order = images.labels.argsort()
    return LabelledImages(images.images[order], images.labels[order])


def _sized(images: LabelledImages) -> LabelledImages:
    return LabelledImages(images.images[:, :, :28], images.labels)


def _labelled(images: LabelledImages) -> LabelledImages:
    return LabelledImages(images.images, images.labels + 2)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"ratio": 0}, BudgetError, r"ratio 0 must lie in \(0, 1\]"),
        ({"ratio": 1e-3}, BudgetError, "lowest reachable ratio is 0.0"),
        ({"metric": "l1"}, MetricError, "metric 'l1' is unknown; allowed: .*surgeon"),
        ({"metric": "surgeon(bins=3)"}, MetricError, "has no option 'bins'"),
        ({"budget": "local"}, BudgetError, "allowed: uniform_parameters, "),
        ({"budget": "unpruned"}, BudgetError, "'unpruned' cannot be used here"),
        ({"normalisation": "mean"}, MetricError, "normalisation 'mean' is unknown"),
        (
            {"normalisation": "layer_mean", "budget": "uniform_channels"},
            OneShotError,
            "'layer_mean' has no effect with the budget 'uniform_channels'",
        ),
        ({"compensation": "ridge"}, CompensationError, "'ridge' is unknown; allowed: none, least"),
        ({"preprocessing": pc.Preprocessing((0, 0, 0), (1, 1, 1))}, OneShotError, "leave out prep"),
        ({"images": lambda images: images.images}, OneShotError, "type Tensor; give training im"),
        ({"images": lambda images: images.first(0)}, OneShotError, "there are no images"),
        ({"images": _sized}, OneShotError, r"28 x 32 pixels .* image_size=\(32, 32\)"),
        ({"images": _labelled}, OneShotError, "4 classes, but the images have labels from 2 to 5"),
        (
            {"images": _sorted, "compensation": "least_squares(images=95)"},
            OneShotError,
            "first 95 images, which are read, seem to be sorted by class; put the images in a ran",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_said(given, error, words, net, images):
    before = state(net)
    change: Callable = given.get("images", lambda images: images)
    rest = {name: value for name, value in given.items() if name not in ("ratio", "images")}
    with pytest.raises(error, match=words):
        pc.one_shot(net, change(images), given.get("ratio", RATIO), **rest)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_a_module_needs_its_scaling(net, images):
    with pytest.raises(OneShotError, match="preprocessing is missing"):
        pc.one_shot(net.net, images, RATIO)


def test_a_network_that_has_diverged_is_refused(net, images):
    with torch.no_grad():
        net.net.classifier.weight[0, 0] = torch.nan
    with pytest.raises(StatisticsError, match="diverged"):
        pc.one_shot(net, images, RATIO)


def test_images_in_a_random_order_are_never_taken_for_sorted_ones(net):
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        # One class is rare.
        labels = torch.multinomial(
            torch.tensor([0.6, 0.3, 0.09, 0.01]), 400, replacement=True, generator=generator
        )
        images = LabelledImages(torch.zeros(400, 3, 32, 32, dtype=torch.uint8), labels)
        for read in (1, 5, 60, 100, 200):
            how = OneShot(
                ratio=RATIO,
                metric=pc.Choice.of("surgeon", {"images": read}),
                compensation=Compensation.parse("none"),
            )
            how.check(net.net, images)
