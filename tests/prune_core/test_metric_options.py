"""Options of metrics: what the estimates of the information are, and that each has an effect."""

import itertools
import json
import math
import typing

import pytest
import torch

from prune_core.layer import views
from prune_core.metrics import METRICS, Choice, MetricError
from prune_core.statistics import collect

# Four images of two positions: averages 0 and 2 in class 0, 1 and 3 in class 1, and positions 3
# below and above. So averages vary by 1 within each class and by 0.25 between the classes, and
# positions by 9 more within.
AVERAGES = torch.tensor([0.0, 2, 1, 3])
PAIRS = (AVERAGES[:, None] + torch.tensor([-3.0, 3]))[:, None, None, :]
PAIRED = torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(("estimator", "within"), [("average", 1), ("pixel", 10)])
def test_averages_and_positions_by_hand(scored, estimator, within):
    expected = 0.5 * math.log((within + 0.25) / within)
    known = scored(f"mutual_information_gaussian(estimator={estimator})", PAIRS, PAIRED)
    assert known.item() == pytest.approx(expected, abs=1e-12)
    # A filter that reads this channel alone gets all that the channel knows: eta^2 is
    # 0.25 / (within + 0.25) by its definition, and by the information, because the classes vary
    # alike.
    for source in ("correlation_ratio", "gaussian"):
        choice = f"wmi_snr(information={source}, estimator={estimator})"
        assert scored(choice, PAIRS, PAIRED).item() == pytest.approx(expected, abs=1e-12)
    ratio = scored(f"fisher_ratio(estimator={estimator})", PAIRS, PAIRED)
    assert ratio.item() == pytest.approx(0.25 / (within + 0.25), abs=1e-12)


@pytest.mark.parametrize("estimator", ["average", "pixel"])
@pytest.mark.parametrize("information", ["histogram", "gaussian"])
def test_a_filter_that_reads_one_channel_gets_all_its_information(scored, information, estimator):
    labels = torch.arange(600) % 3
    values = torch.rand(600, 1, 2, 2) + 0.3 * labels[:, None, None, None]
    plain = {"histogram": "mutual_information", "gaussian": "mutual_information_gaussian"}
    known = scored(f"{plain[information]}(estimator={estimator})", values, labels)
    assert 0.05 < known < math.log(3)
    consumer = torch.tensor([2.0, -0.5, 3, 1])[:, None, None, None]
    choice = f"wmi_snr(information={information}, estimator={estimator})"
    found = scored(choice, values, labels, consumer_weight=consumer)
    torch.testing.assert_close(found, 4 * known)


def test_the_bias_of_the_gaussian_information_of_averages(scored):
    # Variances of n values are too small by a factor that differs between class and whole.
    labels = torch.arange(400) % 10
    values = torch.randn(3000, 400).T[:, :, None, None]
    found = scored("mutual_information_gaussian", values, labels)
    assert found.mean().item() == pytest.approx(9 / 400, rel=0.1)


def allowed(name):
    """Every choice of a metric with each option at its default or another value."""
    values, refused = {}, []
    for option, known in METRICS[name].options.items():
        hint, default = known.annotation, known.default
        literal = typing.get_origin(hint) is typing.Literal
        if literal:
            values[option] = typing.get_args(hint)
        else:
            values[option] = (default, default - 1 if default >= 1 else default / 2)
    for combination in itertools.product(*values.values()):
        try:
            yield Choice.of(name, dict(zip(values, combination, strict=True)))
        except MetricError as error:
            refused.append(str(error))
    assert all(f"metric '{name}': option '" in one and "allowed: " in one for one in refused)


def test_no_two_choices_of_a_metric_are_the_same_score(small, lived_in, coloured, scaling):
    """A cell's key has all options, so an option without effect would give one score two keys."""
    choices = {name: list(allowed(name)) for name in METRICS}
    assert len(choices["weighted_mutual_information"]) == 8
    assert len(choices["wmi_snr"]) == 10
    assert len(choices["kse"]) == 3
    assert len(choices["fisher_ratio"]) == 2
    assert len(choices["surgeon"]) == 12
    every = [choice for several in choices.values() for choice in several]
    needs = {request for choice in every for request in choice.needs()}
    net = lived_in(small, seed=2)
    layers = views(net, collect(net, coloured(90), scaling, needs))
    scores = {choice.label: choice(layers) for choice in every}
    for several in choices.values():
        for one, other in itertools.combinations([choice.label for choice in several], 2):
            assert any(
                not torch.equal(a, b) for a, b in zip(scores[one], scores[other], strict=True)
            ), (one, other)


def test_zero_has_one_sign():
    positive, negative = Choice.parse("kse(alpha=0.0)"), Choice.parse("kse(alpha=-0.0)")
    assert json.dumps(positive.identity()) == json.dumps(negative.identity())
