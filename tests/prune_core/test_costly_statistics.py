"""Statistics of gradients and singular values: definitions, batches and passes over the images."""

import copy

import numpy as np
import pytest
import torch

from prune_core.images import LabelledImages
from prune_core.layer import views
from prune_core.metrics import Choice
from prune_core.statistics import GradientProduct, Rank, collect
from prune_core.statistics.costly import NuclearNorm, SignedGradientProduct

COSTLY = (GradientProduct(), SignedGradientProduct(), Rank(), NuclearNorm())


@pytest.fixture(scope="module")
def net(small, lived_in):
    net = lived_in(small, seed=3)
    with torch.no_grad():
        # A channel that never fires.
        net.blocks[1].bn.weight[2], net.blocks[1].bn.bias[2] = 0, -1
    return net


@pytest.fixture(scope="module")
def images(coloured):
    return coloured(140)


@pytest.fixture(scope="module")
def answers(net, images, scaling):
    torch.set_num_threads(1)
    return collect(net, images, scaling, COSTLY)


def mean_losses(net, pixels, labels, layer, channel, factor):
    """The mean loss if a channel is multiplied by a factor."""

    def gate(_module, _inputs, output):
        scale = torch.ones(output.shape[1], dtype=output.dtype)
        scale[channel] = factor
        return output * scale[:, None, None]

    hook = net.blocks[layer].register_forward_hook(gate)
    with torch.no_grad():
        logits = net(pixels)
    hook.remove()
    return torch.nn.functional.cross_entropy(logits, labels).item()


def test_signed_products_are_the_derivative_of_the_mean_loss_by_a_gate(net, images, scaling):
    layer, step = 1, 1e-3
    few = LabelledImages(images.images[:12], images.labels[:12])
    choice = Choice.of("taylor_signed")
    layers = views(net, collect(net, few, scaling, choice.needs()))
    scores = choice(layers)[layer]
    signed = layers[layer].answer(SignedGradientProduct())["mean"]
    exact = copy.deepcopy(net).double()
    pixels = scaling(few.images).double()
    for channel in range(len(scores)):
        losses = [
            mean_losses(exact, pixels, few.labels, layer, channel, factor)
            for factor in (1 - step, 1 + step)
        ]
        slope = (losses[1] - losses[0]) / (2 * step)
        assert signed[channel].item() == pytest.approx(slope, rel=2e-2, abs=1e-6)
        assert scores[channel].item() == pytest.approx(abs(slope), rel=2e-2, abs=1e-6)
    assert signed.min() < -1e-3
    assert signed.max() > 1e-3
    assert scores[2] == 0  # it never fires


def test_signed_products_are_the_gradient_along_scale_and_shift(net, images, scaling):
    """In a chain, scale and shift times 1 + e multiply the channel by 1 + e."""
    few = LabelledImages(images.images[:50], images.labels[:50])
    choice = Choice.of("taylor_signed")
    scores = choice(views(net, collect(net, few, scaling, choice.needs())))
    exact = copy.deepcopy(net).double()
    loss = torch.nn.functional.cross_entropy(exact(scaling(few.images).double()), few.labels)
    loss.backward()
    for block, of_layer in zip(exact.blocks, scores, strict=True):
        norm = block.bn
        expected = (norm.weight * norm.weight.grad + norm.bias * norm.bias.grad).detach().abs()
        torch.testing.assert_close(of_layer, expected, rtol=1e-4, atol=1e-6)


def test_the_square_of_a_mean_is_at_most_the_mean_of_squares(answers, net, images, scaling):
    for of_layer in answers:
        signed = of_layer[SignedGradientProduct()]["mean"]
        squared = of_layer[GradientProduct()]["square"]
        assert (signed.square() <= squared * (1 + 1e-12)).all()
    # They are equal for a single image.
    one = LabelledImages(images.images[:1], images.labels[:1])
    for of_layer in collect(net, one, scaling, COSTLY[:2]):
        signed = of_layer[SignedGradientProduct()]["mean"]
        torch.testing.assert_close(signed.square(), of_layer[GradientProduct()]["square"])


def test_nuclear_norms_agree_with_numpy(answers, net, images, scaling, feature_maps):
    with torch.no_grad():
        maps = feature_maps(net, scaling(images.images))
    for of_layer, values in zip(answers, maps, strict=True):
        singular = np.linalg.svd(values.double().numpy(), compute_uv=False)
        expected = singular.sum(axis=-1).mean(axis=0)
        np.testing.assert_allclose(of_layer[NuclearNorm()]["norm"], expected, rtol=1e-4, atol=1e-6)
    assert answers[1][NuclearNorm()]["norm"][2] == 0
    # The last consumer reads one number of each channel, which is its own singular value.
    (mean,) = [values.double().mean(dim=(0, 2, 3)) for values in maps[-1:]]
    torch.testing.assert_close(answers[-1][NuclearNorm()]["norm"], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_the_batch_size_changes_no_answer(answers, net, images, scaling, batch):
    again = collect(net, images, scaling, COSTLY, batch=batch)
    for before, after in zip(answers, again, strict=True):
        for request in COSTLY:
            for field, values in before[request].items():
                assert torch.equal(values, after[request][field]), (request, field)


def test_what_else_is_asked_for_changes_no_answer(answers, net, images, scaling):
    for request in COSTLY:
        for before, alone in zip(answers, collect(net, images, scaling, [request]), strict=True):
            for field, values in before[request].items():
                assert torch.equal(values, alone[request][field]), (request, field)


def test_all_gradient_requests_share_one_backward_pass(net, images, scaling, monkeypatch):
    calls, plain = [], torch.autograd.grad

    def counted(*arguments, **options):
        calls.append(len(arguments))
        return plain(*arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    collect(net, images, scaling, [GradientProduct()])
    alone = len(calls)
    collect(net, images, scaling, COSTLY[:2])
    assert len(calls) == 2 * alone > 0


def test_requests_keep_their_text_because_it_is_part_of_keys():
    assert [repr(request) for request in COSTLY] == [
        "GradientProduct()",
        "SignedGradientProduct()",
        "Rank()",
        "NuclearNorm()",
    ]
