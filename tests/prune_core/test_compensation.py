"""Compensation: against least squares by brute force, and what it must never do."""

import copy
import dataclasses

import pytest
import torch
from made_up_networks import CLASSES, architecture, lived_in, random_kept
from solved_layers import solved_layers
from torch import nn

import prune_core as pc
from prune_core.compensation import (
    NO_COMPENSATION,
    Compensation,
    CompensationError,
    compensated,
)
from prune_core.cost import count_parameters
from prune_core.evaluation import BATCHES
from prune_core.images import LabelledImages
from prune_core.least_squares import deviations, solve
from prune_core.networks import channel_groups
from prune_core.preprocessing import Preprocessing
from prune_core.statistics import SecondMoments, StatisticsError, collect, moments_of
from prune_core.statistics.collect import BLOCKS
from prune_core.surgery import SurgeryError, prune

SCALING = Preprocessing((120.0,) * 3, (60.0,) * 3)
FORMS = ("least_squares", "least_squares_sequential")
SIZE = (16, 16)


def made(count, size=SIZE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(count) % CLASSES)


def how(form, **options):
    return Compensation.parse({form: {"positions": 8, **options}})


def logits(net, images):
    with torch.no_grad():
        return net(SCALING(images.images))


def everything(net):
    return [torch.arange(width) for width in channel_groups(net).widths]


class Bare(nn.Module):
    """Layers without bias, with and without a batch normalisation behind, a gate, and pixels."""

    def __init__(self, classes, pixels=16):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.bare = nn.Conv2d(6, 7, 3, padding=1, bias=False)
        self.down, self.up = nn.Conv2d(7, 4, 1, bias=False), nn.Linear(4, 7, bias=False)
        self.normed = nn.Conv2d(7, 8, (2, 3), padding="same", padding_mode="reflect", bias=False)
        self.norm = nn.BatchNorm2d(8, affine=False)
        # Its mean can be undone twice: by its bias and behind it.
        self.both = nn.Conv2d(8, 5, 1)
        self.both_norm = nn.BatchNorm2d(5)
        self.head = nn.Linear(5 * pixels, classes, bias=False)

    def forward(self, images):
        maps = torch.relu(self.bare(torch.relu(self.stem(images))))
        gate = self.up(torch.relu(self.down(maps.mean((2, 3), keepdim=True))).flatten(1))
        maps = maps * gate.sigmoid().view(gate.shape[0], -1, 1, 1)
        maps = self.both_norm(self.both(torch.relu(self.norm(self.normed(maps)))))
        return self.head(nn.functional.avg_pool2d(torch.relu(maps), 2).flatten(1))


def adopted(kind, seed=0):
    """A module whose batch normalisation has the statistics of some images."""
    torch.manual_seed(seed)
    net = kind(CLASSES)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.uniform_(-0.3, 0.5)
    net.train()(torch.randn(32, 3, *SIZE))
    return pc.adopt(net.eval(), CLASSES, SIZE)


# The equations.


@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 0.3])
@pytest.mark.parametrize("patches", [6, 40, 500])  # fewer than inputs, too
@pytest.mark.parametrize("seed", range(3))
def test_solutions_are_those_of_lstsq(ridge, patches, seed):
    torch.manual_seed(seed)
    scales = torch.tensor([1e-6, 1, 30, 1e4]).double().repeat(3)
    inputs = (torch.randn(patches, 12) @ torch.randn(12, 12)).double() * scales
    wanted = torch.randn(patches, 5).double()
    prior = torch.randn(5, 12).double() / scales
    moments, cross = inputs.T @ inputs / patches, wanted.T @ inputs / patches
    found = solve(moments, cross, prior, ridge)
    # In units of the inputs' deviations, in which lstsq is well conditioned.
    scale = deviations(moments)
    penalty = (ridge * patches) ** 0.5 * torch.eye(12).double()
    rows = torch.cat([inputs / scale, penalty])
    expected = torch.linalg.lstsq(rows, torch.cat([wanted, penalty @ (prior * scale).T]))
    expected, found = expected.solution.T, found * scale
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_inputs_that_are_constant_keep_their_weights():
    inputs = torch.randn(50, 4).double()
    moments = inputs.T @ inputs / 50
    moments[1] = moments[:, 1] = 0
    prior, cross = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    cross[:, 1] = 0
    found, rest = solve(moments, cross, prior, 0.1), torch.tensor([0, 2, 3])
    assert torch.equal(found[:, 1], prior[:, 1])
    without = solve(moments[rest][:, rest], cross[:, rest], prior[:, rest], 0.1)
    torch.testing.assert_close(found[:, rest], without, rtol=1e-12, atol=1e-12)


def test_a_huge_ridge_changes_no_weight():
    inputs, prior = torch.randn(50, 4).double(), torch.randn(3, 4).double()
    found = solve(inputs.T @ inputs / 50, torch.randn(3, 4).double(), prior, 1e9)
    torch.testing.assert_close(found, prior, rtol=0, atol=1e-6)


# Whole networks. tests/prune_core/test_every_network.py has the others.


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("positions", [3, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_layers_of_every_kind_are_solved_for(form, positions, seed):
    net, images = adopted(Bare, seed), made(20, seed=seed)
    kept = random_kept(channel_groups(net).widths, seed)
    method = how(form, positions=positions, ridge=1e-2)
    pruned = compensated(net, kept, method, images, SCALING)
    layers = solved_layers(
        net, pruned, prune(net, kept), kept, SCALING(images.images), positions, method.sequential
    )
    assert {layer.name: layer.centred for layer in layers} == {
        "bare": False, "down": False, "up": False, "normed": True, "both": True, "head": False,
    }  # fmt: skip
    for layer in layers:
        weight, shift = layer.solution(1e-2)
        for found, expected in ((layer.found, weight), (layer.shift, shift)):
            scale = float(torch.cat([weight.flatten(), shift]).abs().max())
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * scale, msg=layer.name)
    # Never worse; the gate may be closed on these images.
    errors = torch.tensor([layer.errors() for layer in layers])
    assert (errors[:, 1] <= errors[:, 0]).all()
    assert (errors[:, 1] < 0.99 * errors[:, 0]).sum() >= 4


def test_a_bias_takes_up_the_mean_rather_than_the_normalisation_behind_it():
    net = adopted(Bare)
    kept = random_kept(channel_groups(net).widths, 1)
    plain = prune(net, kept)
    pruned = compensated(net, kept, how("least_squares"), made(20), SCALING)
    assert torch.equal(pruned.both_norm.running_mean, plain.both_norm.running_mean)
    assert not torch.equal(pruned.both.bias, plain.both.bias)
    assert not torch.equal(pruned.norm.running_mean, plain.norm.running_mean)
    # Everything else is as it was.
    changed = {
        key
        for key, tensor in pruned.state_dict().items()
        if not torch.equal(tensor, plain.state_dict()[key])
    }
    assert changed == {
        *(f"{name}.weight" for name in ("bare", "down", "up", "normed", "both", "head")),
        *("both.bias", "norm.running_mean"),
    }


class Affine(nn.Module):
    """Two convolutions without an activation between; padding is zeros, or absent."""

    def __init__(self, classes, behind):
        super().__init__()
        self.make = nn.Conv2d(3, 8, 3, padding=1)
        padding = 1 if behind == "neither" else 0
        self.read = nn.Conv2d(8, 6, 3, padding=padding, bias=behind == "bias")
        self.norm = nn.BatchNorm2d(6) if behind == "norm" else nn.Identity()
        self.head = nn.Linear(6, classes)

    def forward(self, images):
        return self.head(torch.relu(self.norm(self.read(self.make(images)))).mean((2, 3)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("behind", ["bias", "norm", "neither"])
def test_linear_combinations_of_kept_channels_can_leave_without_a_trace(form, behind):
    net = adopted(lambda classes: Affine(classes, behind))
    kept, gone = torch.tensor([0, 2, 3, 5, 7]), torch.tensor([1, 4, 6])
    torch.manual_seed(5)
    factors = torch.randn(3, 5)
    with torch.no_grad():
        net.make.weight[gone] = torch.einsum("rk,kabc->rabc", factors, net.make.weight[kept])
        net.make.bias[gone] = factors @ net.make.bias[kept]
        if behind != "neither":  # an offset too, which a bias or a running mean can take up
            net.make.bias[gone] += torch.tensor([1.0, -2, 0.3])
    images, keep = made(64), [kept, torch.arange(6)]
    full, plain = logits(net, images), logits(prune(net, keep), images)
    assert (plain - full).abs().max() > 0.05
    pruned = compensated(net, keep, how(form, ridge=1e-9), images, SCALING)
    torch.testing.assert_close(logits(pruned, images), full, rtol=0, atol=1e-5)
    # On other images too: it is the same function.
    others = made(20, seed=9)
    torch.testing.assert_close(logits(pruned, others), logits(net, others), rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_channel_leaves_without_a_trace(form):
    net = adopted(lambda classes: Affine(classes, "norm"))
    with torch.no_grad():
        net.make.weight[3], net.make.bias[3] = 0, 2.5
    images = made(30)
    keep = [torch.tensor([0, 1, 2, 4, 5, 6, 7]), torch.arange(6)]
    full = logits(net, images)
    assert (logits(prune(net, keep), images) - full).abs().max() > 0.05
    pruned = compensated(net, keep, how(form), images, SCALING)
    torch.testing.assert_close(logits(pruned, images), full, rtol=0, atol=1e-5)
    # There was nothing to solve for: the weights that stay are the old ones.
    rest = net.read.weight[:, keep[0]]
    torch.testing.assert_close(pruned.read.weight, rest, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 3, 32])
def test_singular_covariances_are_no_hindrance(small, lived_in, coloured, scaling, form, count):
    """Dead, constant and equal channels, and fewer patches than inputs."""
    net = lived_in(small)
    with torch.no_grad():
        for block in net.blocks:
            block.bn.weight[0], block.bn.bias[0] = 0, -1
            block.bn.weight[1], block.bn.bias[1] = 0, 1.3
            block.conv.weight[2], block.conv.bias[2] = block.conv.weight[3], block.conv.bias[3]
            for tensor in (block.bn.weight, block.bn.bias, block.bn.running_mean):
                tensor[2] = tensor[3]
            block.bn.running_var[2] = block.bn.running_var[3]
    images = coloured(40).first(count)
    pixels = scaling(images.images)
    for gone in range(5):
        kept = [torch.tensor([c for c in range(w) if c != gone]) for w in small.widths]
        plain, method = prune(net, kept), how(form, positions=1)
        pruned = compensated(net, kept, method, images, scaling)
        for layer in solved_layers(net, pruned, plain, kept, pixels, 1, method.sequential):
            assert layer.found.isfinite().all()
            before, after = layer.errors()
            assert after <= before * (1 + 1e-5) + 1e-12, layer.name


@pytest.mark.parametrize("form", FORMS)
def test_nothing_removed_changes_no_bit(form):
    net = adopted(Bare)
    pruned = compensated(net, everything(net), how(form), made(5), SCALING)
    for key, tensor in net.state_dict().items():
        assert torch.equal(pruned.state_dict()[key], tensor), key
    assert torch.equal(logits(pruned, made(5)), logits(net, made(5)))


@pytest.mark.parametrize("form", FORMS)
def test_only_layers_that_lose_inputs_change(form):
    net = adopted(Bare)
    kept = everything(net)
    names = [group.name for group in channel_groups(net).groups]
    kept[names.index("normed")] = torch.tensor([1, 2, 6, 7])
    plain = prune(net, kept)
    pruned = compensated(net, kept, how(form), made(20), SCALING)
    changed = {
        key
        for key, tensor in pruned.state_dict().items()
        if not torch.equal(tensor, plain.state_dict()[key])
    }
    assert changed == {"both.weight", "both.bias"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("training", [True, False])
def test_the_network_and_the_generator_are_not_changed(form, training):
    net = adopted(Bare).train(training)
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    kept = random_kept(channel_groups(net).widths, 4)
    pruned = compensated(net, kept, how(form), made(20), SCALING)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training is training for module in [*net.modules(), *pruned.modules()])
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    assert not any(module._forward_pre_hooks for module in [*net.modules(), *pruned.modules()])
    assert all(parameter.grad is None for parameter in net.parameters())
    # The new network can be trained, and shares no memory with the old one.
    for parameter in pruned.parameters():
        assert not parameter.is_inference()
        assert parameter.requires_grad
    pruned.train()(torch.randn(4, 3, *SIZE)).square().mean().backward()
    for tensor in pruned.state_dict().values():
        tensor.zero_()
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[key]), key


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("layer", "factor"), [(0, 7.3), (1, 1e-4), (2, 1e3), (3, 7.3)])
def test_rescaling_changes_no_function(small, lived_in, coloured, scaling, form, layer, factor):
    """Of a channel against the weights that read it, and of a filter against its statistics."""
    net, images = lived_in(small, seed=3), coloured(40)
    with torch.no_grad():
        for block in net.blocks:
            block.bn.eps = 0.0
    other = copy.deepcopy(net)
    following = other.blocks[layer + 1].conv if layer < 3 else other.classifier
    with torch.no_grad():
        block = other.blocks[layer]
        for channel in (0, 3):
            block.bn.weight[channel] *= factor
            block.bn.bias[channel] *= factor
            following.weight[:, channel] /= factor
        block.conv.weight[2] *= factor
        block.conv.bias[2] *= factor
        block.bn.running_mean[2] *= factor
        block.bn.running_var[2] *= factor**2
    kept = random_kept(small.widths, 5)
    found, expected = (
        compensated(one, kept, how(form), images, scaling)(scaling(images.images)).detach()
        for one in (other, net)
    )
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simplenet", "resnet_a_all"])
def test_layer_after_layer_is_better_in_a_deep_network(name):
    shape, errors = architecture(name, SIZE), []
    for seed in range(4):
        net, images, kept = (
            lived_in(shape, seed),
            made(32, seed=seed),
            random_kept(shape.widths, seed),
        )
        full = logits(net, images)
        errors.append(
            [
                float((logits(pruned, images) - full).norm() / (full - full.mean(dim=0)).norm())
                for pruned in (
                    prune(net, kept),
                    *(compensated(net, kept, how(form), images, SCALING) for form in FORMS),
                )
            ]
        )
    plain, apart, in_order = torch.tensor(errors).mean(dim=0)
    assert in_order < 0.9 * apart < 0.9 * plain


@pytest.mark.parametrize("form", FORMS)
def test_the_batch_of_the_device_changes_rounding_only(form, monkeypatch):
    net, images = adopted(Bare), made(70)
    kept = random_kept(channel_groups(net).widths, 2)
    expected = compensated(net, kept, how(form), images, SCALING)
    for size in (1, 64):
        monkeypatch.setitem(BLOCKS, "cpu", size)
        monkeypatch.setitem(BATCHES, "cpu", size)
        found = compensated(net, kept, how(form), images, SCALING)
        for key, tensor in expected.state_dict().items():
            # The rounding of fp32 maps, times the condition number.
            scale = float(tensor.abs().max())
            torch.testing.assert_close(found.state_dict()[key], tensor, rtol=0, atol=2e-5 * scale)


def test_moments_that_were_collected_before_give_the_same_network():
    net, images = adopted(Bare), made(70)
    method = how("least_squares", images=40)
    kept = random_kept(channel_groups(net).widths, 2)
    expected = compensated(net, kept, method, images, SCALING)
    answers = collect(net, images.first(40), SCALING, [SecondMoments(3), method.request])
    moments = moments_of(answers, method.request)
    # Neither images nor labels are read then.
    black = LabelledImages(torch.zeros_like(images.images), images.labels * 0)
    found = compensated(net, kept, method, black, SCALING, moments)
    for key, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[key], tensor), key


@pytest.mark.parametrize("form", FORMS)
def test_only_the_first_images_are_read_and_no_label(form):
    net, images = adopted(Bare), made(40)
    kept = random_kept(channel_groups(net).widths, 2)
    expected = compensated(net, kept, how(form, images=17), images, SCALING)
    pixels = images.images.clone()
    pixels[17:] = 0
    others = LabelledImages(pixels, torch.zeros_like(images.labels))
    found = compensated(net, kept, how(form, images=17), others, SCALING)
    other = compensated(net, kept, how(form, images=18), others, SCALING)
    assert torch.equal(found.head.weight, expected.head.weight)
    assert not torch.equal(other.head.weight, expected.head.weight)


@pytest.mark.parametrize("form", FORMS)
def test_memory_format_and_parameters_are_those_of_removal(form):
    net = adopted(Bare)
    kept = random_kept(channel_groups(net).widths, 2)
    plain, pruned = prune(net, kept), compensated(net, kept, how(form), made(20), SCALING)
    assert count_parameters(pruned) == count_parameters(plain)
    for key, tensor in plain.state_dict().items():
        found = pruned.state_dict()[key]
        assert (found.shape, found.dtype, found.stride()) == (
            tensor.shape, tensor.dtype, tensor.stride(),
        ), key  # fmt: skip
    assert pruned.normed.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_of_the_weights_is_kept(dtype):
    net = adopted(Bare)
    kept = random_kept(channel_groups(net).widths, 2)
    method = how("least_squares")
    moments = moments_of(collect(net, made(20), SCALING, [method.request]), method.request)
    expected = compensated(net, kept, method, made(20), SCALING, moments).state_dict()
    found = compensated(net.to(dtype), kept, method, made(20), SCALING, moments).state_dict()
    for key, tensor in expected.items():
        if tensor.is_floating_point():
            assert found[key].dtype is dtype
            close = 0.02 if dtype is torch.bfloat16 else 1e-6
            torch.testing.assert_close(
                found[key].float(), tensor, rtol=0, atol=close * float(tensor.abs().max())
            )


@pytest.mark.parametrize("form", FORMS)
def test_a_network_that_has_diverged_is_refused(form):
    kept = random_kept(channel_groups(adopted(Bare)).widths, 2)
    for bad in (torch.nan, torch.inf):
        net = adopted(Bare)
        with torch.no_grad():
            net.normed.weight[0, 0, 0, 0] = bad
        with pytest.raises((CompensationError, StatisticsError), match="diverged"):
            compensated(net, kept, how(form), made(5), SCALING)
    net = adopted(Bare)
    with torch.no_grad():
        net.stem.weight.fill_(3e38)
    with pytest.raises((CompensationError, StatisticsError), match="diverged"):
        compensated(net, kept, how(form), made(5), SCALING)


def test_moments_of_a_network_that_has_diverged_since_are_refused():
    net, method = adopted(Bare), how("least_squares")
    kept = random_kept(channel_groups(net).widths, 2)
    moments = moments_of(collect(net, made(20), SCALING, [method.request]), method.request)
    with torch.no_grad():
        net.normed.weight[kept[-2][0]] = torch.nan
    with pytest.raises(CompensationError, match=r"normed .*NaN or infinite"):
        compensated(net, kept, method, made(20), SCALING, moments)


@pytest.mark.parametrize("form", FORMS)
def test_a_ridge_below_the_rounding_is_refused_by_name(form):
    net = adopted(lambda classes: Affine(classes, "bias"))
    with torch.no_grad():
        net.make.weight[1:7], net.make.bias[1:7] = net.make.weight[0], net.make.bias[0]
    kept = [torch.arange(7), torch.arange(6)]
    with pytest.raises(CompensationError, match=r"read cannot be solved .* ridge 1e-300; raise it"):
        compensated(net, kept, how(form, ridge=1e-300), made(20), SCALING)


@pytest.mark.parametrize("form", FORMS)
def test_images_and_channels_are_needed(form):
    net = adopted(Bare)
    kept = random_kept(channel_groups(net).widths, 2)
    with pytest.raises(CompensationError, match="there are no images"):
        compensated(net, kept, how(form), made(5).first(0), SCALING)
    with pytest.raises(SurgeryError, match="would keep no channel"):
        compensated(net, [one[:0] for one in kept], how(form), made(5), SCALING)


def test_none_is_removal_alone():
    net = adopted(Bare)
    kept = random_kept(channel_groups(net).widths, 2)
    found = compensated(net, kept, NO_COMPENSATION, made(5).first(0), SCALING).state_dict()
    for key, tensor in prune(net, kept).state_dict().items():
        assert torch.equal(found[key], tensor), key


# Options.


def test_spellings_and_labels():
    plain = Compensation.parse("least_squares")
    assert plain == Compensation("least_squares", images=1024, positions=24, ridge=1e-3)
    assert plain.label == "least_squares"
    assert plain.request == SecondMoments(24)
    assert not plain.sequential
    changed = dataclasses.replace(plain, ridge=0.01, images=512)
    for spelling in (
        "least_squares(images=512, ridge=0.01)",
        {"least_squares": {"images": 512, "ridge": 0.01}},
        {"name": "least_squares", "images": 512, "ridge": 0.01},
    ):
        assert Compensation.parse(spelling) == changed
    assert Compensation.parse(changed.label) == changed
    assert changed.label == "least_squares(images=512, ridge=0.01)"
    assert changed.identity()["options"] == {"images": 512, "positions": 24, "ridge": 0.01}
    assert Compensation.parse("least_squares(ridge=1)").ridge == 1.0
    in_order = Compensation.parse("least_squares_sequential(positions=3)")
    assert in_order.sequential
    assert in_order.request is None
    assert Compensation.parse("none") == NO_COMPENSATION
    assert Compensation.parse({"none": None}) == NO_COMPENSATION
    assert (NO_COMPENSATION.label, NO_COMPENSATION.options) == ("none", {})
    assert NO_COMPENSATION.request is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("lstsq", "compensation 'lstsq' is unknown; allowed: none, least_squares, least_squares_s"),
        ("least_squares(image=3)", "has no option 'image'; did you mean images"),
        ("least_squares(images=0)", "'least_squares', option 'images' is 0; it must be above 0"),
        ("least_squares(positions=0)", "option 'positions' is 0; it must be above 0"),
        ("least_squares(positions=2.5)", "option 'positions' is 2.5; it must be of type int"),
        ("least_squares_sequential(ridge=0)", "option 'ridge' is 0.0; it must be above 0"),
        ("least_squares(ridge=-1)", "option 'ridge' is -1.0; it must be above 0"),
        ("least_squares(ridge=nan)", "option 'ridge' is nan; it must be a finite number"),
        ("least_squares(ridge=inf)", "option 'ridge' is inf; it must be a finite number"),
        ("none(images=3)", "none"),
        ("least_squares(64)", "must be option=value"),
        (None, "None is not a compensation; write a name such as least_squares"),
        (["least_squares"], "is not a compensation"),
    ],
)
def test_invalid_compensations_are_refused(value, message):
    with pytest.raises(CompensationError, match=message):
        Compensation.parse(value)
