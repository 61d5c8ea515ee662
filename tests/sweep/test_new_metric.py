"""Adding a metric is one function: it is then in the vocabulary of specs, and in the results."""

import io
from pathlib import Path

import torch
from rich.console import Console

import results
from prune_core.layer import LayerView
from prune_core.metrics import METRICS, metric
from prune_core.statistics import Moments
from sweep.commands.run import run
from sweep.spec.parsing import parse

SPEC = """
name: new
datasets: [digits]
network: {variant: simplenet_310k, width: 0.1}
recipe: {epochs: 1, batch_size: 256}
finetune: {epochs: 0}
metrics: [peakedness, peakedness(power=2)]
ratios: [0.5]
"""


def test_a_metric_of_ten_lines_goes_through_a_sweep(tmp_path: Path) -> None:
    try:

        @metric(source="a test", needs=lambda power: frozenset({Moments()}), nonnegative=True)
        def peakedness(layer: LayerView, *, power: int = 1) -> torch.Tensor:
            """Variance of the channel to a power."""
            return layer.variance**power

        spec = parse(SPEC, "new.yaml")
        assert run(
            spec, tmp_path / "runs", None, "serial", frozenset(), Console(file=io.StringIO())
        )
    finally:
        METRICS.pop("peakedness", None)
    frame = results.load(tmp_path / "runs")
    assert set(frame["metric"]) == {"peakedness", "peakedness(power=2)"}
    assert set(frame["status"]) == {"ok"}
    scores = results.load_scores(tmp_path / "runs").pivot_table(
        index=["layer", "channel"], columns="metric", values="score"
    )
    torch.testing.assert_close(
        torch.tensor(scores["peakedness"].to_numpy()) ** 2,
        torch.tensor(scores["peakedness(power=2)"].to_numpy()),
    )
