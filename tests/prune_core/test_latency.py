"""Latency of the network as it is evaluated; measuring does not change the network."""

import pytest
import torch

from prune_core import latency
from prune_core.latency import FEWEST_RUNS, MOST_RUNS, Latency, measure, seconds_to_measure
from prune_core.networks import SimpleNet

SIZE = (32, 32)


@pytest.mark.parametrize(
    ("seconds", "batch", "median", "iqr"),
    [
        ([0.004], 1, 4, 0),
        ([0.001, 0.002, 0.003, 0.004, 0.005], 1, 3, 2),
        ([0.005, 0.001, 0.004, 0.002, 0.003], 1, 3, 2),
        # Quartiles between runs: 1.75 and 3.25.
        ([0.001, 0.002, 0.003, 0.004], 1, 2.5, 1.5),
        ([0.256, 0.512, 0.768], 256, 2, 1),
        # One slow run changes neither the median nor the range.
        ([0.001, 0.001, 0.001, 0.001, 9.0], 1, 1, 0),
    ],
)
def test_median_and_quartiles_are_per_image_in_milliseconds(seconds, batch, median, iqr):
    found = Latency.of(seconds, batch)
    assert (found.median_ms, found.iqr_ms) == (pytest.approx(median), pytest.approx(iqr))


@pytest.fixture
def seen(small, lived_in):
    """A network, and a record of each of its forward passes."""
    net, runs = lived_in(small), []

    def look(module, inputs, output):
        (images,) = inputs
        runs.append(
            {
                "shape": tuple(images.shape),
                "type": images.dtype,
                "channels last": images.is_contiguous(memory_format=torch.channels_last),
                "training": module.training,
                "inference": torch.is_inference_mode_enabled(),
                "autocast": torch.is_autocast_enabled("cpu"),
            }
        )

    net.register_forward_hook(look)
    return net, runs


@pytest.mark.parametrize(("batch", "size"), [(1, SIZE), (3, SIZE), (2, (24, 40))])
def test_the_network_runs_as_it_is_evaluated(seen, batch, size):
    net, runs = seen
    found = measure(net, batch, size)
    assert found.median_ms > 0
    assert found.iqr_ms >= 0
    expected = {
        "shape": (batch, 3, *size),
        "type": torch.float32,
        "channels last": True,
        "training": False,
        "inference": True,
        "autocast": False,
    }
    assert all(run == expected for run in runs)


def test_an_outer_autocast_changes_nothing(seen):
    net, runs = seen
    with torch.autocast("cpu", torch.bfloat16):
        measure(net, 1, SIZE, seconds=0)
    assert not any(run["autocast"] for run in runs)


def test_the_number_of_runs_has_a_minimum_and_a_maximum(seen):
    net, runs = seen
    measure(net, 1, SIZE, seconds=0)
    assert len(runs) == 1 + FEWEST_RUNS
    runs.clear()
    measure(net, 1, SIZE, seconds=3600)
    assert len(runs) == 5 + MOST_RUNS


@pytest.mark.parametrize("training", [True, False])
def test_measuring_changes_neither_network_nor_generator(small, lived_in, training):
    net = lived_in(small).train(training)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    generator = torch.get_rng_state()
    measure(net, 2, SIZE, seconds=0)
    assert net.training == training
    assert torch.equal(torch.get_rng_state(), generator)
    after = net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("seconds", [0.0001, 0.004, 0.02, 0.05, 0.2, 3.0])
def test_the_time_of_a_measurement_is_known_before(seconds, small, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock[0])

    class Slow(SimpleNet):
        def forward(self, images):
            clock[0] += seconds
            return images

    measure(Slow(small), 1, SIZE)
    # Each of its two parts may end one run later, or earlier, than the limit.
    assert clock[0] == pytest.approx(seconds_to_measure(seconds), abs=2 * seconds)
