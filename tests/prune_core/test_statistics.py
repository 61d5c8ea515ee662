import copy
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from prune_core.images import LabelledImages
from prune_core.networks import Architecture
from prune_core.statistics import (
    AverageClassMoments,
    AverageHistogram,
    AverageMoments,
    ClassMoments,
    Covariance,
    FilterGradientProduct,
    FilterGradientSquares,
    GradientProduct,
    Maps,
    Moments,
    NuclearChange,
    PixelHistogram,
    PositionEntropy,
    Rank,
    SecondMoments,
    StatisticsError,
    SynapticFlow,
    ZeroFraction,
    collect,
    histogram,
)
from prune_core.statistics.collect import BLOCKS
from prune_core.statistics.independence import nuclear_changes

BLOCK = BLOCKS["cpu"]

EVERYTHING = [
    Moments(),
    ClassMoments(),
    AverageMoments(),
    AverageClassMoments(),
    ZeroFraction(),
    AverageHistogram(20),
    AverageHistogram(20, zero_bin=True),
    AverageHistogram(7, zero_bin=True, edges="quantile"),
    PixelHistogram(16, zero_bin=True),
    GradientProduct(),
    FilterGradientProduct(),
    FilterGradientSquares(),
    Covariance(),
    NuclearChange(),
    PositionEntropy(),
    SecondMoments(7),
    SynapticFlow(),
    Rank(),
]
# These do not see feature maps that are infinite: the flow has its own, in float64.
DIVERGING = EVERYTHING[:-2]


def same(one, other, relative=0.0):
    """Whether two answers of `collect` agree: counts exactly, numbers to a relative error."""
    for layer, (a, b) in enumerate(zip(one, other, strict=True)):
        for request in b:
            for name, tensor in a[request].items():
                scale = tensor.abs().max().item() if tensor.is_floating_point() else 0
                torch.testing.assert_close(
                    b[request][name],
                    tensor,
                    rtol=relative,
                    atol=relative * scale,
                    msg=lambda text, layer=layer, request=request: f"{layer} {request}: {text}",
                )


@pytest.fixture(scope="module")
def net(small, lived_in):
    net = lived_in(small)
    with torch.no_grad():  # one channel that never fires and one that never changes
        net.blocks[1].bn.weight[2] = 0
        net.blocks[1].bn.bias[2] = -1
        net.blocks[2].bn.weight[3] = 0
        net.blocks[2].bn.bias[3] = 1.7
    return net


@pytest.fixture(scope="module")
def images(coloured):
    return coloured(4 * BLOCK + 21)


@pytest.fixture(scope="module")
def maps(net, images, scaling, feature_maps):
    """Every layer's feature maps of all images, by running the network in the same blocks."""
    with torch.no_grad():
        padded = torch.cat([images.images, images.images[: -len(images) % BLOCK]])
        blocks = [feature_maps(net, scaling(part)) for part in padded.split(BLOCK)]
    return [torch.cat(parts)[: len(images)].double().numpy() for parts in zip(*blocks, strict=True)]


@pytest.fixture(scope="module")
def answers(net, images, scaling):
    torch.set_num_threads(1)
    return collect(net, images, scaling, EVERYTHING)


def test_moments_agree_with_numpy(answers, maps, images):
    labels = images.labels.numpy()
    for layer, values in enumerate(maps):
        found = answers[layer][Moments()]
        np.testing.assert_allclose(found["mean"], values.mean(axis=(0, 2, 3)), rtol=1e-12)
        variance = values.var(axis=(0, 2, 3))
        np.testing.assert_allclose(found["variance"], variance, rtol=1e-11, atol=1e-14)
        found = answers[layer][ClassMoments()]
        for label in range(4):
            mine = values[labels == label]
            count = mine.shape[0] * mine.shape[2] * mine.shape[3]
            assert (found["count"][:, label] == count).all()
            np.testing.assert_allclose(
                found["mean"][:, label], mine.mean(axis=(0, 2, 3)), rtol=1e-11, atol=1e-14
            )
            np.testing.assert_allclose(
                found["variance"][:, label], mine.var(axis=(0, 2, 3)), rtol=1e-11, atol=1e-14
            )


def test_moments_of_averages_agree_with_numpy(answers, maps, images):
    labels = images.labels.numpy()
    for layer, values in enumerate(maps):
        averages = values.mean(axis=(2, 3))
        found, classes = answers[layer][AverageMoments()], answers[layer][AverageClassMoments()]
        np.testing.assert_allclose(found["mean"], averages.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found["variance"], averages.var(axis=0), rtol=1e-11, atol=1e-14)
        for label in range(4):
            mine = averages[labels == label]
            assert (classes["count"][:, label] == len(mine)).all()
            for name, expected in (("mean", mine.mean(axis=0)), ("variance", mine.var(axis=0))):
                np.testing.assert_allclose(
                    classes[name][:, label], expected, rtol=1e-11, atol=1e-14
                )


def test_averages_vary_less_than_positions_and_as_much_if_there_is_one(answers):
    for layer in answers:
        assert (layer[AverageMoments()]["variance"] <= layer[Moments()]["variance"]).all()
    assert (answers[0][AverageMoments()]["variance"] < answers[0][Moments()]["variance"]).all()
    # The last layer is pooled to one position.
    for one, other in ((AverageMoments(), Moments()), (AverageClassMoments(), ClassMoments())):
        for name, tensor in answers[-1][one].items():
            assert torch.equal(tensor, answers[-1][other][name])


def test_a_constant_channel_has_no_variance_at_all(answers):
    assert answers[1][Moments()]["mean"][2] == 0
    assert answers[1][Moments()]["variance"][2] == 0
    assert answers[2][Moments()]["mean"][3] == pytest.approx(1.7)
    assert answers[2][Moments()]["variance"][3] == 0
    assert not answers[2][ClassMoments()]["variance"][3].any()
    for layer, channel in ((1, 2), (2, 3)):
        assert answers[layer][AverageMoments()]["variance"][channel] == 0
        assert not answers[layer][AverageClassMoments()]["variance"][channel].any()


def test_zero_fractions_agree_with_numpy(answers, maps):
    for layer, values in enumerate(maps):
        expected = (values == 0).mean(axis=(0, 2, 3))
        np.testing.assert_allclose(answers[layer][ZeroFraction()]["fraction"], expected, rtol=1e-14)
    assert answers[1][ZeroFraction()]["fraction"][2] == 1
    assert any(0.1 < f < 0.9 for f in answers[0][ZeroFraction()]["fraction"])


def plain_histogram(values, labels, bins):
    """The histogram of one channel by NumPy, with a bin for zeros, by class."""
    counts = np.zeros((bins + 1, 4), dtype=np.int64)
    rest = values != 0
    np.add.at(counts, (0, labels[~rest]), 1)
    if rest.any():
        low, high = values[rest].min(), values[rest].max()
        if high - low <= 1e-6 * high:
            high = np.inf
        edges = np.linspace(low, high, bins + 1)[1:-1] if high < np.inf else []
        index = np.searchsorted(edges, values[rest], side="right")
        np.add.at(counts, (index + 1, labels[rest]), 1)
    return counts


def test_histograms_of_averages_agree_with_numpy(answers, maps, images):
    labels = images.labels.numpy()
    for layer, values in enumerate(maps):
        averages = values.mean(axis=(2, 3))
        with_zero = answers[layer][AverageHistogram(20, zero_bin=True)]["counts"].numpy()
        plain = answers[layer][AverageHistogram(20)]["counts"].numpy()
        assert not plain[:, 0].any()
        for channel in range(values.shape[1]):
            mine = averages[:, channel]
            np.testing.assert_array_equal(with_zero[channel], plain_histogram(mine, labels, 20))
            low, high = mine.min(), mine.max()
            if high - low > 1e-6 * high:
                expected = np.histogram(mine, bins=20, range=(low, high))[0]
                np.testing.assert_array_equal(plain[channel, 1:].sum(axis=1), expected)


def test_histograms_of_pixels_agree_with_numpy(answers, maps, images):
    for layer, values in enumerate(maps):
        counts = answers[layer][PixelHistogram(16, zero_bin=True)]["counts"].numpy()
        labels = np.repeat(images.labels.numpy(), values.shape[2] * values.shape[3])
        for channel in range(values.shape[1]):
            mine = values[:, channel].reshape(-1)
            np.testing.assert_array_equal(counts[channel], plain_histogram(mine, labels, 16))


def test_ranks_agree_with_numpy(answers, maps):
    for layer, values in enumerate(maps):
        ranks = np.linalg.matrix_rank(values.astype(np.float32))
        expected = ranks.mean(axis=0)
        # A singular value at the threshold may fall on either side in another library.
        np.testing.assert_allclose(answers[layer][Rank()]["rank"], expected, atol=0.05)
    assert answers[1][Rank()]["rank"][2] == 0
    assert answers[2][Rank()]["rank"][3] == 1
    assert answers[0][Rank()]["rank"].max() > 10


def test_covariances_agree_with_numpy(answers, maps):
    for layer, values in enumerate(maps):
        rows = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        found = answers[layer][Covariance()]
        np.testing.assert_allclose(
            found["covariance"], np.cov(rows, bias=True), rtol=1e-10, atol=1e-12
        )
        np.testing.assert_allclose(found["mean"], rows.mean(axis=1), rtol=1e-12)
        variance = answers[layer][Moments()]["variance"]
        torch.testing.assert_close(found["covariance"].diagonal(), variance, rtol=1e-10, atol=0)
    for layer, channel in ((1, 2), (2, 3)):  # one that never fires and one that never changes
        assert not answers[layer][Covariance()]["covariance"][channel].any()
        assert not answers[layer][Covariance()]["covariance"][:, channel].any()


def test_covariances_about_large_means_are_precise(answered):
    values = 4096 + torch.randn(500, 3, 4, 4) * torch.tensor([0.25, 1.0, 3.0])[:, None, None]
    labels = torch.zeros(500, dtype=torch.int64)
    found = answered(values, labels, 2, Covariance())[Covariance()]["covariance"]
    expected = np.cov(values.double().transpose(0, 1).flatten(1).numpy(), bias=True)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_nuclear_changes_agree_with_numpy(answers, maps):
    for layer, values in enumerate(maps):
        found = answers[layer][NuclearChange()]["change"]
        few = values[::8]  # each takes C decompositions
        mean = np.mean([changes_by_removal(image.reshape(len(image), -1)) for image in few], axis=0)
        close = NuclearChange().collector(4)
        close.update(Maps(torch.tensor(few).float(), torch.zeros(len(few)), torch.zeros(1)))
        np.testing.assert_allclose(close.finish()["change"], mean, rtol=1e-9, atol=1e-12)
        # Over all images it is near.
        np.testing.assert_allclose(found, mean, rtol=0.3, atol=1e-6)
    assert answers[1][NuclearChange()]["change"][2] == 0


def changes_by_removal(matrix):
    whole = np.linalg.norm(matrix, "nuc")
    return [
        whole - np.linalg.norm(np.delete(matrix, row, axis=0), "nuc") for row in range(len(matrix))
    ]


@pytest.mark.parametrize(
    "matrix",
    [
        torch.randn(6, 40),
        torch.randn(40, 6),
        torch.randn(9, 9),
        torch.randn(20, 3) @ torch.randn(3, 30),  # of rank 3
        torch.randn(5, 30)[[0, 1, 2, 2, 2, 3, 3, 4]],  # equal rows
        torch.randn(12, 1),
        torch.randn(1, 7),
        torch.eye(5) * 10.0 ** torch.arange(-6, 4, 2)[:, None],  # of very different sizes
        torch.randn(8, 8).tril(-4),  # rows of zeros, and fewer dimensions
        1e20 * torch.randn(7, 12).relu(),
        torch.zeros(4, 6),
    ],
    ids=lambda matrix: "x".join(map(str, matrix.shape)),
)
def test_nuclear_changes_of_matrices_of_every_kind(matrix):
    matrix = matrix.double()
    found = nuclear_changes(matrix[None])[0]
    scale = float(torch.linalg.svdvals(matrix).max())
    expected = changes_by_removal(matrix.numpy())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * scale)
    if len(matrix) <= matrix.shape[1]:
        full = torch.linalg.matrix_rank(matrix) == len(matrix)
        np.testing.assert_allclose(
            found,
            changes_by_removal(matrix.numpy()),
            rtol=0,
            atol=(1e-13 if full else 1e-8) * scale,
        )
    assert (found >= 0).all()
    assert not found[(matrix == 0).all(dim=1)].any()


def test_orthogonal_rows_are_worth_their_length():
    found = nuclear_changes(torch.diag(torch.tensor([3.0, 0.5, 2.0]).double())[None])[0]
    assert found.tolist() == pytest.approx([3, 0.5, 2], rel=1e-14)
    # Of two equal rows of length 1, one makes up for all but sqrt(2) - 1 of the other.
    found = nuclear_changes(torch.tensor([[[1.0, 0], [1, 0]]]).double())[0]
    assert found.tolist() == pytest.approx([math.sqrt(2) - 1] * 2, rel=1e-7)


@pytest.mark.parametrize("of", ["squared_deviation", "value"])
def test_position_entropies_agree_with_scipy(net, images, maps, scaling, of):
    request = PositionEntropy(of)
    for layer, values in zip(collect(net, images, scaling, [request]), maps, strict=True):
        rows = values.reshape(*values.shape[:2], -1)
        if of == "squared_deviation":
            rows = (rows - rows.mean(axis=2, keepdims=True)) ** 2
        expected = scipy.stats.entropy(scipy.special.softmax(rows, axis=2), axis=2).mean(axis=0)
        found = layer[request]["entropy"]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
        # A flat map has the highest entropy.
        assert found.max() <= math.log(rows.shape[2]) + 1e-12
    flat = math.log(32 * 32 / 4)
    assert collect(net, images, scaling, [request])[2][request]["entropy"][3] == pytest.approx(flat)


def test_gradient_products_are_derivatives_of_a_gate(answers, net, images, scaling):
    """The sum of activation x gradient is the derivative of the loss by a factor on the channel."""
    layer, step = 1, 1e-3
    few = LabelledImages(images.images[:12], images.labels[:12])
    (found,) = [collect(net, few, scaling, [GradientProduct()])[layer][GradientProduct()]["square"]]
    exact = copy.deepcopy(net).double()
    pixels = scaling(few.images).double()

    def losses(channel, factor):
        def gate(_module, _inputs, output):
            scale = torch.ones(output.shape[1], dtype=torch.float64)
            scale[channel] = factor
            return output * scale[:, None, None]

        hook = exact.blocks[layer].register_forward_hook(gate)
        with torch.no_grad():
            logits = exact(pixels)
        hook.remove()
        return torch.nn.functional.cross_entropy(logits, few.labels, reduction="none")

    for channel in range(len(found)):
        slope = (losses(channel, 1 + step) - losses(channel, 1 - step)) / (2 * step)
        assert found[channel] == pytest.approx(float(slope.square().mean()), rel=2e-2, abs=1e-9)
    assert found[2] == 0  # it never fires
    assert found.max() > 1e-4


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_the_batch_size_changes_no_statistic(answers, net, images, scaling, batch):
    same(answers, collect(net, images, scaling, EVERYTHING, batch=batch))


def test_the_batch_size_changes_no_statistic_of_a_full_size_network(lived_in, coloured, scaling):
    net = lived_in(Architecture.named("simplenet_310k", 10))
    images, requests = coloured(140, 10), EVERYTHING[:8]
    expected = collect(net, images, scaling, requests)
    for batch in (1, 7, 256):
        same(expected, collect(net, images, scaling, requests, batch=batch))


def test_the_order_of_images_changes_no_statistic(net, images, scaling):
    """Shuffled images are in other blocks and positions, which changes rounding errors only."""
    order = torch.randperm(len(images))
    shuffled = LabelledImages(images.images[order], images.labels[order])
    averages = [AverageMoments(), AverageClassMoments(), AverageHistogram(20, zero_bin=True)]
    requests = [Moments(), *averages, ZeroFraction(), Rank()]
    expected = collect(net, images, scaling, requests)
    same(expected, collect(net, shuffled, scaling, requests), relative=1e-10)
    # The backward pass also sums products over images, in the order of their positions.
    expected = collect(net, images, scaling, [GradientProduct()])
    same(expected, collect(net, shuffled, scaling, [GradientProduct()]), relative=1e-6)


def test_a_single_image_has_the_same_statistics_as_in_a_batch(lived_in, coloured, scaling):
    # A convolution of one image would sum in another order than that of a batch.
    net = lived_in(Architecture.named("simplenet_310k", 10))
    images = LabelledImages(coloured(40).images, torch.ones(40, dtype=torch.int64))
    images.labels[0] = 0
    alone = collect(net, images.first(1), scaling, [Moments()])
    company = collect(net, images, scaling, [ClassMoments()])
    for one, many in zip(alone, company, strict=True):
        expected = many[ClassMoments()]["mean"][:, 0]
        torch.testing.assert_close(one[Moments()]["mean"], expected, rtol=1e-12, atol=1e-14)


def test_a_statistic_does_not_depend_on_other_requests(answers, net, images, scaling):
    for request in EVERYTHING:
        alone = collect(net, images, scaling, [request, request])
        assert all(list(layer) == [request] for layer in alone)
        same(answers, alone)


def test_an_outer_autocast_changes_nothing(answers, net, images, scaling):
    with torch.autocast("cpu", torch.bfloat16):
        same(answers, collect(net, images, scaling, EVERYTHING))


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_not_changed(net, images, scaling, training):
    mine = copy.deepcopy(net).train(training)
    for parameter in mine.parameters():
        parameter.requires_grad_(False)
    before, state = copy.deepcopy(mine.state_dict()), torch.get_rng_state()
    found = collect(mine, images, scaling, EVERYTHING)
    assert mine.training is training
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in mine.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in mine.parameters())
    for layer in found:
        for answer in layer.values():
            assert all(t.is_contiguous() and not t.is_inference() for t in answer.values())


def test_a_small_variance_around_a_large_mean_is_precise(answered):
    # A plain sum of squares in float64 would leave 3 digits of this variance.
    noise = torch.randn(4096, 2, 4, 4)
    values = 4096 + noise * 0.25
    labels = torch.arange(4096) % 3
    found = answered(values, labels, 3, Moments(), ClassMoments())
    exact = values.double().numpy()
    np.testing.assert_allclose(found[Moments()]["variance"], exact.var(axis=(0, 2, 3)), rtol=1e-10)
    np.testing.assert_allclose(
        found[ClassMoments()]["variance"][:, 1], exact[labels == 1].var(axis=(0, 2, 3)), rtol=1e-7
    )
    found = answered(values, labels, 3, AverageMoments(), AverageClassMoments())
    averages = exact.mean(axis=(2, 3))
    np.testing.assert_allclose(found[AverageMoments()]["variance"], averages.var(axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        found[AverageClassMoments()]["variance"][:, 1], averages[labels == 1].var(axis=0), rtol=1e-7
    )


def test_a_class_without_images_has_zeros(answered):
    values, labels = torch.rand(6, 2, 1, 3), torch.tensor([0, 0, 2, 2, 2, 2])
    for request, counts in ((ClassMoments(), [6, 0, 12, 0]), (AverageClassMoments(), [2, 0, 4, 0])):
        found = answered(values, labels, 4, request)[request]
        assert found["count"].tolist() == [counts] * 2
        assert not found["mean"][:, [1, 3]].any()
        assert not found["variance"][:, [1, 3]].any()


def test_no_images_raise_an_error(net, images, scaling):
    with pytest.raises(StatisticsError, match="no images"):
        collect(net, LabelledImages(images.images[:0], images.labels[:0]), scaling, EVERYTHING)


@pytest.mark.parametrize("request_", DIVERGING, ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_diverged_network_raises_an_error(net, images, scaling, request_, bad):
    broken, overflowing = copy.deepcopy(net), copy.deepcopy(net)
    with torch.no_grad():
        broken.blocks[0].bn.bias[1] = bad
        for block in overflowing.blocks:
            block.bn.weight.fill_(3e38)
        overflowing.classifier.weight.mul_(1e38)
    with pytest.raises(StatisticsError, match="diverged"):
        collect(broken, images.first(20), scaling, [request_])
    if request_ != ZeroFraction():
        with pytest.raises(StatisticsError, match="diverged"):
            collect(overflowing, images.first(20), scaling, [request_])


def test_the_network_alone_needs_no_images(answers, net, images, scaling):
    none = LabelledImages(images.images[:0], images.labels[:0])
    same(answers, collect(net, none, scaling, [SynapticFlow()]))
    with pytest.raises(StatisticsError, match="no images"):
        collect(net, none, scaling, [])


def test_no_requests_give_no_statistics(net, images, scaling):
    assert collect(net, images, scaling, []) == [{}, {}, {}, {}]


def random_maps(kind, images=60):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(images, 6, 4, 8, generator=generator)
    return {
        "rectified": values.relu(),
        "mixed": values,
        "negative": values.sub(1).clamp(max=0),
        "positive": values.relu() + 3 * (values > 0),
        "some never fire": values.relu() * torch.tensor([0, 1, 0, 1, 1, 0])[:, None, None],
        "some change by less than rounding": values.relu().sign() * 2.5,
        "a single value": values.relu() * (values == values.amax(dim=(0, 2, 3), keepdim=True)),
        "small": 1e-30 * values.relu(),
        "of very different sizes": values.relu() ** 9,
        "whole numbers": values.relu().mul(7).floor(),
        "at one position": values.relu()[:, :, :1, :1],
        "larger than a slice": values.relu().repeat(1, 1, 90, 70)[:3],
    }[kind]


@pytest.mark.parametrize("zero_bin", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        "rectified",
        "mixed",
        "negative",
        "positive",
        "some never fire",
        "some change by less than rounding",
        "a single value",
        "small",
        "of very different sizes",
        "whole numbers",
        "at one position",
        "larger than a slice",
    ],
)
def test_pixels_are_counted_as_values_that_are_all_known(answered, kind, zero_bin):
    values = random_maps(kind).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(len(values)) % 3
    found = answered(values, labels, 3, PixelHistogram(10, zero_bin))
    positions = values.shape[2] * values.shape[3]
    expected = histogram(
        values.double().transpose(0, 1).flatten(1),
        labels.repeat_interleave(positions),
        3,
        10,
        zero_bin,
    )
    assert torch.equal(found[PixelHistogram(10, zero_bin)]["counts"], expected)
