"""The gauge table of docs/method.md, for every metric, on a small network.

A gauge is a rescaling of weights that does not change the network's function. Here factors are
powers of two and batch normalisation has no epsilon. So all activations are exactly the original
ones, or exact multiples of them, and every difference of scores comes from the metric.
"""

import copy
import math

import pytest
import torch

from prune_core.layer import views
from prune_core.metrics import METRICS, Choice
from prune_core.networks import SimpleNetArchitecture
from prune_core.statistics import collect

LAYER, CHANNEL = 1, 2
FACTOR = 4.0
LOG = math.log(FACTOR)
CHANGES = "changes"


def unchanged(score, layer):
    return score


# The score of a channel after gamma and beta are multiplied by a, and the weights that read the
# channel are divided by a.
CHANNEL_RESCALED = {
    "random": unchanged,
    "input_l1": unchanged,
    "input_l2": unchanged,
    "fpgm": unchanged,
    "output_l1": lambda score, layer: score / FACTOR,
    "output_l2": lambda score, layer: score / FACTOR,
    "bn_scale": lambda score, layer: score * FACTOR,
    "relu_mean": lambda score, layer: score * FACTOR,
    "activation_l1": lambda score, layer: score * FACTOR,
    "rms_times_output": unchanged,
    "variance_times_output": unchanged,
    "apoz": unchanged,
    "entropy_histogram": unchanged,
    "entropy_gaussian": lambda score, layer: score + LOG,
    "mutual_information": unchanged,
    "mutual_information_gaussian": unchanged,
    "fisher_ratio": unchanged,
    "weighted_mutual_information": lambda score, layer: score - layer.weights_per_channel * LOG,
    "weighted_mutual_information_kernel": lambda score, layer: score - layer.consumers * LOG,
    "weighted_mutual_information_product": lambda score, layer: score / FACTOR,
    # The entropy increases by as much as the logarithms of the weights decrease.
    "weighted_entropy": unchanged,
    "log_output_weight": lambda score, layer: score - LOG,
    "weighted_mutual_information_shuffled": (
        lambda score, layer: score - layer.weights_per_channel * LOG
    ),
    "wmi_gauge_free": unchanged,
    "wmi_snr": unchanged,
    "surgeon": unchanged,
    "taylor": unchanged,
    "taylor_signed": unchanged,
    "hrank": unchanged,
    "nuclear": lambda score, layer: score * FACTOR,
    "kse": CHANGES,
    # A filter's weights shrink as their gradients grow.
    "taylor_weight": unchanged,
    "hessian_diag": unchanged,
    "synflow": unchanged,
    "correlation": unchanged,
    "consumer_information": unchanged,
    "chip": CHANGES,
    "feature_map_entropy": CHANGES,
}

# The change of the scores of the channels that one filter of the consumer reads, if this filter is
# multiplied by b, which its batch normalisation cancels. A common shift keeps the ranking.
FILTER_RESCALED = dict.fromkeys(CHANNEL_RESCALED, "unchanged") | {
    "output_l1": CHANGES,
    "output_l2": CHANGES,
    "rms_times_output": CHANGES,
    "variance_times_output": CHANGES,
    "weighted_mutual_information": "shifted",
    "weighted_mutual_information_kernel": "shifted",
    "weighted_mutual_information_shuffled": "shifted",
    "weighted_entropy": "shifted",
    "log_output_weight": "shifted",
    "weighted_mutual_information_product": CHANGES,
    "kse": CHANGES,
}
# Metrics that read the filter of the producer, the only ones that a rescaled filter changes.
READS_FILTER = ("input_l1", "input_l2", "fpgm")
GAUSSIAN = [f"information=gaussian, estimator={one}" for one in ("average", "pixel")]
OPTIONS = {
    "mutual_information": ["estimator=pixel", "edges=quantile"],
    "mutual_information_gaussian": ["estimator=pixel"],
    "fisher_ratio": ["estimator=pixel"],
    "weighted_mutual_information": ["estimator=pixel", *GAUSSIAN],
    "weighted_mutual_information_kernel": GAUSSIAN,
    "weighted_mutual_information_product": GAUSSIAN,
    "weighted_mutual_information_shuffled": GAUSSIAN,
    "wmi_gauge_free": ["estimator=pixel", "edges=quantile", *GAUSSIAN],
    "wmi_snr": ["estimator=average", "information=histogram", *GAUSSIAN],
}
CHOICES = [
    Choice.parse(text)
    for name in CHANNEL_RESCALED
    for text in [name, *(f"{name}({option})" for option in OPTIONS.get(name, []))]
]


@pytest.fixture(scope="module")
def net(lived_in):
    kernels, pooled = (3, 3, 1, 3), (False, True, False, True)
    net = lived_in(SimpleNetArchitecture((6, 7, 8, 5), kernels, pooled, 4), seed=7)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 0.0
                module.weight.abs_().add_(0.2)
            elif hasattr(module, "weight"):
                # Keep weights away from the floor of the logarithms, which depends on the median.
                module.weight += 0.05 * module.weight.sign()
    return net


def scores_of(net, images, scaling):
    needs = {request for choice in CHOICES for request in choice.needs()}
    layers = views(net, collect(net, images, scaling, needs))
    return {choice.label: choice(layers) for choice in CHOICES}, layers


def rescale_filter(net, layer, channel, factor):
    """Scales a filter; the batch normalisation behind it absorbs the scale."""
    with torch.no_grad():
        block = net.blocks[layer]
        block.conv.weight[channel] *= factor
        block.conv.bias[channel] *= factor
        block.bn.running_mean[channel] *= factor
        block.bn.running_var[channel] *= factor**2


def rescale_channel(net, layer, channel, factor):
    """Scales a channel; the weights that read it absorb the scale."""
    with torch.no_grad():
        net.blocks[layer].bn.weight[channel] *= factor
        net.blocks[layer].bn.bias[channel] *= factor
        following = net.blocks[layer + 1].conv if layer + 1 < len(net.blocks) else net.classifier
        following.weight[:, channel] /= factor


@pytest.fixture(scope="module")
def before(net, coloured, scaling):
    torch.set_num_threads(1)
    return scores_of(net, coloured(150), scaling)


@pytest.fixture(scope="module")
def after(net, coloured, scaling):
    """The scores after a gauge, with a check that it does not change the logits."""
    torch.set_num_threads(1)

    def build(gauge, layer, channel, factor=FACTOR):
        other = copy.deepcopy(net)
        gauge(other, layer, channel, factor)
        images = coloured(150)
        with torch.no_grad():
            assert torch.equal(other(scaling(images.images)), net(scaling(images.images)))
        return scores_of(other, images, scaling)[0]

    return build


def close(found, expected, message):
    torch.testing.assert_close(
        found, expected, rtol=1e-9, atol=1e-9, msg=lambda text: f"{message}: {text}"
    )


def test_the_tables_cover_the_registry():
    assert set(CHANNEL_RESCALED) == set(METRICS)


def test_rescaling_a_filter_changes_only_metrics_that_read_it(before, after):
    scores, layers = before
    rescaled = after(rescale_filter, LAYER, CHANNEL)
    for label, values in scores.items():
        for layer in range(len(layers)):
            found, expected = rescaled[label][layer], values[layer]
            if label in READS_FILTER and layer == LAYER:
                assert found[CHANNEL] > 1.5 * expected[CHANNEL], label
                others = torch.arange(len(found)) != CHANNEL
                if label != "fpgm":
                    close(found[others], expected[others], label)
            elif layer != LAYER - 1:
                close(found, expected, f"{label}, layer {layer}")


@pytest.mark.parametrize("layer", range(4))
def test_rescaling_a_channel_against_its_consumer(before, after, layer):
    scores, layers = before
    rescaled = after(rescale_channel, layer, CHANNEL)
    for label, values in scores.items():
        expect = CHANNEL_RESCALED[Choice.parse(label).name]
        found, expected = rescaled[label][layer], values[layer].clone()
        if label == "feature_map_entropy" and layer == 3:
            # There is one position.
            assert not found.any()
            assert not expected.any()
        elif expect is CHANGES:
            assert not torch.allclose(found, expected), label
        else:
            expected[CHANNEL] = expect(expected[CHANNEL], layers[layer])
            close(found, expected, label)
        for other in range(4):
            # Only the filters of the next layer have changed, none of its other properties.
            if other != layer and not (label in READS_FILTER and other == layer + 1):
                close(rescaled[label][other], values[other], f"{label}, layer {other}")


@pytest.mark.parametrize("layer", range(3))
def test_rescaling_one_filter_of_the_consumer(before, after, layer):
    scores, _ = before
    rescaled = after(rescale_filter, layer + 1, CHANNEL)
    for label, values in scores.items():
        found, expected = rescaled[label][layer], values[layer]
        expect = FILTER_RESCALED[Choice.parse(label).name]
        if expect == CHANGES:
            assert not torch.allclose(found, expected), label
        elif expect == "shifted":
            shift = found - expected
            close(shift, shift[:1].expand(len(shift)), label)
            assert shift[0] > 0.05, label
            assert torch.equal(found.argsort(), expected.argsort()), label
        else:
            close(found, expected, label)


def test_the_shift_of_a_rescaled_filter_follows_from_its_weights(before, after):
    # k^2 weights of each channel are multiplied by b. R1, a sum over weights, increases by
    # k^2 ln b; R2, a sum over kernels, increases by ln b (see docs/method.md).
    scores, _ = before
    rescaled = after(rescale_filter, 1, CHANNEL)
    for name, gain in [
        ("weighted_mutual_information", 9 * LOG),
        ("weighted_mutual_information_kernel", LOG),
    ]:
        close(rescaled[name][0], scores[name][0] + gain, name)


def test_a_rescaled_filter_may_change_the_ranking_of_output_l1(before, after):
    scores, _ = before
    rescaled = after(rescale_filter, LAYER + 1, CHANNEL, 64.0)
    for name in ("output_l1", "weighted_mutual_information_product"):
        order = scores[name][LAYER].argsort()
        assert not torch.equal(rescaled[name][LAYER].argsort(), order), name
