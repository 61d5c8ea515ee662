"""Small networks and images that behave like real ones, made in milliseconds."""

from collections.abc import Callable

import pytest
import torch

from prune_core.images import LabelledImages
from prune_core.layer import LayerView
from prune_core.metrics import METRICS, Choice
from prune_core.networks import Architecture, SimpleNet, SimpleNetArchitecture
from prune_core.preprocessing import Preprocessing
from prune_core.statistics import Answer, Maps, Request

SMALL = SimpleNetArchitecture((8, 6, 12, 9), (3, 3, 1, 3), (False, True, False, True), classes=4)


@pytest.fixture(autouse=True)
def _seeded():
    """Seeds every test; uses one thread, because small tensors gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small() -> Architecture:
    return SMALL


@pytest.fixture(scope="session")
def lived_in() -> Callable[..., SimpleNet]:
    """A network in eval mode whose batch normalisation is far from its initial state.

    Its running statistics are close to those of its own activations; otherwise the signal would
    vanish within 13 layers. With `kept` they are close to those of the network with only these
    channels.
    """

    def build(
        architecture: Architecture, seed: int = 0, kept: list[torch.Tensor] | None = None
    ) -> SimpleNet:
        generator = torch.Generator().manual_seed(seed)

        def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
            return torch.rand(like.shape, generator=generator) * (high - low) + low

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = SimpleNet(architecture)
        with torch.no_grad():
            for block in net.blocks:
                block.conv.bias.copy_(uniform(block.conv.bias, -0.3, 0.3))
                # A negative gamma is rare in a trained network, but nothing forbids it.
                block.bn.weight.copy_(uniform(block.bn.weight, -0.3, 1.7))
                block.bn.bias.copy_(uniform(block.bn.bias, -0.3, 0.7))
            net.classifier.bias.copy_(uniform(net.classifier.bias, -1, 1))
            net.eval()
            maps = torch.randn(8, 3, 32, 32, generator=generator)
            for index, block in enumerate(net.blocks):
                made = block.conv(maps)
                variance, mean = torch.var_mean(made, dim=(0, 2, 3))
                shift = uniform(mean, -0.3, 0.3) * variance.sqrt()
                block.bn.running_mean.copy_(mean + shift)
                block.bn.running_var.copy_(variance * uniform(variance, 0.5, 2) + 1e-3)
                maps = block(maps)
                if kept is not None:
                    mask = torch.zeros(maps.shape[1])
                    mask[kept[index]] = 1
                    maps = maps * mask[:, None, None]
        return net

    return build


@pytest.fixture(scope="session")
def feature_maps() -> Callable[[SimpleNet, torch.Tensor], list[torch.Tensor]]:
    """The maps that the consumer of each block of a SimpleNet reads, first block to last."""

    def walk(net: SimpleNet, images: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for block in net.blocks:
            images = block(images)
            maps.append(images)
        maps[-1] = maps[-1].amax(dim=(2, 3), keepdim=True)
        return maps

    return walk


@pytest.fixture(scope="session")
def coloured() -> Callable[..., LabelledImages]:
    """Noisy images whose label says which of red, green and blue are bright: easy to learn."""

    def build(count: int, classes: int = 4, seed: int = 0) -> LabelledImages:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, classes, (count,), generator=generator)
        labels[:classes] = torch.arange(classes)
        images = torch.randint(0, 120, (count, 3, 32, 32), generator=generator)
        images += 100 * (labels[:, None, None, None] >> torch.arange(3)[:, None, None] & 1)
        return LabelledImages(images.to(torch.uint8), labels)

    return build


@pytest.fixture(scope="session")
def scaling() -> Preprocessing:
    return Preprocessing((90.0, 85.0, 80.0), (60.0, 55.0, 50.0))


@pytest.fixture(scope="session")
def answered() -> Callable[..., dict[Request, Answer]]:
    """The statistics of made-up feature maps, [N, C, H, W] or [N, C]."""

    def build(values: torch.Tensor, labels: torch.Tensor, classes: int, *requests: Request):
        values = values.to(torch.float32)
        if values.ndim == 2:
            values = values[:, :, None, None]
        nowhere = torch.zeros(values.shape[1], dtype=torch.float64)
        origin = Maps(values, labels, nowhere).averages.mean(dim=0)
        answers = {}
        for request in requests:
            collector = request.collector(classes)
            if hasattr(collector, "preview"):
                collector.preview(Maps(values, labels, nowhere))
            collector.update(Maps(values, labels, origin))
            answers[request] = collector.finish()
        return answers

    return build


@pytest.fixture(scope="session")
def scored(answered) -> Callable[..., torch.Tensor]:
    """A metric's scores [C] for made-up feature maps, weights or both."""

    def build(choice: str, values=None, labels=None, weight=None, consumer_weight=None, **given):
        wanted = Choice.parse(choice)
        channels = next(x for x in (values, weight, consumer_weight) if x is not None)
        channels = channels.shape[0 if channels is weight and values is None else 1]
        if labels is None and values is not None:
            labels = torch.zeros(len(values), dtype=torch.int64)
        answers = {}
        if wanted.needs():
            classes = max(2, int(labels.max()) + 1)
            answers = answered(values, labels, classes, *wanted.needs())
        ones = torch.ones(channels, dtype=torch.float64)
        if weight is None:
            weight = ones.view(-1, 1, 1, 1)
        if consumer_weight is None:
            consumer_weight = ones.view(1, -1, 1, 1)
        fields = {"index": 0, "gamma": ones, "beta": ones, **given}
        layer = LayerView(
            weight=weight.double(),
            consumer_weights=(consumer_weight.double(),),
            answers=answers,
            **fields,
        )
        (scores,) = wanted([layer])
        return scores

    return build


@pytest.fixture
def registry():
    """The registry of metrics, restored afterwards, so that a test may register its own."""
    before = dict(METRICS)
    yield METRICS
    METRICS.clear()
    METRICS.update(before)
