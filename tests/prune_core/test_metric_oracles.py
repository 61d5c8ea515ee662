"""Every closed-form value in docs/method.md, and agreement with other libraries."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from sklearn.feature_selection import f_classif
from sklearn.metrics import mutual_info_score

from prune_core.metrics import MetricError
from prune_core.metrics.information import (
    entropy,
    gaussian_entropy,
    gaussian_information,
    information,
)
from prune_core.metrics.weighted import log_weights, summed
from prune_core.statistics import AverageHistogram, Moments, histogram

E = math.e


def grid(count):
    """Midpoints of `count` equal parts of [0, 1]: a sample without sampling error."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def normal(count):
    return torch.special.ndtri(grid(count))


def column(values):
    return values[:, None]


# Metric, values of one channel [N], expected score, tolerance. Values are fp32, and a grid has no
# tails beyond 1/2N: both change a variance by less than 1e-4.
ENTROPIES = [
    ("entropy_gaussian", normal(100_000), 1.418939, 1e-4),
    ("entropy_gaussian", 3 * normal(100_000), 1.418939 + math.log(3), 1e-4),
    ("entropy_gaussian", 7 * grid(100_000), math.log(7) + 0.176485, 1e-5),
    ("entropy_gaussian", -torch.log(grid(100_000)), 1 + 0.418939, 1e-4),
    ("entropy_gaussian", normal(100_000).relu(), 0.880775, 1e-4),
    ("entropy_gaussian", torch.full((64,), 0.3), gaussian_entropy(torch.zeros(()).double()), 1e-9),
    ("activation_l1", normal(100_000).relu(), 0.398942, 1e-5),
    ("activation_l1", torch.full((64,), 0.25), 0.25, 0),
    # The output of a linear bottleneck may be negative.
    ("activation_l1", torch.tensor([-3.0, 1.0, -1.0, 3.0]), 2.0, 0),
    ("apoz", normal(100_000).relu(), -0.5, 0),
    ("apoz", torch.zeros(64), -1, 0),
    ("apoz", torch.ones(64), 0, 0),
    ("entropy_histogram", torch.full((64,), 0.3), 0, 0),
    ("entropy_histogram", torch.zeros(64), 0, 0),
    ("entropy_histogram", grid(10_000), math.log(20), 1e-12),
    ("entropy_histogram(bins=7)", grid(7_000), math.log(7), 1e-12),
    ("entropy_histogram(bins=4)", torch.tensor([0.0, 0.1, 0.9, 1.0]), math.log(2), 1e-12),
    # A consumer with a single weight of 1.
    ("rms_times_output", normal(100_000).relu(), math.sqrt(0.5), 1e-4),
    ("rms_times_output", torch.full((64,), 0.25), 0.25, 0),
    ("variance_times_output", normal(100_000).relu(), 0.340845, 1e-4),
    ("variance_times_output", torch.full((64,), 0.25), 0, 0),
    ("nuclear", normal(100_000).relu(), 0.398942, 1e-5),
]


@pytest.mark.parametrize(("choice", "values", "expected", "tolerance"), ENTROPIES)
def test_entropies(scored, choice, values, expected, tolerance):
    (score,) = scored(choice, column(values))
    assert score.item() == pytest.approx(float(expected), abs=tolerance)


def test_relu_of_a_normal_has_the_known_variance(answered):
    values = column(normal(100_000).relu())
    labels = torch.zeros(len(values), dtype=torch.int64)
    found = answered(values, labels, 2, Moments())[Moments()]
    assert found["variance"].item() == pytest.approx(0.340845, abs=2e-5)


def test_gaussian_entropy_of_known_variances():
    variances = torch.tensor([1, 4, 1 / 12], dtype=torch.float64)
    expected = [1.418939, 1.418939 + math.log(2), 0.176485]
    assert gaussian_entropy(variances).tolist() == pytest.approx(expected, abs=1e-6)
    assert gaussian_entropy(torch.zeros(1)).isfinite().all()


# Half the distance of the classes' means, true information, Gaussian information before clipping.
TWO_CLASSES = [
    (0.25, 0.030311, 0.030312),
    (0.5, 0.111421, 0.111572),
    (1, 0.336831, 0.346574),
    (2, 0.632720, 0.804719),
    (3, 0.689298, 1.151293),
]


def two_classes(distance, count=100_000):
    values = torch.cat([normal(count) - distance, normal(count) + distance])
    return column(values), torch.tensor([0, 1]).repeat_interleave(count)


@pytest.mark.parametrize(("distance", "truth", "_gaussian"), TWO_CLASSES)
def test_information_about_two_classes(scored, distance, truth, _gaussian):
    values, labels = two_classes(distance)
    # 400 bins for a range of 9 to 14: binning loses a fraction width^2 / 24, less than 1e-4. The
    # correction subtracts (bins - 1) / 2N = 1e-3, although the estimate from a grid has no bias.
    (score,) = scored("mutual_information(bins=400)", values, labels)
    assert score.item() == pytest.approx(truth, abs=1.2e-3)
    assert score.item() < truth
    (plug_in,) = information(
        histogram(values.T, labels, classes=2, bins=400, zero_bin=True), corrected=False
    )
    assert plug_in.item() == pytest.approx(truth, abs=1.5e-4)


@pytest.mark.parametrize(("distance", "truth", "gaussian"), TWO_CLASSES)
@pytest.mark.parametrize("edges", ["equal", "quantile"])
def test_twenty_bins_lose_little_information(scored, distance, truth, gaussian, edges):
    values, labels = two_classes(distance)
    (score,) = scored(f"mutual_information(edges={edges})", values, labels)
    assert truth * 0.96 < score.item() <= truth


@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("estimator", ["average", "pixel"])
@pytest.mark.parametrize(("distance", "_truth", "gaussian"), TWO_CLASSES)
def test_gaussian_information_about_two_classes(
    scored, distance, _truth, gaussian, estimator, side
):
    assert 0.5 * math.log(1 + distance**2) == pytest.approx(gaussian, abs=1e-6)
    whole, parts = torch.tensor([1 + distance**2]).double(), torch.ones(1, 2).double()
    (before_clipping,) = gaussian_information(whole, parts, parts / 2)
    assert before_clipping.item() == pytest.approx(gaussian, abs=1e-6)
    values, labels = two_classes(distance)
    # Maps of one value have no differences between positions that an average could remove.
    maps = values[:, :, None, None].expand(-1, -1, side, side)
    (score,) = scored(f"mutual_information_gaussian(estimator={estimator})", maps, labels)
    assert score.item() == pytest.approx(min(gaussian, math.log(2)), abs=1e-4)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_information_if_the_channel_determines_the_label(scored, classes):
    labels = torch.arange(classes).repeat_interleave(1000)
    values = column(labels / classes + 0.3 / classes * grid(len(labels)))
    counts = histogram(values.T, labels, classes, bins=classes, zero_bin=True)
    assert information(counts, corrected=False).item() == pytest.approx(math.log(classes))
    # If each class has its own bin, the correction leaves an excess of (classes - 1) / 2N.
    (score,) = scored(f"mutual_information(bins={classes})", values, labels)
    bias = (classes - 1) / (2 * len(labels))
    assert score.item() == pytest.approx(math.log(classes) + bias, abs=1e-9)


@pytest.mark.parametrize(("classes", "limit"), [(10, 0.01242), (100, 0.1059)])
def test_information_if_the_label_is_independent_of_the_channel(classes, limit):
    # 300 channels of 10,000 images in 20 equally filled bins: 2 N I ~ chi2 with 19 (K - 1)
    # degrees of freedom, whose .9999 quantile is the limit.
    count, bins = 10_000, 20
    freedom = (bins - 1) * (classes - 1)
    assert scipy.stats.chi2.ppf(0.9999, freedom) / (2 * count) == pytest.approx(limit, rel=1e-3)
    labels = torch.arange(count) % classes
    values = torch.rand(300, count, dtype=torch.float64)
    counts = histogram(values, labels, classes, bins, edges="quantile")
    plug_in, corrected = information(counts, corrected=False), information(counts)
    if classes == 10:
        # A channel is above the limit with probability 1e-4; more than 1 of 300 with 4e-4.
        assert (plug_in > limit).sum() <= 1
        assert scipy.stats.kstest(2 * count * plug_in, "chi2", args=(freedom,)).pvalue > 1e-3
        assert corrected.max() <= 0.005
        assert corrected.mean() <= 0.001
    else:
        # With 5 images per cell the chi2 distribution is approximate: its mean is .0941, the real
        # mean is .0984. The correction over the pairs that occur subtracts .0933.
        assert plug_in.mean() == pytest.approx(0.0984, abs=0.001)
        assert (plug_in > limit).double().mean() <= 0.02
        assert corrected.mean() == pytest.approx(0.0051, abs=0.001)


CONSTANT_KNOWS_NOTHING = [
    "mutual_information_gaussian",
    "mutual_information_gaussian(estimator=pixel)",
    "fisher_ratio",
    "fisher_ratio(estimator=pixel)",
    "wmi_snr",
    "wmi_snr(estimator=average)",
    "wmi_snr(information=histogram)",
    "wmi_snr(information=gaussian, estimator=average)",
]


def test_a_constant_channel_has_no_information(scored):
    labels = torch.arange(60) % 3
    for value in (0.0, 0.3, 1e-30, 3e7):
        values = torch.full((60, 1, 4, 4), value)
        for choice in ("mutual_information", "mutual_information(estimator=pixel)"):
            assert scored(choice, values, labels).item() == 0
        assert scored("mutual_information(edges=quantile)", values, labels).item() == 0
        for choice in CONSTANT_KNOWS_NOTHING:
            assert scored(choice, values, labels).item() == 0


def test_rounding_errors_of_a_constant_have_no_information(scored):
    labels = torch.arange(60) % 3
    values = column(torch.where(labels == 1, 1.0000001, 1.0))
    for choice in ("mutual_information", *CONSTANT_KNOWS_NOTHING):
        assert scored(choice, values, labels).item() == 0
    assert scored("entropy_histogram", values, labels).item() == 0


def test_zero_activations_have_a_bin_of_their_own(scored):
    # The channel is zero for half of the images, exactly those of class 1. Without a bin of their
    # own, the zeros would share a bin with the smallest other values.
    labels = torch.arange(1000) % 2
    values = column(torch.where(labels == 1, 0, 1e-3 + 10 * grid(1000) ** 4))
    assert scored("mutual_information(bins=2)", values, labels).item() == pytest.approx(
        math.log(2), abs=2e-3
    )


def test_information_agrees_with_scikit_learn():
    generator = torch.Generator().manual_seed(3)
    for classes, bins in [(2, 3), (10, 20), (100, 5)]:
        labels = torch.randint(0, classes, (700,), generator=generator)
        values = torch.rand(4, 700, generator=generator, dtype=torch.float64) + labels / classes
        counts = histogram(values, labels, classes, bins)
        for channel, table in enumerate(counts):
            index = np.repeat(np.arange(bins + 1), table.sum(dim=1))
            of_class = np.concatenate([np.repeat(np.arange(classes), row) for row in table])
            expected = mutual_info_score(of_class, index)
            found = information(counts, corrected=False)[channel].item()
            assert found == pytest.approx(expected, abs=1e-12)


def test_miller_madow_is_the_sum_of_corrected_entropies():
    def corrected(counts):
        plain = scipy.stats.entropy(counts[counts > 0])
        return plain + ((counts > 0).sum() - 1) / (2 * counts.sum())

    generator = np.random.default_rng(0)
    table = generator.integers(0, 30, (6, 4))
    expected = corrected(table.sum(0)) + corrected(table.sum(1)) - corrected(table.reshape(-1))
    found = information(torch.from_numpy(table)[None]).item()
    assert found == pytest.approx(expected, abs=1e-12)


def test_entropy_agrees_with_scipy():
    counts = torch.randint(0, 50, (5, 12))
    counts[:, 3] = 0
    expected = scipy.stats.entropy(counts.numpy(), axis=1)
    np.testing.assert_allclose(entropy(counts), expected, rtol=1e-12)


def test_pixels_are_separate_observations(scored):
    # In `flat` the average has no information about the class, but single pixels have.
    labels = torch.tensor([0, 1]).repeat(500)
    values = torch.rand(1000, 2, 2, 2)
    values[labels == 1, 0, 0, 0] = values[labels == 1, 0, 0, 0] + 0.001
    flat = torch.full((1000, 1, 2, 2), 0.5)
    flat[labels == 1, 0] = torch.tensor([[0.1, 0.9], [0.9, 0.1]])
    assert scored("mutual_information", flat, labels).item() == 0
    assert scored("mutual_information(estimator=pixel)", flat, labels).item() == pytest.approx(
        math.log(2), abs=1e-3
    )
    table = histogram(
        values.double().permute(1, 0, 2, 3).flatten(1),
        labels.repeat_interleave(4),
        classes=2,
        bins=20,
        zero_bin=True,
    )
    expected = information(table)
    found = scored("mutual_information(estimator=pixel)", values, labels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


# Weights: [J, C, k, k] for the consumer and [C, C_in, k, k] for the producer.
CONSUMER = torch.tensor(
    [[[[3.0, 0], [0, 4]], [[1, 1], [1, 1]]], [[[0, 0], [0, 2]], [[1, 0], [0, 0]]]]
)
PRODUCER = torch.tensor([[0.0, 0], [3, 4], [0, 0]])[:, :, None, None]


@pytest.mark.parametrize(
    ("choice", "weights", "expected"),
    [
        ("output_l1", {"consumer_weight": CONSUMER}, [9, 5]),
        ("output_l2", {"consumer_weight": CONSUMER}, [math.sqrt(29), math.sqrt(5)]),
        ("input_l1", {"weight": PRODUCER}, [0, 7, 0]),
        ("input_l2", {"weight": PRODUCER}, [0, 5, 0]),
        ("fpgm", {"weight": PRODUCER}, [5, 10, 5]),
        ("bn_scale", {"weight": PRODUCER, "gamma": torch.tensor([-2.0, 0, 3])}, [2, 0, 3]),
        ("log_output_weight", {"consumer_weight": torch.full((5, 2, 3, 3), E**-2)}, [-2, -2]),
        (
            "log_output_weight",
            {"consumer_weight": torch.tensor([[E, -1.0]])[..., None, None]},
            [1, 0],
        ),
    ],
)
def test_metrics_of_weights(scored, choice, weights, expected):
    assert scored(choice, **weights).tolist() == pytest.approx(expected, abs=1e-6)


# Scale, shift, and the mean of a Gaussian with them that is cut off below 0.
RECTIFIED = [
    (1, 0, 0.398942),
    (-2, 0, 0.797885),
    (1, 1, 0.841345 + 0.241971),
    (1, -1, 0.241971 - 0.158655),
    (0, 0.7, 0.7),
    (0, -0.7, 0),
    (0, 0, 0),
    (1e-300, 1, 1),
    (1e-300, -1, 0),
    (0.01, -1, 0),
    (1, -40, 0),
]


@pytest.mark.parametrize(("gamma", "beta", "expected"), RECTIFIED)
def test_mean_of_a_rectified_gaussian(scored, gamma, beta, expected):
    norm = {"gamma": torch.tensor([gamma]).double(), "beta": torch.tensor([beta]).double()}
    (score,) = scored("relu_mean", weight=torch.ones(1, 1, 1, 1), **norm)
    assert score.item() == pytest.approx(expected, abs=2e-6)
    assert score >= 0


def test_relu_mean_is_the_integral_over_the_positive_part(scored):
    gamma, beta = 2 * torch.randn(20).double(), torch.randn(20).double()
    found = scored("relu_mean", weight=torch.ones(20, 1, 1, 1), gamma=gamma, beta=beta)
    for scale, shift, score in zip(gamma.abs().tolist(), beta.tolist(), found, strict=True):
        density = scipy.stats.norm(shift, scale).pdf
        top = max(0, shift) + 12 * scale
        expected, _ = scipy.integrate.quad(lambda z, p=density: z * p(z), 0, top, limit=200)
        assert score.item() == pytest.approx(expected, rel=1e-8)


def test_relu_mean_falls_with_the_shift_far_below_zero(scored):
    beta = -torch.linspace(0, 35, 200).double()
    ones = torch.ones_like(beta)
    found = scored("relu_mean", weight=ones.view(-1, 1, 1, 1), gamma=ones, beta=beta)
    assert (found.diff() < 0).all()
    assert found[-1] > 0


@pytest.mark.parametrize("name", ["bn_scale", "relu_mean"])
def test_a_metric_of_batch_normalisation_names_a_layer_without_it(scored, name):
    weight = torch.ones(2, 1, 1, 1)
    with pytest.raises(MetricError, match=f"'{name}': no batch normalisation follows stem"):
        scored(name, weight=weight, gamma=None, beta=None, name="stem")


def test_activations_times_weights_by_hand(scored):
    # Channel 0: 1, 3, 0, 0 (mean 1, mean square 2.5); channel 1: 2, 2, 2, 4 (2.5 and 7).
    values = torch.tensor([[[[1.0, 3]], [[2, 2]]], [[[0, 0]], [[2, 4]]]])
    power = scored("rms_times_output", values, consumer_weight=CONSUMER)
    assert power.tolist() == pytest.approx([math.sqrt(2.5) * 9, math.sqrt(7) * 5])
    variance = scored("variance_times_output", values, consumer_weight=CONSUMER)
    assert variance.tolist() == pytest.approx([1.5 * 29, 0.75 * 5])


def test_channel_scores_of_weights_and_activations_are_sums_over_weights(scored):
    """Wanda's |w| ||x||_2 and the change of each output, summed by loops over single weights."""
    values = torch.rand(30, 3, 2, 2) * torch.tensor([1.0, 2, 5])[:, None, None]
    consumer = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    x = values.double().numpy()
    norms = np.sqrt((x**2).sum(axis=(0, 2, 3)) / 120)
    wanda = [
        sum(abs(w) * norms[c] for j in consumer.tolist() for row in j[c] for w in row)
        for c in range(3)
    ]
    found = scored("rms_times_output", values, consumer_weight=consumer)
    assert found.tolist() == pytest.approx(wanda, rel=1e-9)
    # A weight times what it reads varies by w^2 Var x.
    fluctuation = [
        sum((w * x[:, c]).var() for j in consumer.tolist() for row in j[c] for w in row)
        for c in range(3)
    ]
    found = scored("variance_times_output", values, consumer_weight=consumer)
    assert found.tolist() == pytest.approx(fluctuation, rel=1e-9)


# Maps of one image, and the sum of their singular values.
NUCLEAR = [
    ([[3.0, 0], [0, 4]], 7),
    ([[1.0, 1], [1, 1]], 2),
    ([[0.0, 0], [0, 0]], 0),
    ([[3.0, 4, 0], [0, 0, 0]], 5),
    # Squared singular values 45 and 5.
    ([[3.0, 0], [4, 5]], math.sqrt(45) + math.sqrt(5)),
]


@pytest.mark.parametrize(("values", "expected"), NUCLEAR)
def test_nuclear_norms_by_hand(scored, values, expected):
    one = torch.tensor(values)[None, None]
    assert scored("nuclear", one).item() == pytest.approx(expected, abs=1e-5)
    # Beside an image whose map is 0, the mean is half.
    both = torch.cat([one, torch.zeros_like(one)])
    assert scored("nuclear", both).item() == pytest.approx(expected / 2, abs=1e-5)


@pytest.mark.parametrize(("distance", "_truth", "_gaussian"), TWO_CLASSES)
def test_fisher_ratio_of_two_classes(scored, distance, _truth, _gaussian):
    values, labels = two_classes(distance)
    expected = distance**2 / (1 + distance**2)
    for estimator in ("average", "pixel"):
        (score,) = scored(f"fisher_ratio(estimator={estimator})", values, labels)
        assert score.item() == pytest.approx(expected, abs=1e-4)


def test_fisher_ratio_agrees_with_the_analysis_of_variance(scored):
    labels = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2]).repeat(30)
    values = torch.randn(240, 5).double() + labels[:, None] * torch.tensor([0.0, 0.1, 0.3, 1, 4])
    found = scored("fisher_ratio", values, labels)
    freedom = (240 - 3) / (3 - 1)
    expected, _ = f_classif(values.float().double().numpy(), labels.numpy())
    np.testing.assert_allclose(found / (1 - found) * freedom, expected, rtol=1e-6)


def test_fisher_ratio_is_1_where_the_class_sets_the_value(scored):
    labels = torch.arange(60) % 3
    values = torch.stack([labels.float(), 5 - labels.float() ** 2], dim=1)
    assert scored("fisher_ratio", values, labels).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert scored("fisher_ratio", values, labels).max() <= 1


def test_weighted_mutual_information_with_equal_weights(scored):
    consumer = torch.full((5, 3, 3, 3), E**-2, dtype=torch.float64)
    logarithms = torch.full((3, 45), -2.0, dtype=torch.float64)
    assert summed(torch.ones(3), logarithms).tolist() == [-45] * 3
    values, labels = torch.rand(200, 3), torch.arange(200) % 4
    known = scored("mutual_information", values, labels)
    weighted = scored("weighted_mutual_information", values, labels, consumer_weight=consumer)
    torch.testing.assert_close(weighted, 45 * known - 90)


# Options of the weighted metrics, and the metric that gives their mutual information.
ESTIMATES = [
    ("", "mutual_information"),
    ("(estimator=pixel)", "mutual_information(estimator=pixel)"),
    ("(bins=7, edges=quantile)", "mutual_information(bins=7, edges=quantile)"),
    ("(information=gaussian)", "mutual_information_gaussian"),
    (
        "(information=gaussian, estimator=pixel)",
        "mutual_information_gaussian(estimator=pixel)",
    ),
]


# The same estimates as options of `wmi_snr`, whose default is another.
SNR = {
    "mutual_information": "wmi_snr(information=histogram, estimator=average)",
    "mutual_information(estimator=pixel)": "wmi_snr(information=histogram)",
    "mutual_information(bins=7, edges=quantile)": (
        "wmi_snr(information=histogram, estimator=average, bins=7, edges=quantile)"
    ),
    "mutual_information_gaussian": "wmi_snr(information=gaussian, estimator=average)",
    "mutual_information_gaussian(estimator=pixel)": "wmi_snr(information=gaussian)",
}


@pytest.mark.parametrize(("options", "estimate"), ESTIMATES)
def test_weighted_metrics_by_hand(scored, options, estimate):
    """Every weighted metric as nested loops over Python floats."""
    generator = torch.Generator().manual_seed(5)
    consumer = torch.randn(4, 3, 2, 2, generator=generator, dtype=torch.float64)
    consumer[0, 1] = 0  # replaced by the floor, 1e-3 of the median
    labels = torch.arange(300) % 3
    values = (
        torch.rand(300, 3, 2, 2, generator=generator) * torch.tensor([1.0, 2, 5])[:, None, None]
    )
    values += labels[:, None, None, None] * torch.tensor([0.0, 0.1, 3])[:, None, None]
    known = scored(estimate, values, labels).tolist()
    gaussian = scored("entropy_gaussian", values).tolist()
    x = values.double().numpy()
    variance = x.var(axis=(0, 2, 3))
    floor = 1e-3 * consumer.abs().median().item()
    v = consumer.tolist()
    flat = [[abs(w) for j in range(4) for row in v[j][c] for w in row] for c in range(3)]
    norms = [
        [math.sqrt(sum(w * w for row in v[j][c] for w in row)) for j in range(4)] for c in range(3)
    ]
    means = np.stack([x[labels == y].mean(axis=(0, 2, 3)) for y in range(3)])
    of_averages = x.mean(axis=(2, 3)).var(axis=0)
    explained = {  # classes are equally large
        "wmi_snr": means.var(axis=0) / variance,
        "wmi_snr(estimator=average)": means.var(axis=0) / of_averages,
        SNR[estimate]: [1 - math.exp(-2 * one) for one in known],
    }
    scale = [
        math.sqrt(sum(norms[c][j] ** 2 * variance[c] for c in range(3)) / (3 * 4)) for j in range(4)
    ]

    def noise(j, c):
        return sum(norms[o][j] ** 2 * variance[o] for o in range(3) if o != c)

    def snr(c, explained):
        total = 0.0
        for j in range(4):
            s = norms[c][j] ** 2 * variance[c] / noise(j, c)
            total += 0.5 * math.log((1 + s) / (1 + s * (1 - explained[c])))
        return total

    def log(weight):
        return math.log(max(weight, floor))

    shares = [
        [
            math.log(max(abs(w) * math.sqrt(variance[c]) / scale[j], 1e-3))
            for j in range(4)
            for row in v[j][c]
            for w in row
        ]
        for c in range(3)
    ]
    expected = {
        f"weighted_mutual_information{options}": [
            sum(known[c] + log(w) for w in flat[c]) for c in range(3)
        ],
        f"weighted_mutual_information_kernel{options}": [
            sum(known[c] + log(n) for n in norms[c]) for c in range(3)
        ],
        f"weighted_mutual_information_product{options}": [
            known[c] * sum(flat[c]) for c in range(3)
        ],
        "weighted_entropy": [sum(gaussian[c] + log(w) for w in flat[c]) for c in range(3)],
        "log_output_weight": [sum(log(w) for w in flat[c]) / 16 for c in range(3)],
        f"wmi_gauge_free{options}": [known[c] + sum(shares[c]) / 16 for c in range(3)],
    }
    for choice, fractions in explained.items():
        expected[choice] = [snr(c, fractions) for c in range(3)]
    for name, scores in expected.items():
        found = scored(name, values, labels, consumer_weight=consumer).tolist()
        assert found == pytest.approx(scores, rel=1e-9), name
    shuffled = scored(
        f"weighted_mutual_information_shuffled{options}", values, labels, consumer_weight=consumer
    )
    dealt = [(shuffled[c].item() - sum(log(w) for w in flat[c])) / 16 for c in range(3)]
    assert sorted(dealt) == pytest.approx(sorted(known), rel=1e-9)


def test_small_weights_are_replaced_by_the_floor(scored, answered):
    consumer = torch.tensor([[1e-9, 0.0, 0.5, 2.0]])[:, :, None, None]
    expected = math.log(1e-3 * 1e-9)  # the lower median of four
    assert scored("log_output_weight", consumer_weight=consumer)[1] == pytest.approx(expected)
    mostly_zero = torch.tensor([[0.0, 0, 0, 2.0]])[:, :, None, None]
    found = scored("log_output_weight", consumer_weight=mostly_zero)
    assert found.tolist() == pytest.approx([math.log(2e-3)] * 3 + [math.log(2)])
    found = scored("log_output_weight", consumer_weight=torch.zeros(2, 3, 1, 1))
    assert found.tolist() == pytest.approx([math.log(1e-3)] * 3)


def test_log_weights_are_by_channel():
    from prune_core.layer import LayerView

    consumer = torch.rand(5, 3, 2, 2, dtype=torch.float64) + 0.1
    ones = torch.ones(3, dtype=torch.float64)
    layer = LayerView(0, ones.view(3, 1, 1, 1), ones, ones, (consumer,))
    for channel in range(3):
        expected = consumer[:, channel].flatten().log()
        torch.testing.assert_close(log_weights(layer)[channel], expected)


def explicit_kse(consumer, neighbours, alpha):
    """The definition, by loops over kernels."""
    filters, channels = consumer.shape[:2]
    sparsity, entropies = [], []
    for channel in range(channels):
        kernels = [kernel.flatten() for kernel in consumer[:, channel]]
        sums = []
        for mine in range(filters):
            others = [math.dist(kernels[mine], kernels[o]) for o in range(filters) if o != mine]
            sums.append(sum(sorted(others)[:neighbours]))
        entropies.append(scipy.stats.entropy(sums))
        sparsity.append(consumer[:, channel].abs().sum().item())
    s, e = np.array(sparsity), np.array(entropies)
    s, e = (s - s.min()) / (s.max() - s.min()), (e - e.min()) / (e.max() - e.min())
    return np.sqrt(s / (1 + alpha * e))


@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize(("neighbours", "alpha"), [(5, 1.0), (1, 0.5), (50, 2.0), (5, 0.0)])
def test_kse_agrees_with_its_definition(scored, side, neighbours, alpha):
    consumer = torch.randn(9, 6, side, side, dtype=torch.float64)
    found = scored(f"kse(neighbours={neighbours}, alpha={alpha})", consumer_weight=consumer)
    np.testing.assert_allclose(found, explicit_kse(consumer, neighbours, alpha), rtol=1e-9)


def test_kse_of_kernels_that_are_all_alike(scored):
    alike = torch.ones(4, 3, 3, 3) * torch.tensor([1.0, 2, 3])[:, None, None]
    assert scored("kse", consumer_weight=alike).tolist() == pytest.approx([0, math.sqrt(0.5), 1])
    assert scored("kse", consumer_weight=torch.ones(1, 2, 3, 3)).tolist() == [1, 1]
    assert scored("kse", consumer_weight=torch.zeros(4, 1, 1, 1)).tolist() == [1]


def test_quantile_edges_fill_the_bins_equally_and_keep_ties_together():
    values = torch.randn(3, 1003, dtype=torch.float64).exp()
    values[1, ::3] = 0
    values[2, :500] = 1.5
    labels = torch.zeros(1003, dtype=torch.int64)
    counts = histogram(values, labels, 1, bins=10, zero_bin=True, edges="quantile")[..., 0]
    assert counts[0, 0] == 0
    assert counts[0, 1:].min() >= 100
    assert counts[0, 1:].max() <= 101
    assert counts[1, 0] == 335
    assert counts[1, 1:].max() - counts[1, 1:].min() <= 1
    assert counts[2].max() >= 500
    assert (counts.sum(dim=1) == 1003).all()
    counts = histogram(values[:1, :1000], labels[:1000], 1, bins=10, edges="quantile")
    assert counts[0, :, 0].tolist() == [0] + [100] * 10


def test_the_chunk_size_changes_no_count(monkeypatch):
    values, labels = torch.rand(7, 90, dtype=torch.float64), torch.arange(90) % 4
    values[3] = 0
    for edges in ("equal", "quantile"):
        whole = histogram(values, labels, 4, 6, True, edges)
        for chunk in (1, 200):
            monkeypatch.setattr("prune_core.statistics.histograms.CHUNK_VALUES", chunk)
            assert torch.equal(histogram(values, labels, 4, 6, True, edges), whole)
        monkeypatch.undo()


def test_histograms_of_averages_use_the_options_of_the_request(answered):
    values, labels = torch.rand(50, 2, 2, 2), torch.arange(50) % 2
    request = AverageHistogram(5, zero_bin=True, edges="quantile")
    found = answered(values, labels, 2, request)[request]["counts"]
    averages = values.double().mean(dim=(2, 3)).T
    assert torch.equal(found, histogram(averages, labels, 2, 5, True, "quantile"))
