"""Properties that every metric of the registry must have, and choices of metrics with options."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_core.budgets import global_, local
from prune_core.images import LabelledImages
from prune_core.layer import views
from prune_core.metrics import METRICS, Choice, MetricError, metric
from prune_core.networks import SimpleNet, SimpleNetArchitecture
from prune_core.normalisation import (
    NORMALISATIONS,
    check_normalisation,
    normalise,
)
from prune_core.statistics import (
    AverageHistogram,
    Moments,
    PixelHistogram,
    StatisticsError,
    collect,
)

EVERY_METRIC = sorted(METRICS)
OPTIONS = [
    "mutual_information(estimator=pixel, bins=8)",
    "mutual_information(edges=quantile)",
    "weighted_mutual_information(estimator=pixel)",
    "wmi_gauge_free(edges=quantile, bins=5)",
    "mutual_information_gaussian(estimator=pixel)",
    "fisher_ratio(estimator=pixel)",
    "weighted_mutual_information(information=gaussian)",
    "weighted_mutual_information_kernel(information=gaussian, estimator=pixel)",
    "weighted_mutual_information_product(information=gaussian)",
    # These images are so easy that averages would give H(Y) for all channels of a layer.
    "weighted_mutual_information_shuffled(information=gaussian, estimator=pixel)",
    "wmi_gauge_free(information=gaussian)",
    "wmi_snr(estimator=average)",
    "wmi_snr(information=gaussian)",
    "wmi_snr(information=histogram, estimator=average, bins=8)",
    "kse(neighbours=2, alpha=0.3)",
    "surgeon(per=mac, positions=5, ridge=0.1)",
    "feature_map_entropy(of=value)",
]
CHOICES = [Choice.of(name) for name in EVERY_METRIC] + [Choice.parse(text) for text in OPTIONS]
# Scores that depend on a channel's position: noise, and randomly permuted information.
BY_PLACE = ("random", "weighted_mutual_information_shuffled")
# The permutation of channels changes the order of sums in the backward pass.
BACKWARD = ("taylor", "taylor_signed", "taylor_weight", "hessian_diag")
IDS = [choice.label for choice in CHOICES]


def all_scores(net, images, scaling, seed=0, choices=CHOICES):
    needs = {request for choice in choices for request in choice.needs()}
    layers = views(net, collect(net, images, scaling, needs), seed)
    return {choice.label: choice(layers) for choice in choices}, layers


@pytest.fixture(scope="module")
def net(small, lived_in):
    return lived_in(small, seed=2)


@pytest.fixture(scope="module")
def found(net, coloured, scaling):
    torch.set_num_threads(1)
    return all_scores(net, coloured(90), scaling)


def test_the_registry_has_the_metrics_of_the_method():
    assert set(EVERY_METRIC) == {
        *("random", "input_l1", "output_l1", "bn_scale", "fpgm", "activation_l1", "apoz"),
        *("entropy_histogram", "entropy_gaussian", "mutual_information"),
        *("mutual_information_gaussian", "weighted_mutual_information"),
        *("weighted_mutual_information_kernel", "weighted_mutual_information_product"),
        *("weighted_entropy", "log_output_weight", "weighted_mutual_information_shuffled"),
        *("wmi_gauge_free", "wmi_snr", "taylor", "hrank", "kse", "surgeon"),
        *("input_l2", "output_l2", "relu_mean", "rms_times_output", "variance_times_output"),
        *("fisher_ratio", "taylor_signed", "nuclear"),
        *("taylor_weight", "hessian_diag", "synflow"),
        *("correlation", "chip", "feature_map_entropy", "consumer_information"),
    }


@pytest.mark.parametrize("name", EVERY_METRIC)
def test_a_metric_is_documented(name):
    kind = METRICS[name]
    assert kind.summary.endswith(".")
    assert kind.source
    assert kind.version >= 1
    assert all(parameter.default is not parameter.empty for parameter in kind.options.values())


@pytest.mark.parametrize("label", IDS)
def test_scores_differ_between_channels(found, label):
    scores, layers = found
    for values, layer in zip(scores[label], layers, strict=True):
        assert values.shape == (layer.channels,)
        assert values.dtype is torch.float64
    assert len(torch.cat(scores[label]).unique()) > 10


@pytest.mark.parametrize("label", IDS)
def test_nonnegative_metrics_give_no_negative_score(found, label):
    scores, _ = found
    if Choice.parse(label).metric.nonnegative:
        assert min(values.min() for values in scores[label]) >= 0


def test_only_random_scores_depend_on_the_seed(net, coloured, scaling, found):
    scores, _ = found
    again, _ = all_scores(net, coloured(90), scaling)
    other, _ = all_scores(net, coloured(90), scaling, seed=1)
    for label, layers in scores.items():
        drawn = Choice.parse(label).name in BY_PLACE
        for layer, values in enumerate(layers):
            assert torch.equal(values, again[label][layer]), label
            assert torch.equal(values, other[label][layer]) is not drawn, label


def test_no_metric_draws_from_the_global_generator(net, coloured, scaling):
    state = torch.get_rng_state()
    all_scores(net, coloured(20), scaling)
    assert torch.equal(torch.get_rng_state(), state)


def permuted(net, layer, order):
    """The same function, with the channels of one layer permuted."""
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for name in [*(f"conv.{part}" for part in ("weight", "bias")), "bn.weight", "bn.bias"]:
        state[f"blocks.{layer}.{name}"] = state[f"blocks.{layer}.{name}"][order]
    for name in ("running_mean", "running_var"):
        state[f"blocks.{layer}.bn.{name}"] = state[f"blocks.{layer}.bn.{name}"][order]
    reader = f"blocks.{layer + 1}.conv" if layer + 1 < len(net.blocks) else "classifier"
    state[f"{reader}.weight"] = state[f"{reader}.weight"][:, order]
    other = SimpleNet(net.architecture)
    other.load_state_dict(state)
    return other.eval()


@pytest.mark.parametrize("layer", range(4))
def test_permuting_channels_permutes_scores(net, coloured, scaling, found, layer):
    scores, _ = found
    order = torch.randperm(net.architecture.widths[layer])
    moved, _ = all_scores(permuted(net, layer, order), coloured(90), scaling)
    for label, values in scores.items():
        before, after = values[layer], moved[label][layer]
        if label == "random":
            assert torch.equal(after, before)
        elif Choice.parse(label).name not in BY_PLACE:
            loose = 1e-4 if label in BACKWARD else 1e-9
            torch.testing.assert_close(after, before[order], rtol=loose, atol=loose, msg=label)


def test_shuffling_permutes_the_information(net, coloured, scaling):
    plain, shuffled, logs = (
        Choice.of("weighted_mutual_information"),
        Choice.of("weighted_mutual_information_shuffled"),
        Choice.of("log_output_weight"),
    )
    images, orders = coloured(90), set()
    layers = views(net, collect(net, images, scaling, plain.needs()))
    for seed in range(30):
        seeded = views(net, [layer.answers for layer in layers], seed)
        for layer, (a, b, c) in enumerate(
            zip(plain(seeded), shuffled(seeded), logs(seeded), strict=True)
        ):
            weights = layers[layer].weights_per_channel
            before, after = a / weights - c, b / weights - c
            torch.testing.assert_close(before.sort().values, after.sort().values)
            orders.add((layer, tuple(after.tolist())))
    assert len(orders) > 100


# Defects of a network that must not lead to NaN.
def dead(block):
    block.bn.weight[0], block.bn.bias[0] = 0, -1


def constant(block):
    block.bn.weight[-1], block.bn.bias[-1] = 0, 1.3


def all_dead(block):
    block.bn.weight.zero_()
    block.bn.bias.fill_(-1)


def all_constant(block):
    block.bn.weight.zero_()
    block.bn.bias.fill_(0.7)


def unread(block):
    block.conv.weight[:, 0] = 0


def weightless(block):
    block.conv.weight.zero_()


def saturated(block):
    block.bn.bias.fill_(1e6)


def tiny(block):
    block.bn.weight.mul_(1e-15)
    block.bn.bias.mul_(1e-15)


DAMAGES = [dead, constant, all_dead, all_constant, unread, weightless, saturated, tiny]


@settings(max_examples=25, deadline=None)
@given(
    widths=st.tuples(*[st.integers(1, 5)] * 3),
    damages=st.lists(st.tuples(st.sampled_from(DAMAGES), st.integers(0, 2)), max_size=4),
    classes=st.integers(2, 6),
    count=st.integers(1, 12),
    seed=st.integers(0, 2**31 - 1),
)
def test_scores_are_finite_for_every_network(
    lived_in, coloured, scaling, widths, damages, classes, count, seed
):
    net = lived_in(SimpleNetArchitecture(widths, (3, 1, 3), (True, False, True), classes), seed)
    with torch.no_grad():
        for damage, layer in damages:
            damage(net.blocks[layer])
    images = coloured(classes, classes, seed)
    images = LabelledImages(images.images[:count], images.labels[:count])
    scores, layers = all_scores(net, images, scaling, seed)
    for label, values in scores.items():
        assert all(bool(layer.isfinite().all()) for layer in values), label
        choice = Choice.parse(label)
        for name in NORMALISATIONS:
            if NORMALISATIONS[name].fits(choice.metric):
                for layer in normalise(name, choice, values, layers):
                    assert bool(layer.isfinite().all()), (label, name)


@pytest.mark.parametrize(
    ("classes", "labels", "alike"),
    [
        (4, [0, 1, 2, 3, 3, 3, 3, 3], False),  # classes with one image
        (4, [0, 0, 1, 1, 2, 2, 3, 3], True),  # all images equal
        (2, [0, 1, 1, 0], False),
        (2, [0, 0, 0, 0], False),  # a class that is absent
        (100, list(range(15)), False),  # fewer images than bins, far fewer than classes
        (10, [3], False),  # one image
    ],
)
def test_difficult_images_give_finite_scores(
    lived_in, small, coloured, scaling, classes, labels, alike
):
    net = lived_in(SimpleNetArchitecture(small.widths, small.kernels, small.pooled, classes))
    images = LabelledImages(coloured(15).images[: len(labels)], torch.tensor(labels))
    if alike:
        images = LabelledImages(images.images[:1].expand(len(labels), -1, -1, -1), images.labels)
    scores, _ = all_scores(net, images, scaling)
    ceiling = math.log(len(set(labels))) + 1e-12
    for label, values in scores.items():
        assert all(bool(layer.isfinite().all()) for layer in values), label
    gaussian = "mutual_information_gaussian", "mutual_information_gaussian(estimator=pixel)"
    if alike:
        # The pixels of an image differ from one another, but have no information about its label.
        assert not any(layer.any() for layer in scores["mutual_information"])
        assert not any(layer.any() for layer in scores["entropy_histogram"])
        for label in gaussian:
            assert max(layer.max() for layer in scores[label]) < 1e-9
    for label in gaussian:
        assert max(layer.max() for layer in scores[label]) <= ceiling


@pytest.mark.parametrize("label", IDS)
@pytest.mark.parametrize("name", NORMALISATIONS)
def test_no_normalisation_changes_a_ranking_within_a_layer(small, found, label, name):
    scores, layers = found
    choice = Choice.parse(label)
    if not NORMALISATIONS[name].fits(choice.metric):
        with pytest.raises(MetricError, match=f"normalisation '{name}' .* allowed for it: none, "):
            check_normalisation(name, choice)
        with pytest.raises(MetricError, match=name):
            normalise(name, choice, scores[label], layers)
        return
    check_normalisation(name, choice)
    values = normalise(name, choice, scores[label], layers)
    for before, after in zip(scores[label], values, strict=True):
        assert torch.equal(before.argsort(stable=True), after.argsort(stable=True))
    for ratio in (0.3, 0.7):
        expected = local(scores[label], small, ratio)
        for one, other in zip(expected, local(values, small, ratio), strict=True):
            assert torch.equal(one, other)
        assert len(global_(values, small, ratio)) == 4


def test_normalisations_by_hand(found):
    _, layers = found
    layer = layers[1]  # 6 channels, 8 inputs of 3x3; read by 12 filters of 1x1
    scores = torch.tensor([1.0, 2, 3, 4, 5, 9], dtype=torch.float64)

    def by(name, metric_name, values=scores):
        return normalise(name, Choice.of(metric_name), [values], [layer])[0].tolist()

    assert by("none", "output_l1") == scores.tolist()
    assert by("per_weight", "output_l1") == pytest.approx((scores / 12).tolist())
    assert by("per_weight", "input_l1") == pytest.approx((scores / 72).tolist())
    assert by("per_weight", "weighted_mutual_information") == pytest.approx((scores / 12).tolist())
    three = normalise(
        "per_weight", Choice.of("weighted_mutual_information_kernel"), [scores], layers[2:3]
    )
    assert three[0].tolist() == pytest.approx((scores / 9).tolist())
    full = normalise("per_weight", Choice.of("weighted_mutual_information"), [scores], layers[2:3])
    assert full[0].tolist() == pytest.approx((scores / 81).tolist())
    assert by("layer_mean", "output_l1") == pytest.approx((scores / 4).tolist())
    deviation = math.sqrt(sum((x - 4) ** 2 for x in (1, 2, 3, 4, 5, 9)) / 6)
    assert by("layer_zscore", "apoz") == pytest.approx(((scores - 4) / deviation).tolist())


def lamp(scores, layer):
    """The scores of one layer after `lamp`, of a metric that it fits."""
    values = torch.as_tensor(scores, dtype=torch.float64)
    return normalise("lamp", Choice.of("output_l1"), [values], [layer])[0]


def test_lamp_by_hand(found):
    _, layers = found
    # Squares 1, 4, 9, 16; of those that are no worse: 30, 29, 25, 16.
    assert lamp([3, 1, 4, 2], layers[0]).tolist() == [9 / 25, 1 / 30, 1, 4 / 29]
    # Two channels are equal: 1, 4, 4, 9 of 18, 17, 17, 9.
    assert lamp([2, 1, 2, 3], layers[0]).tolist() == [4 / 17, 1 / 18, 4 / 17, 1]
    # The best ones are equal, and share what a single one has.
    assert lamp([2, 0, 2, 1], layers[0]).tolist() == [1 / 2, 0, 1 / 2, 1 / 9]
    assert lamp([5], layers[0]).tolist() == [1]
    assert lamp([0, 0, 0], layers[0]).tolist() == [0, 0, 0]


def test_lamp_is_the_share_in_the_squares_of_all_that_are_left(found):
    """The definition, as a loop over channels from the worst to the best."""
    _, layers = found
    scores = torch.rand(200, dtype=torch.float64)
    values, left = lamp(scores, layers[0]), scores.square().sum().item()
    for channel in scores.argsort().tolist():
        square = scores[channel].item() ** 2
        assert values[channel].item() == pytest.approx(square / left, rel=1e-9)
        left -= square


def test_lamp_does_not_depend_on_the_scale_of_a_layer(found):
    _, layers = found
    scores = torch.rand(50, dtype=torch.float64)
    for power in (-900, -1, 1, 900):
        assert torch.equal(lamp(scores * 2.0**power, layers[0]), lamp(scores, layers[0]))


# Scores whose squares, or whose shares, floats cannot tell apart.
CLOSE = [
    [1.0, 1.0 + 2**-52, 1.0 + 2**-51],
    [1e-200, 2e-200, 3e-200, 1.0, 1e200],
    [0.0, 5e-324, 1e-323, 1e-310, 1.0],
    [1e-310, 2e-310],
    [1.7e308, 1.6e308, 1.0, 0.0],
    [*(1e-12 * (1 + step * 2**-52) for step in range(30)), 1.0, 1.0, 1.0],
]


@pytest.mark.parametrize("scores", CLOSE, ids=str)
def test_lamp_keeps_the_order_of_scores_that_are_nearly_equal(found, scores):
    _, layers = found
    scores = torch.tensor(scores, dtype=torch.float64)[torch.randperm(len(scores))]
    values = lamp(scores, layers[0])
    assert values.isfinite().all()
    assert values.min() >= 0
    assert values.max() <= 1
    smaller, equal = scores[:, None] < scores, scores[:, None] == scores
    assert torch.equal(values[:, None] < values, smaller)
    assert torch.equal(values[:, None] == values, equal)


@pytest.mark.parametrize("label", IDS)
def test_lamp_gives_each_layer_the_same_best_value(found, label):
    scores, layers = found
    choice = Choice.parse(label)
    if not NORMALISATIONS["lamp"].fits(choice.metric):
        return
    for before, after in zip(
        scores[label], normalise("lamp", choice, scores[label], layers), strict=True
    ):
        best = before == before.max()
        expected = 1 / int(best.sum()) if before.max() > 0 else 0
        assert after[best].tolist() == pytest.approx([expected] * int(best.sum()), rel=1e-12)
        assert torch.equal(
            before.unique(return_inverse=True)[1], after.unique(return_inverse=True)[1]
        )


def test_normalising_layers_with_equal_scores(found):
    _, layers = found
    choice = Choice.of("output_l1")
    zeros, equal = torch.zeros(5, dtype=torch.float64), torch.full((5,), 0.1, dtype=torch.float64)
    for name in NORMALISATIONS:
        assert normalise(name, choice, [zeros], layers[:1])[0].tolist() == [0] * 5
    assert normalise("layer_zscore", choice, [equal], layers[:1])[0].tolist() == [0] * 5
    assert normalise("layer_mean", choice, [equal], layers[:1])[0].tolist() == [1] * 5
    assert normalise("lamp", choice, [equal], layers[:1])[0].tolist() == pytest.approx([0.2] * 5)


def test_unsuitable_normalisations_are_refused_by_name():
    with pytest.raises(
        MetricError, match="'mean' is unknown; allowed: none, per_weight, layer_mean"
    ):
        check_normalisation("mean", Choice.of("output_l1"))
    with pytest.raises(MetricError, match=r"'apoz' is not; .* fit 'layer_mean': activation_l1, "):
        check_normalisation("layer_mean", Choice.of("apoz"))
    with pytest.raises(MetricError, match=r"'lamp' needs .* reverse .*; 'entropy_gaussian' is not"):
        check_normalisation("lamp", Choice.of("entropy_gaussian"))


@pytest.mark.parametrize("name", ["layer_mean", "lamp"])
def test_a_negative_score_of_a_nonnegative_metric_is_refused(found, registry, name):
    @metric(source="test", nonnegative=True)
    def liar(layer):
        return -torch.ones(layer.channels)

    choice = Choice.of("liar")
    _, layers = found
    with pytest.raises(MetricError, match=r"'liar' .* never negative, but layer 0 .* -1\.0"):
        normalise(name, choice, choice(layers), layers)


SPELLINGS = [
    "mutual_information(estimator=pixel, bins=64)",
    " mutual_information ( bins = 64,estimator='pixel' ) ",
    {"mutual_information": {"bins": 64, "estimator": "pixel"}},
    {"name": "mutual_information", "estimator": "pixel", "bins": 64, "edges": "equal"},
]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
def test_a_choice_has_one_identity_in_every_spelling(spelling):
    choice = Choice.parse(spelling)
    assert choice == Choice.of("mutual_information", {"bins": 64, "estimator": "pixel"})
    assert choice.options == (("bins", 64), ("edges", "equal"), ("estimator", "pixel"))
    assert choice.needs() == {PixelHistogram(64, zero_bin=True)}
    assert choice.label == "mutual_information(bins=64, estimator=pixel)"
    assert Choice.parse(choice.label) == choice
    assert json.loads(json.dumps(choice.identity())) == {
        "name": "mutual_information",
        "options": {"bins": 64, "edges": "equal", "estimator": "pixel"},
        "version": 1,
    }


@pytest.mark.parametrize("name", EVERY_METRIC)
def test_a_plain_name_is_the_metric_with_its_defaults(name):
    choice = Choice.parse(name)
    assert choice == Choice.of(name) == Choice.parse({name: {}}) == Choice.parse({name: None})
    assert choice == Choice.parse(f"{name}()") == Choice.parse({"name": name})
    assert choice.label == name
    assert hash(choice) == hash(Choice.of(name))


def test_the_number_of_images_is_an_option_of_metrics_that_read_them():
    for name in EVERY_METRIC:
        if METRICS[name].reads_images:
            choice = Choice.parse(f"{name}(images=77)")
            assert choice.images == 77
            assert choice.needs() == Choice.of(name).needs()
            assert Choice.parse(choice.label) == choice
            assert Choice.parse({name: {"images": None}}).images is None
        else:
            with pytest.raises(MetricError, match=f"'{name}' reads no images"):
                Choice.of(name, {"images": 77})
    assert Choice.of("hrank").images == Choice.of("nuclear").images == 500
    assert Choice.of("taylor").images is None
    assert Choice.parse("hrank(images=none)").label == "hrank(images=none)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("l1", "metric 'l1' is unknown; allowed: activation_l1, apoz, "),
        ("output_l1(bins=3)", r"'output_l1' has no option 'bins'; allowed: none"),
        ("mutual_information(bin=3)", r"no option 'bin'; did you mean bins"),
        ("mutual_information(bins=1)", "'mutual_information': option 'bins' is 1; it must be 2 or"),
        ("mutual_information(bins=2.0)", "'bins' is 2.0; it must be of type int"),
        ("mutual_information(bins=true)", "'bins' is True; it must be of type int"),
        ("mutual_information(bins=)", "'bins=' in .* must be option=value"),
        ("mutual_information(64)", "'64' in .* must be option=value"),
        ("mutual_information(bins=3, bins=4)", "'bins=4' in .* each option given once"),
        ("mutual_information(bins=3,)", "must be option=value"),
        ("mutual_information(estimator=median)", "'median'; allowed: average, pixel"),
        (
            "mutual_information(estimator=pixel, edges=quantile)",
            "option 'edges' is 'quantile'; with estimator 'pixel' allowed: equal",
        ),
        (
            "weighted_mutual_information(information=gaussian, bins=30)",
            "'weighted_mutual_information': option 'bins' is 30; .* no effect, .* allowed: 20",
        ),
        (
            "wmi_gauge_free(information=gaussian, edges=quantile)",
            "option 'edges' is 'quantile'; with information 'gaussian' .* allowed: equal",
        ),
        ("wmi_snr(bins=30)", "with information 'correlation_ratio' .* allowed: 20"),
        ("wmi_snr(information=gaussian, bins=30)", "with information 'gaussian' .* allowed: 20"),
        (
            "wmi_snr(information=histogram, edges=quantile)",
            "option 'edges' is 'quantile'; with estimator 'pixel' allowed: equal",
        ),
        ("mutual_information_gaussian(bins=30)", "no option 'bins'; allowed: estimator, images"),
        ("weighted_mutual_information(information=exact)", "allowed: histogram, gaussian"),
        ("wmi_gauge_free(edges=even)", "'even'; allowed: equal, quantile"),
        ("hrank(images=0)", "'images' is 0; it must be 1 or more"),
        ("hrank(images=few)", "'images' is 'few'; it must be of type int or none"),
        ("kse(neighbours=0)", "'kse': option 'neighbours' is 0; it must be 1 or more"),
        ("kse(alpha=0, neighbours=3)", "'neighbours' is 3; with alpha 0 .* allowed: 5"),
        ("kse(alpha=-1)", "'alpha' is -1.0; it must be 0 or more, and finite"),
        ("kse(alpha=nan)", "'alpha' is nan"),
        ("__import__('os').system('true')", "must be option=value"),
        ("lambda: 3", "is not a metric"),
        ("", "'' is not a metric; write a name such as entropy_histogram"),
        (None, "None is not a metric"),
        (3, "3 is not a metric"),
        (["output_l1"], "is not a metric"),
        ({"output_l1": {}, "apoz": {}}, "is not a metric"),
        ({"mutual_information": 20}, "is not a metric"),
        ({}, "is not a metric"),
    ],
)
def test_invalid_choices_are_refused(value, message):
    with pytest.raises(MetricError, match=message):
        Choice.parse(value)


def test_a_whole_number_is_accepted_for_a_float():
    assert Choice.parse("kse(alpha=2)") == Choice.parse("kse(alpha=2.0)")


def test_statistics_that_were_not_collected_are_named(net):
    with pytest.raises(StatisticsError, match=r"layer 0 has no statistics for Moments\(\)"):
        Choice.of("entropy_gaussian")(views(net))


def test_a_metric_is_one_function(net, coloured, scaling, registry):
    @metric(source="made up", needs=lambda power: frozenset({Moments()}), nonnegative=True)
    def brightness(layer, *, power: float = 1.0):
        """Mean activation to some power."""
        return layer.mean**power

    choice = Choice.parse("brightness(power=2)")
    assert choice.label == "brightness(power=2.0)"
    layers = views(net, collect(net, coloured(20), scaling, choice.needs()))
    for scores, layer in zip(choice(layers), layers, strict=True):
        torch.testing.assert_close(scores, layer.mean.square())
    with pytest.raises(MetricError, match="already registered"):
        metric(source="again")(brightness)


def test_the_registry_is_restored_after_a_test():
    assert "brightness" not in METRICS
    assert "liar" not in METRICS


def test_invalid_scores_are_refused(net, registry):
    @metric(source="test")
    def infinite(layer):
        return torch.full((layer.channels,), torch.inf)

    @metric(source="test")
    def scalar(layer):
        return torch.ones(())

    @metric(source="test")
    def listed(layer):
        return layer.gamma.tolist()

    @metric(source="test", of_group=True)
    def nothing(layers):
        return None

    for name, kind in (("listed", "list"), ("nothing", "NoneType")):
        words = rf"'{name}' gave a {kind} for layer 0; it must return a tensor \[C\] .* 8 channels"
        with pytest.raises(MetricError, match=words):
            Choice.of(name)(views(net))
    with pytest.raises(MetricError, match="'infinite' gave inf for a channel of layer 0"):
        Choice.of("infinite")(views(net))
    with pytest.raises(MetricError, match=r"'scalar' gave shape \(\) for layer 0; expected \(8,\)"):
        Choice.of("scalar")(views(net))
    with pytest.raises(MetricError, match="option name 'images' is reserved"):

        @metric(source="test")
        def greedy(layer, *, images: int = 3):
            return torch.ones(layer.channels)


def test_shared_statistics_are_requested_once():
    sharing = {
        Moments(): (
            *("entropy_gaussian", "weighted_entropy"),
            *("rms_times_output", "variance_times_output"),
        ),
        AverageHistogram(20, zero_bin=True): (
            *("mutual_information", "weighted_mutual_information"),
            *("weighted_mutual_information_kernel", "weighted_mutual_information_product"),
            "weighted_mutual_information_shuffled",
        ),
    }
    for request, names in sharing.items():
        for name in names:
            assert Choice.of(name).needs() == {request}, name
    assert Choice.of("fisher_ratio").needs() == Choice.of("mutual_information_gaussian").needs()
    assert Choice.of("wmi_snr").needs() == Choice.parse("fisher_ratio(estimator=pixel)").needs()
