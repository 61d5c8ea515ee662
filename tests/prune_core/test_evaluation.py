import math

import pytest
import torch
from torch import nn

from prune_core.evaluation import BATCHES, batch_size, evaluate
from prune_core.images import LabelledImages
from prune_core.networks import SimpleNetArchitecture


def plain_loop(net, images, scaling):
    """Evaluates seven images at a time, with plain Python arithmetic."""
    right = among = loss = 0.0
    with torch.no_grad():
        rows = torch.cat([net(scaling(part)) for part in images.images.split(7)])
    for logits, label in zip(rows.double().tolist(), images.labels.tolist(), strict=True):
        order = sorted(range(len(logits)), key=lambda k: -logits[k])
        right += order[0] == label
        among += label in order[:5]
        loss += math.log(sum(math.exp(value) for value in logits)) - logits[label]
    count = len(images)
    return right / count, among / count, loss / count


@pytest.mark.parametrize("classes", [4, 12])
@pytest.mark.parametrize("count", [1, 40, BATCHES["cpu"] * 9 + 12])
def test_evaluation_agrees_with_a_plain_loop(small, lived_in, coloured, scaling, classes, count):
    net = lived_in(SimpleNetArchitecture(small.widths, small.kernels, small.pooled, classes))
    images = coloured(count + classes, classes)
    images = LabelledImages(images.images[:count], images.labels[:count])
    score = evaluate(net, images, scaling)
    top1, top5, loss = plain_loop(net, images, scaling)
    assert (score.top1, score.top5) == (top1, top5)
    assert score.loss == pytest.approx(loss, rel=1e-5)
    assert 0 < score.top5 <= 1 or count == 1
    if classes <= 5:
        assert score.top5 == 1


def test_any_module_that_gives_logits_is_evaluated(scaling):
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (200, 3, 10, 14), generator=generator).to(torch.uint8)
    index = torch.randperm(200, generator=generator)[:150]
    labels = torch.randint(0, 7, (150,), generator=generator)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 10 * 14, 7))
    score = evaluate(net, LabelledImages(stored, labels, index), scaling)
    top1, top5, loss = plain_loop(net, LabelledImages(stored[index], labels), scaling)
    assert (score.top1, score.top5) == (top1, top5)
    assert score.loss == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(
    ("device", "size", "batch"),
    [
        ("cpu", (32, 32), 32),
        ("cpu", (64, 32), 16),
        ("cpu", (224, 224), 4),
        ("cpu", (8, 8), 32),
        ("cuda", (32, 32), 256),
        ("cuda", (64, 64), 64),
        ("cuda", (224, 224), 32),
    ],
)
def test_larger_images_are_evaluated_in_smaller_batches(device, size, batch):
    assert batch_size(torch.device(device), size) == batch


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_not_changed(small, lived_in, coloured, scaling, training):
    net, images = lived_in(small).train(training), coloured(30)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert evaluate(net, images, scaling) == evaluate(net, images, scaling)
    assert net.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_an_outer_autocast_changes_nothing(small, lived_in, coloured, scaling):
    net, images = lived_in(small), coloured(30)
    expected = evaluate(net, images, scaling)
    with torch.autocast("cpu", torch.bfloat16):
        assert evaluate(net, images, scaling) == expected


def test_a_diverged_network_has_a_loss_of_nan(small, lived_in, coloured, scaling):
    net = lived_in(small)
    with torch.no_grad():
        net.classifier.bias[0] = math.nan
    score = evaluate(net, coloured(10), scaling)
    assert math.isnan(score.loss)
    assert 0 <= score.top1 <= 1
