import math

import pytest
import torch

from prune_core.evaluation import BATCHES, evaluate
from prune_core.images import LabelledImages
from prune_core.network import Architecture


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
    net = lived_in(Architecture(small.widths, small.kernels, small.pooled, classes))
    images = coloured(count + classes, classes)
    images = LabelledImages(images.images[:count], images.labels[:count])
    score = evaluate(net, images, scaling)
    top1, top5, loss = plain_loop(net, images, scaling)
    assert (score.top1, score.top5) == (top1, top5)
    assert score.loss == pytest.approx(loss, rel=1e-5)
    assert 0 < score.top5 <= 1 or count == 1
    if classes <= 5:
        assert score.top5 == 1


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
