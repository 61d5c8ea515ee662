"""Inference latency of a network, measured on its device and not derived from MACs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from prune_core.networks import INPUT_CHANNELS, device_of
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
    median_ms : median over the runs.
    iqr_ms : interquartile range over the runs, with linear interpolation.
    """

    median_ms: float
    iqr_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float], batch: int) -> Latency:
        """Computes median and IQR from the seconds of each run over `batch` images."""
        first, median, third = np.quantile(np.asarray(seconds), (0.25, 0.5, 0.75)) * 1e3 / batch
        return cls(float(median), float(third - first))


def measure(
    net: nn.Module, batch: int, image_size: tuple[int, int], seconds: float = MOST_SECONDS
) -> Latency:
    """Measures the time per image of a forward pass, from a batch on the device to its logits.

    The network runs in eval mode, fp32 and channels last, as in evaluation, with the current
    number of torch threads. Reading and scaling of images are not included, and warm-up runs are
    not counted. Other load on the machine affects the median and the IQR.

    Parameters
    ----------
    batch : images per forward pass.
    image_size : height and width of the images in pixels.
    seconds : after `FEWEST_RUNS`, no run starts later than this. There are at most `MOST_RUNS`.
    """
    device = device_of(net)
    noise = torch.Generator().manual_seed(0)
    shape = (batch, INPUT_CHANNELS, *image_size)
    images = torch.randn(shape, generator=noise).to(device, memory_format=torch.channels_last)
    training = net.training
    net.eval()

    def run() -> None:
        net(images)
        if device.type == "cuda":
            # A GPU works asynchronously.
            torch.cuda.synchronize(device)

    try:
        with torch.inference_mode(), full_precision():
            _timed(run, fewest=1, most=MOST_WARM_UPS, seconds=WARM_UP_SHARE * seconds)
            return Latency.of(_timed(run, FEWEST_RUNS, MOST_RUNS, seconds), batch)
    finally:
        net.train(training)


def seconds_to_measure(run: float) -> float:
    """Seconds that `measure` takes if one forward pass takes `run` seconds."""

    def spent(fewest: int, most: int, seconds: float) -> float:
        return max(fewest * run, min(most * run, seconds))

    warm_up = spent(1, MOST_WARM_UPS, WARM_UP_SHARE * MOST_SECONDS)
    return warm_up + spent(FEWEST_RUNS, MOST_RUNS, MOST_SECONDS)


def _timed(run: Callable[[], None], fewest: int, most: int, seconds: float) -> list[float]:
    """Calls `run` several times; returns the seconds of each call."""
    began = time.perf_counter()
    times: list[float] = []
    while len(times) < fewest or (len(times) < most and time.perf_counter() - began < seconds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times
