"""How long a network takes: measured on the device that it lies on, never derived from its MACs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from prune_core.network import IMAGE_SIZE, INPUT_CHANNELS, SimpleNet
from prune_core.precision import full_precision

FEWEST_RUNS, MOST_RUNS = 5, 50
MOST_SECONDS = 0.3
MOST_WARM_UPS = 5
WARM_UP_SHARE = 0.1


@dataclass(frozen=True)
class Latency:
    """Inference time per image in milliseconds.

    Attributes
    ----------
    median_ms : of the runs.
    iqr_ms : their third quartile minus their first, interpolated linearly between runs.
    """

    median_ms: float
    iqr_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float], batch: int) -> Latency:
        """From the seconds that each run over `batch` images took."""
        first, median, third = np.quantile(np.asarray(seconds), (0.25, 0.5, 0.75)) * 1e3 / batch
        return cls(float(median), float(third - first))


def measure(net: SimpleNet, batch: int, seconds: float = MOST_SECONDS) -> Latency:
    """The time from a batch on the device to its logits there, per image.

    In eval mode, fp32 and channels last, as networks are evaluated, with as many threads as
    torch has now; reading and scaling of images is not part of it. Runs that warm up are not
    counted. Whatever else the machine does meanwhile is in the figure, and in its spread.

    Parameters
    ----------
    batch : images that go through the network at once.
    seconds : no run begins later than this, once there are `FEWEST_RUNS`; at most `MOST_RUNS`.
    """
    device = net.classifier.weight.device
    noise = torch.Generator().manual_seed(0)
    shape = (batch, INPUT_CHANNELS, IMAGE_SIZE, IMAGE_SIZE)
    images = torch.randn(shape, generator=noise).to(device, memory_format=torch.channels_last)
    training = net.training
    net.eval()

    def run() -> None:
        net(images)
        if device.type == "cuda":
            # A GPU is asked and does its work later.
            torch.cuda.synchronize(device)

    try:
        with torch.inference_mode(), full_precision():
            _timed(run, fewest=1, most=MOST_WARM_UPS, seconds=WARM_UP_SHARE * seconds)
            return Latency.of(_timed(run, FEWEST_RUNS, MOST_RUNS, seconds), batch)
    finally:
        net.train(training)


def seconds_to_measure(run: float) -> float:
    """How long `measure` takes where one run takes so many seconds."""

    def spent(fewest: int, most: int, seconds: float) -> float:
        return max(fewest * run, min(most * run, seconds))

    warm_up = spent(1, MOST_WARM_UPS, WARM_UP_SHARE * MOST_SECONDS)
    return warm_up + spent(FEWEST_RUNS, MOST_RUNS, MOST_SECONDS)


def _timed(run: Callable[[], None], fewest: int, most: int, seconds: float) -> list[float]:
    """The seconds of each run."""
    began = time.perf_counter()
    times: list[float] = []
    while len(times) < fewest or (len(times) < most and time.perf_counter() - began < seconds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times
