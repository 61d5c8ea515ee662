import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from prune_core.evaluation import evaluate
from prune_core.images import LabelledImages, load
from prune_core.networks import Architecture, SimpleNet, SimpleNetArchitecture
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.training import (
    RECALIBRATION_IMAGES,
    Diverged,
    Epoch,
    Recipe,
    one_cycle,
    recalibrate,
    train,
)

RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.05)
PLAIN = Recipe(epochs=2, batch_size=16, crop_padding=0, flip=False)
CIFAR10 = Path(__file__).resolve().parents[2].parent / "shared/data/cifar10"


def trained(net, images, scaling, recipe=RECIPE, seed=0, **options):
    train(net, images, scaling, recipe, seed, flip_keeps_label=True, **options)
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def equal(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_seed_determines_every_bit(small, lived_in, coloured, scaling, precision):
    images, recipe = coloured(70), Recipe(2, 16, 0.05, precision=precision)
    first = trained(lived_in(small), images, scaling, recipe, seed=5)
    torch.manual_seed(99)  # earlier random numbers of the process must not matter
    assert equal(trained(lived_in(small), images, scaling, recipe, seed=5), first)
    assert not equal(trained(lived_in(small), images, scaling, recipe, seed=6), first)


def test_the_seed_determines_the_order_and_the_dropout(small, lived_in, coloured, scaling):
    def weights(seed, dropout, batch):
        net = lived_in(small)
        for module in net.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        recipe = Recipe(1, batch, 0.05, crop_padding=0, flip=False, precision="fp32")
        return trained(net, coloured(64), scaling, recipe, seed)

    # Without dropout two seeds differ by the order of the batches.
    assert not equal(weights(0, 0.0, 16), weights(1, 0.0, 16))
    assert equal(weights(0, 0.0, 16), weights(0, 0.0, 16))
    # With all images in one batch, only rounding and dropout can make a difference.
    name = "blocks.0.conv.weight"
    one, other = weights(0, 0.0, 64)[name], weights(1, 0.0, 64)[name]
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    one, other = weights(0, 0.5, 64)[name], weights(1, 0.5, 64)[name]
    assert not torch.allclose(one, other, rtol=1e-2, atol=1e-3)


def test_the_recipe_sets_the_dropout_and_gives_it_back(small, lived_in, coloured, scaling):
    def weights(own, of_recipe):
        net = lived_in(small)
        layers = [module for module in net.modules() if isinstance(module, nn.Dropout)]
        for layer in layers:
            layer.p = own
        found = trained(net, coloured(32), scaling, replace(RECIPE, dropout=of_recipe))
        assert {layer.p for layer in layers} == {own}
        return found

    assert equal(weights(0.1, 0.0), weights(0.0, None))
    assert equal(weights(0.0, 0.3), weights(0.3, None))
    assert not equal(weights(0.1, 0.0), weights(0.1, None))


def test_a_full_size_network_is_reproducible_too(coloured, scaling):
    images = coloured(32)

    def run():
        torch.manual_seed(1)
        net = SimpleNet(Architecture.named("simplenet_310k", 4))
        return trained(net, images, scaling, Recipe(1, 16, 0.05), seed=2)

    assert equal(run(), run())


def test_the_global_generator_is_untouched(small, lived_in, coloured, scaling):
    net, images = lived_in(small), coloured(40)
    state = torch.get_rng_state()
    trained(net, images, scaling)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_simple_problem_is_learnt(small, coloured, scaling, precision):
    net = SimpleNet(small)
    recipe = Recipe(6, 16, 0.05, crop_padding=2, precision=precision)
    before = evaluate(net, coloured(100, seed=1), scaling)
    history = train(net, coloured(160), scaling, recipe, 0, flip_keeps_label=True)
    after = evaluate(net, coloured(100, seed=1), scaling)
    assert before.top1 < 0.6
    assert after.top1 > 0.95
    assert after.loss < before.loss / 3
    assert history[-1].loss < history[0].loss / 2


def test_the_history_has_one_entry_per_epoch_and_is_reported(small, lived_in, coloured, scaling):
    seen = []
    recipe = Recipe(3, 16, 0.01)
    history = train(lived_in(small), coloured(40), scaling, recipe, 0, True, report=seen.append)
    assert history == seen
    assert [entry.epoch for entry in history] == [1, 2, 3]
    assert all(isinstance(entry, Epoch) and 0 <= entry.accuracy <= 1 for entry in history)
    # 40 images give 2 batches of 16 per epoch; so the accuracy is a multiple of 1/32.
    assert all(entry.accuracy * 32 == round(entry.accuracy * 32) for entry in history)


def test_the_first_loss_is_that_of_the_untrained_network(small, lived_in, coloured, scaling):
    net, images = lived_in(small), coloured(32)
    recipe = Recipe(1, 32, 1e-12, crop_padding=0, flip=False, precision="fp32")
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        logits = net.train()(scaling(images.images))
    expected = nn.functional.cross_entropy(logits, images.labels)
    (epoch,) = train(net, images, scaling, recipe, 0, True)
    assert epoch.loss == pytest.approx(float(expected), rel=1e-5)
    assert epoch.accuracy == float((logits.argmax(1) == images.labels).double().mean())


def test_zero_epochs_change_nothing(small, lived_in, coloured, scaling):
    net = lived_in(small)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert train(net, coloured(16), scaling, Recipe(0), 0, True) == []
    assert equal(before, net.state_dict())


def test_fewer_images_than_a_batch_are_one_batch(small, lived_in, coloured, scaling):
    net = lived_in(small)
    before = net.blocks[0].conv.weight.detach().clone()
    (epoch,) = train(net, coloured(10), scaling, Recipe(1, 128, 0.1), 0, True)
    assert math.isfinite(epoch.loss)
    assert not torch.equal(before, net.blocks[0].conv.weight)


@pytest.mark.parametrize("learning_rate", [1e30, 1e38])
def test_divergence_raises_an_error(small, lived_in, coloured, scaling, learning_rate):
    recipe = Recipe(2, 16, learning_rate, warmup=0)
    with pytest.raises(Diverged, match="epoch"):
        trained(lived_in(small), coloured(32), scaling, recipe)


def test_divergence_in_the_last_step_is_detected(small, lived_in, coloured, scaling):
    # The loss of the only step is computed before the update, so it does not show the divergence.
    recipe = Recipe(1, 16, 1e38, warmup=0, weight_decay=100)
    net = lived_in(small)
    with pytest.raises(Diverged, match="weight"):
        trained(net, coloured(16), scaling, recipe)
    assert not all(tensor.isfinite().all() for tensor in net.state_dict().values())


def test_flips_need_the_recipe_and_the_data_set_to_allow_them(small, lived_in, coloured, scaling):
    def weights(recipe_flips, data_flips):
        net = lived_in(small)
        recipe = Recipe(1, 16, 0.05, crop_padding=0, flip=recipe_flips)
        train(net, coloured(32), scaling, recipe, 0, flip_keeps_label=data_flips)
        return net.state_dict()

    plain = weights(False, True)
    assert equal(weights(True, False), plain)
    assert equal(weights(False, False), plain)
    assert not equal(weights(True, True), plain)


def test_weight_decay_spares_biases_and_batch_normalisation(small, lived_in, coloured, scaling):
    # Both trainings have the same gradients in their only step, so decay makes the difference.
    def weights(decay):
        net = lived_in(small)
        recipe = Recipe(
            1, 16, 0.1, 0, momentum=0, weight_decay=decay, recalibrate=False, precision="fp32"
        )
        return trained(net, coloured(16), scaling, recipe)

    decayed, free = weights(0.5), weights(0.0)
    changed = {name for name in free if not torch.equal(decayed[name], free[name])}
    assert changed == {f"blocks.{layer}.conv.weight" for layer in range(4)} | {"classifier.weight"}


class Other(nn.Module):
    """Layers that SimpleNet does not have; its momenta differ."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.norm = nn.BatchNorm2d(8)
        self.slope = nn.PReLU(8)
        self.hidden = nn.Linear(8, 6)
        self.last_norm = nn.BatchNorm1d(6, momentum=None)
        self.out = nn.Linear(6, 4)

    def forward(self, images):
        maps = self.slope(self.norm(self.depthwise(self.stem(images))))
        return self.out(self.last_norm(self.hidden(maps.mean(dim=(2, 3)))))


def test_any_module_that_gives_logits_is_trained(coloured, scaling):
    net = Other()
    recipe = Recipe(8, 16, 0.1, crop_padding=2, precision="fp32")
    history = train(net, coloured(160), scaling, recipe, 0, flip_keeps_label=True)
    assert history[-1].loss < history[0].loss / 2
    assert evaluate(net, coloured(100, seed=1), scaling).top1 > 0.95


def test_weight_decay_of_other_layers(coloured, scaling):
    def weights(decay):
        torch.manual_seed(0)
        recipe = Recipe(
            1, 16, 0.1, 0, momentum=0, weight_decay=decay, recalibrate=False, precision="fp32"
        )
        return trained(Other(), coloured(16), scaling, recipe)

    decayed, free = weights(0.5), weights(0.0)
    changed = {name for name in free if not torch.equal(decayed[name], free[name])}
    assert changed == {f"{name}.weight" for name in ("stem", "depthwise", "hidden", "out")}


@pytest.mark.parametrize("size", [(32, 32), (20, 36)])
def test_selected_images_are_trained_on_like_copied_ones(small, lived_in, scaling, size):
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (90, 3, *size), generator=generator).to(torch.uint8)
    index = torch.randperm(90, generator=generator)[:70]
    labels = torch.randint(0, 4, (70,), generator=generator)
    lazy = trained(lived_in(small), LabelledImages(stored, labels, index), scaling)
    assert equal(trained(lived_in(small), LabelledImages(stored[index], labels), scaling), lazy)
    other = LabelledImages(stored[:70], labels)
    assert not equal(trained(lived_in(small), other, scaling), lazy)


def test_an_epoch_of_some_images_draws_others_in_each_epoch(small, lived_in, coloured, scaling):
    images, read = coloured(96), []
    net = lived_in(small)
    net.blocks[0].conv.register_forward_pre_hook(lambda _, given: read.append(given[0].clone()))
    recipe = Recipe(3, 8, 1e-6, crop_padding=0, flip=False, recalibrate=False, images=32)
    train(net, images, scaling, recipe, 0, True)
    assert [len(pixels) for pixels in read] == [8] * 12
    epochs = torch.cat(read).flatten(1).split(32)
    assert [len(epoch.unique(dim=0)) for epoch in epochs] == [32] * 3
    assert len(torch.cat(epochs).unique(dim=0)) > 48


def test_more_images_than_there_are_means_all(small, lived_in, coloured, scaling):
    def weights(count):
        return trained(lived_in(small), coloured(48), scaling, Recipe(2, 16, 0.05, images=count))

    everything = weights(None)
    assert equal(weights(48), everything)
    assert equal(weights(1_000), everything)
    assert not equal(weights(32), everything)


def test_one_cycle():
    recipe = Recipe(1, learning_rate=0.4, warmup=0.25)
    assert one_cycle(recipe, 0) == 0
    assert one_cycle(recipe, 0.125) == pytest.approx(0.2)
    assert one_cycle(recipe, 0.25) == pytest.approx(0.4)
    assert one_cycle(recipe, 0.625) == pytest.approx(0.2)
    assert one_cycle(recipe, 1) == pytest.approx(0, abs=1e-12)
    assert one_cycle(Recipe(1, learning_rate=0.4, warmup=0), 0) == 0.4
    assert one_cycle(Recipe(1, learning_rate=0.4, warmup=1), 1) == pytest.approx(0, abs=1e-12)


def test_recalibration_finds_the_statistics_of_the_images(small, lived_in, coloured, scaling):
    net, images = lived_in(small), coloured(512)
    weights = {name: parameter.clone() for name, parameter in net.named_parameters()}
    recalibrate(net, images, scaling, PLAIN, 0, True, batch=512)
    # With one batch, the running statistics are the mean and variance of this batch.
    with torch.no_grad():
        maps = scaling(images.images)
        for block in net.blocks:
            made = block.conv(maps)
            variance, mean = torch.var_mean(made, dim=(0, 2, 3))
            torch.testing.assert_close(block.bn.running_mean, mean, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(block.bn.running_var, variance, rtol=1e-3, atol=1e-4)
            maps = block(maps)
    assert all(torch.equal(parameter, weights[n]) for n, parameter in net.named_parameters())
    assert all(block.bn.momentum == 0.05 for block in net.blocks)


def test_recalibration_restores_the_momentum_of_each_layer(coloured, scaling):
    net, images = Other(), coloured(96)
    with torch.no_grad():
        net.norm.running_mean.fill_(7)
        net.last_norm.running_mean.fill_(7)
    recalibrate(net, images, scaling, PLAIN, 0, True, batch=96)
    assert (net.norm.momentum, net.last_norm.momentum) == (0.1, None)
    with torch.no_grad():
        made = net.depthwise(net.stem(scaling(images.images)))
        hidden = net.hidden(net.slope(net.norm.eval()(made)).mean(dim=(2, 3)))
    mean = made.mean(dim=(0, 2, 3))
    torch.testing.assert_close(net.norm.running_mean, mean, rtol=1e-3, atol=1e-4)
    # The layer sees maps that the batch's own statistics normalised, with a variance over N - 1.
    torch.testing.assert_close(net.last_norm.running_mean, hidden.mean(0), rtol=1e-2, atol=1e-2)


def test_recalibration_of_a_network_without_batch_normalisation(coloured, scaling):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.LazyLinear(4))
    net(torch.zeros(1, 3, 32, 32))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    recalibrate(net, coloured(40), scaling, PLAIN, 0, True)
    assert equal(before, net.state_dict())
    assert net.training


def test_recalibration_discards_the_old_statistics_and_averages_full_batches(
    small, lived_in, coloured, scaling
):
    images, net, other = coloured(70), lived_in(small), lived_in(small)
    with torch.no_grad():
        for block in other.blocks:
            block.bn.running_mean.fill_(7)
            block.bn.running_var.fill_(9)
    recalibrate(net, images, scaling, PLAIN, 0, True, batch=32)
    recalibrate(other, images, scaling, PLAIN, 0, True, batch=32)
    assert equal(net.state_dict(), other.state_dict())
    # The mean of the first layer over the two full batches; 6 of the images are left out.
    order = torch.randperm(70, generator=torch.Generator().manual_seed(derive(0, "recalibration")))
    with torch.no_grad():
        made = net.blocks[0].conv(scaling(images.images[order[:64]]))
    torch.testing.assert_close(
        net.blocks[0].bn.running_mean, made.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5
    )
    assert net.blocks[0].bn.num_batches_tracked == 2


def test_training_ends_with_a_recalibration_unless_told_otherwise(
    small, lived_in, coloured, scaling
):
    images = coloured(70)
    kept = lived_in(small)
    trained(kept, images, scaling, Recipe(2, 16, 0.05, recalibrate=False), seed=3)
    ended = trained(lived_in(small), images, scaling, Recipe(2, 16, 0.05), seed=3)
    assert not equal(ended, kept.state_dict())
    recalibrate(kept, images, scaling, Recipe(2, 16, 0.05), derive(3, "end"), True)
    assert equal(ended, kept.state_dict())


def test_recalibration_draws_a_bounded_number_of_images(small, lived_in, coloured, scaling):
    read = []
    net, images = lived_in(small), coloured(RECALIBRATION_IMAGES + 64)
    net.blocks[0].conv.register_forward_pre_hook(lambda _, given: read.append(given[0].clone()))
    for seed in (0, 0, 1):
        recalibrate(net, images, scaling, PLAIN, seed, True)
    first, again, other = torch.cat(read).split(RECALIBRATION_IMAGES)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # No image is drawn twice.
    assert len(first.flatten(1).unique(dim=0)) == len(images.first(len(first)).images)


@pytest.mark.parametrize("flips", [True, False])
def test_recalibration_shifts_and_mirrors_the_images_as_training_does(
    small, lived_in, scaling, flips
):
    # A bright left half: a mirrored image is dark there, a shifted one has a black border.
    pixels = torch.zeros(256, 3, 32, 32, dtype=torch.uint8)
    pixels[..., :16] = 255
    images = LabelledImages(pixels, torch.zeros(256, dtype=torch.int64))
    read = []
    net = lived_in(small)
    net.blocks[0].conv.register_forward_pre_hook(lambda _, given: read.append(given[0].clone()))
    recalibrate(net, images, scaling, Recipe(1, crop_padding=2), 0, flip_keeps_label=flips)
    bright = scaling(pixels[:1])[0, 0, 0, 0]
    left = (torch.cat(read)[:, 0, 16, 4] == bright).float().mean()
    assert left == 1 if not flips else 0.3 < left < 0.7
    borders = (torch.cat(read)[:, 0, 0, 8:24] == bright).any(dim=1).float().mean()
    # Two of five shifts move the image down, and their first row is black.
    assert 0.4 < borders < 0.8


@pytest.mark.skipif(not CIFAR10.is_dir(), reason=f"real CIFAR-10 images are not in {CIFAR10}")
def test_recalibration_does_not_lower_the_accuracy_of_a_trained_network():
    images = load(f"parquet:{CIFAR10}").split(0.1)
    scaling, part = Preprocessing.of(images.train.images), images.train.first(2_560)
    # Large shifts in a small network have the effect of small shifts in a large one.
    pooled = (True, True, False, True, True)
    torch.manual_seed(0)
    net = SimpleNet(SimpleNetArchitecture((24, 24, 32, 32, 48), (3,) * 5, pooled, 10))
    recipe = Recipe(8, 64, 0.1, crop_padding=8, recalibrate=False, precision="fp32")
    train(net, part, scaling, recipe, 0, True)
    test = images.test.first(4_000)
    before = evaluate(net, test, scaling)
    recalibrate(net, part, scaling, recipe, 0, True)
    after = evaluate(net, test, scaling)
    assert before.top1 > 0.35
    assert after.top1 > before.top1 - 0.01
    # On unshifted images the loss rises by 0.03.
    assert after.loss < before.loss + 0.01


def test_recalibration_accepts_fewer_images_than_a_batch(small, lived_in, coloured, scaling):
    net, images = lived_in(small), coloured(6)
    state = torch.get_rng_state()
    recalibrate(net, images, scaling, PLAIN, 0, True, batch=32)
    assert net.blocks[0].bn.num_batches_tracked == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert not net.training


def test_a_pruned_network_recovers_by_recalibration(small, coloured, scaling):
    net, images, test = SimpleNet(small), coloured(200), coloured(100, seed=1)
    train(net, images, scaling, Recipe(6, 16, 0.05), 0, True)
    with torch.no_grad():
        for block in net.blocks:
            block.bn.running_mean.add_(2)
    broken = evaluate(net, test, scaling)
    recalibrate(net, images, scaling, Recipe(6, 16, 0.05), 0, True, batch=50)
    assert evaluate(net, test, scaling).loss < broken.loss / 3
