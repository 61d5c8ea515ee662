"""What holds for every network, metric and budget rule; and exported networks of every kind."""

from functools import lru_cache
from itertools import cycle, product

import pytest
import torch
from made_up_networks import CLASSES, FAMILIES, NAMES, OWN, architecture, lived_in, random_kept
from solved_layers import solved_layers

from prune_core.budgets import BUDGETS, Floor, Importances, lengths
from prune_core.classifier import Classifier
from prune_core.compensation import Compensation, compensated
from prune_core.cost import count_parameters, parameters
from prune_core.images import LabelledImages
from prune_core.layer import combined, views
from prune_core.metrics import METRICS, Choice, MetricError
from prune_core.network_files import load, save
from prune_core.networks import architecture_of, channel_groups
from prune_core.normalisation import NORMALISATIONS, normalise
from prune_core.preprocessing import Preprocessing
from prune_core.programs import export_onnx, export_program
from prune_core.statistics import collect
from prune_core.surgery import masked, prune

SCALING = Preprocessing((120.0, 120.0, 120.0), (60.0, 60.0, 60.0))
# Budgets that leave something to choose in each of these small networks.
RATIOS = (0.95, 0.75)
BUDGET_RULES = ("uniform_parameters", "uniform_channels", "global")


@lru_cache(maxsize=1)
def scored_network(name):
    """A network, its views with the statistics of every metric, and its images."""
    generator = torch.Generator().manual_seed(7)
    pixels = torch.randint(0, 256, (24, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images = LabelledImages(pixels, torch.arange(24) % CLASSES)
    net = lived_in(architecture(name))
    requests = set().union(*(Choice.of(metric).needs() for metric in METRICS))
    answers = collect(net, images, SCALING, requests)
    return net, views(net, answers, seed=3), images


# ResNet-50 has other blocks than ResNet-18, but nothing else that a metric or a budget could see.
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("resnet50")])
def test_every_metric_and_budget(name):
    net, layers, images = scored_network(name)
    shape, pixels = architecture_of(net), SCALING(images.images[:2])
    # Each metric has one of the normalisations and one of the budgets; all pairs of them occur.
    ways = cycle(product(("none", "layer_zscore", "lamp"), BUDGET_RULES))
    for metric in sorted(METRICS):
        if METRICS[metric].reads_norm and any(layer.gamma is None for layer in layers):
            with pytest.raises(MetricError, match="no batch normalisation follows"):
                Choice.of(metric)(layers)
            continue
        choice = Choice.of(metric)
        of_producers = choice(layers)
        scores = combined(of_producers, layers, "mean")
        assert [len(values) for values in scores] == list(shape.widths)
        assert all(bool(torch.isfinite(values).all()) for values in scores)
        normalisation, rule = next(
            (way, rule) for way, rule in ways if way != "lamp" or METRICS[metric].nonnegative
        )
        comparable = normalise(normalisation, choice, of_producers, layers)
        large, small = (kept_by("global", shape, ratio, scores, comparable) for ratio in RATIOS)
        for few, many in zip(small, large, strict=True):
            assert set(few.tolist()) <= set(many.tolist())
        kept = kept_by(rule, shape, RATIOS[-1], scores, comparable)
        pruned = prune(net, kept)
        count = count_parameters(pruned)
        assert count == parameters(shape, lengths(kept)) < parameters(shape)
        if rule == "uniform_parameters":
            assert count <= RATIOS[-1] * parameters(shape)
        with torch.no_grad(), masked(net, kept):
            expected = net(pixels)
        with torch.no_grad():
            found = pruned(pixels)
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


def kept_by(rule, shape, ratio, scores, comparable):
    return BUDGETS[rule].kept(shape, ratio, Floor(), Importances(scores, comparable))


@pytest.mark.parametrize("combine", ["mean", "sum", "max"])
def test_a_groups_score_is_over_its_producers(combine):
    net, layers, _ = scored_network("resnet_b_all")
    scores = Choice.of("output_l1")(layers)
    found = combined(scores, layers, combine)
    reduce = {"mean": sum, "sum": sum, "max": lambda parts: torch.stack(parts).amax(dim=0)}[combine]
    for index, group in enumerate(channel_groups(net).groups):
        parts = [
            values for values, layer in zip(scores, layers, strict=True) if layer.group == index
        ]
        assert len(parts) == len(group.producers)
        expected = reduce(parts) / (len(parts) if combine == "mean" else 1)
        torch.testing.assert_close(found[index], expected)


def test_normalisations_of_a_group():
    _, layers, _ = scored_network("resnet_b_all")
    choice = Choice.of("output_l1")
    scores = choice(layers)
    groups = combined(scores, layers, "mean")
    # Of a sum, each producer has another number of weights: divided first, then combined.
    per_weight = [
        values / layer.weights_per_channel for values, layer in zip(scores, layers, strict=True)
    ]
    assert len({layer.weights_per_channel for layer in layers if layer.group == 0}) > 1
    found = normalise("per_weight", choice, scores, layers)
    for one, two in zip(found, combined(per_weight, layers, "mean"), strict=True):
        torch.testing.assert_close(one, two)
    # The spread of a group is that of its one score, however many producers it has.
    for values, group in zip(
        normalise("layer_zscore", choice, scores, layers), groups, strict=True
    ):
        torch.testing.assert_close(values, (group - group.mean()) / group.std(correction=0))
    assert set(NORMALISATIONS) == {"none", "per_weight", "layer_mean", "layer_zscore", "lamp"}


def test_random_scores_do_not_depend_on_the_number_of_producers():
    _, layers, _ = scored_network("resnet_b_all")
    groups = combined(Choice.of("random")(layers), layers, "mean")
    ranges = [float(values.max() - values.min()) for values in groups]
    # The mean of several independent numbers would lie near 0.5 in the groups of the stages.
    assert min(ranges) > 0.4


@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_those_of_what_the_consumer_reads(name):
    net, layers, images = scored_network(name)
    producers = [one for group in channel_groups(net).groups for one in group.producers]
    read = {}
    hooks = [
        net.get_submodule(one.consumers[0].module).register_forward_pre_hook(
            lambda module, inputs: read.__setitem__(module, inputs[0].clone())
        )
        for one in producers
    ]
    with torch.no_grad():
        net(SCALING(images.images))
    for hook in hooks:
        hook.remove()
    for layer, producer in zip(layers, producers, strict=True):
        consumer = producer.consumers[0]
        values = read[net.get_submodule(consumer.module)].double()
        values = (
            values[:, consumer.positions.flatten()].flatten(2)
            if values.ndim > 2
            else (values[:, consumer.positions.flatten()].unflatten(1, consumer.positions.shape))
        )
        torch.testing.assert_close(layer.mean, values.mean(dim=(0, 2)), rtol=1e-4, atol=1e-6)


def small_images(name):
    """An architecture and images, as small as the network allows."""
    size = (32, 32) if name == "vgg" else (16, 16)
    generator = torch.Generator().manual_seed(7)
    pixels = torch.randint(0, 256, (24, 3, *size), generator=generator, dtype=torch.uint8)
    return architecture(name, size), LabelledImages(pixels, torch.arange(24) % CLASSES)


@pytest.mark.parametrize("form", ["least_squares", "least_squares_sequential"])
@pytest.mark.parametrize("name", NAMES)
def test_compensation_is_least_squares_in_every_layer(name, form):
    shape, images = small_images(name)
    net, kept = lived_in(shape), random_kept(shape.widths, seed=3)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    how, plain = Compensation.parse({form: {"positions": 5, "ridge": 1e-2}}), prune(net, kept)
    pruned = compensated(net, kept, how, images, SCALING)
    assert count_parameters(pruned) == count_parameters(plain)
    assert architecture_of(pruned) == architecture_of(plain)
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    pixels = SCALING(images.images)
    layers = solved_layers(net, pruned, plain, kept, pixels, how.positions, how.sequential)
    changed = {f"{layer.name}.weight" for layer in layers}
    assert len(changed) >= len(shape.widths)
    for layer in layers:
        weight, shift = layer.solution(how.ridge)
        scale = float(torch.cat([weight.flatten(), shift]).abs().max())
        for found, expected in ((layer.found, weight), (layer.shift, shift)):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * scale, msg=layer.name)
        of_removal, of_compensation = layer.errors()
        assert of_compensation <= of_removal * (1 + 1e-5), layer.name
    # Nothing else is changed but biases of these layers and means behind them.
    after, removed = pruned.state_dict(), plain.state_dict()
    different = {key for key in after if not torch.equal(after[key], removed[key])}
    assert {key for key in different if not key.endswith(("bias", "running_mean"))} <= changed


def equal_channels(net, kept):
    """Makes every channel that is not kept equal to one that is."""
    state = net.state_dict()
    for group, channels in zip(channel_groups(net).groups, kept, strict=True):
        gone = torch.tensor(sorted(set(range(group.channels)) - set(channels.tolist())))
        for member in group.members:
            if member.side == "inputs":
                continue
            to = member.positions[gone].flatten()
            like = member.positions[channels[torch.arange(len(gone)) % len(channels)]].flatten()
            for key, tensor in state.items():
                if key.rpartition(".")[0] == member.module and tensor.ndim:
                    tensor[to] = tensor[like]


@pytest.mark.parametrize("form", ["least_squares", "least_squares_sequential"])
@pytest.mark.parametrize("name", NAMES)
def test_channels_that_others_equal_leave_without_a_trace(name, form):
    shape, images = small_images(name)
    net, kept = lived_in(shape), random_kept(shape.widths, seed=4)
    equal_channels(net, kept)
    pixels = SCALING(images.images)
    # All positions: a channel that is seldom active must not seem to be constant.
    how = Compensation.parse({form: {"ridge": 1e-9, "positions": 1024}})
    with torch.no_grad():
        full, plain = net(pixels), prune(net, kept)(pixels)
        found = compensated(net, kept, how, images, SCALING)(pixels)
    assert (plain - full).abs().max() > 0.1
    torch.testing.assert_close(found, full, rtol=0, atol=1e-4 * max(1, float(full.abs().max())))


@pytest.mark.parametrize("name", NAMES)
def test_the_surgeon_scores_pruned_networks_again(name):
    shape, images = small_images(name)
    net, choice = lived_in(shape), Choice.parse("surgeon(positions=5)")
    for share in (0.7, 0.5):
        layers = views(net, collect(net, images, SCALING, choice.needs()))
        scores = combined(choice(layers), layers, "mean")
        assert [len(values) for values in scores] == list(architecture_of(net).widths)
        for values in scores:
            assert len(values.unique()) == len(values)
            assert values.min() >= 0
        keep = [max(1, round(share * len(values))) for values in scores]
        best = [
            values.argsort(descending=True)[:count].sort().values
            for values, count in zip(scores, keep, strict=True)
        ]
        net = prune(net, best)
    assert parameters(architecture_of(net)) < 0.5 * parameters(shape)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stored_network_is_the_same(name, tmp_path):
    shape = architecture(name)
    net = prune(lived_in(shape), random_kept(shape.widths, seed=9))
    save(net, SCALING, tmp_path)
    stored = load(tmp_path)
    assert architecture_of(stored.net) == architecture_of(net)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(stored.net(images), net(images))
    again = prune(stored.net, [torch.arange(len(one)) for one in random_kept(shape.widths, 9)])
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key


@pytest.mark.parametrize("name", ["vgg", "resnet_a_all", *OWN])
def test_an_exported_network_gives_the_same_logits(name, tmp_path):
    shape = architecture(name)
    net = prune(lived_in(shape), random_kept(shape.widths, seed=9, share=0.7))
    classifier = Classifier(net, SCALING)
    # Both compare the logits of the file with those of the network, and fail above a tolerance.
    assert export_program(classifier, tmp_path / "model.pt2") < 1e-5
    assert export_onnx(classifier, tmp_path / "model.onnx") < 1e-4
