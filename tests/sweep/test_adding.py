"""Adding a thing is one function or class: nothing else is edited.

Each test registers a metric, a budget rule, an image source, an executor or a figure in a few
lines, and runs it. docs/contributing.md says the same in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console

import prune_core as pc
import results
from prune_core.images import Location, Origin
from prune_core.images.arrays import Arrays
from prune_core.statistics import Moments
from results import report
from results.analysis.sweep_tables import SweepTables
from results.figures.registry import REPORT_FIGURES, report_figure
from sweep.api import run
from sweep.execution.executor import EXECUTORS, Job, executor
from sweep.execution.run_task import run_task
from sweep.execution.tasks import KINDS
from sweep.spec.fields import Spec
from sweep.spec.parsing import parse

SPEC = """
name: new
datasets: [{source}]
network: {{variant: simplenet_310k, width: 0.1}}
recipe: {{epochs: 1, batch_size: 256}}
finetune: {{epochs: 0}}
metrics: [{metrics}]
ratios: [0.5]
scopes: [{scopes}]
{more}
"""
FEW_DIGITS = "{source: digits, train_images: 200, test_images: 40, image_size: 16}"
REGISTRIES = (pc.METRICS, pc.BUDGETS, pc.SOURCES, EXECUTORS, REPORT_FIGURES)


@pytest.fixture(autouse=True)
def _registries_as_before() -> Iterator[None]:
    """Takes out of the registries what a test put in."""
    before = [dict(registry) for registry in REGISTRIES]
    yield
    for registry, content in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(content)  # type: ignore[arg-type]


@pytest.fixture
def swept(tmp_path: Path) -> Callable[..., Path]:
    """Runs a small sweep and returns its results folder."""

    def sweep(
        executor: str = "serial",
        source: str = FEW_DIGITS,
        metrics: str = "output_l1",
        scopes: str = "local",
        more: str = "",
    ) -> Path:
        text = SPEC.format(source=source, metrics=metrics, scopes=scopes, more=more)
        folder, quiet = tmp_path / "runs", Console(quiet=True)
        done = run(parse(text, "new.yaml"), out=folder, executor=executor, console=quiet)
        assert done.status().complete
        return folder

    return sweep


def test_a_metric_is_one_function(swept):
    @pc.metric(source="a test", needs=lambda power: frozenset({Moments()}), nonnegative=True)
    def peakedness(layer: pc.LayerView, *, power: int = 1) -> torch.Tensor:
        """Variance of the channel to a power."""
        return layer.variance**power

    folder = swept(metrics="peakedness, peakedness(power=2)", scopes="local, global")
    frame = results.load(folder)
    assert set(frame["metric"]) == {"peakedness", "peakedness(power=2)"}
    scores = results.load_scores(folder).pivot_table(
        index=["layer", "channel"], columns="metric", values="score"
    )
    torch.testing.assert_close(
        torch.tensor(scores["peakedness"].to_numpy()) ** 2,
        torch.tensor(scores["peakedness(power=2)"].to_numpy()),
    )


def test_a_layerwise_budget_rule_is_one_function(swept):
    @pc.layerwise(ratio_of="channels")
    def first_half(architecture, ratio, floor):
        """Shrinks the first half of the layers alone."""
        half = len(architecture.widths) // 2
        few = (max(1, int(ratio * width)) for width in architecture.widths[:half])
        return (*few, *architecture.widths[half:])

    folder = swept(more="local_budgets: [first_half]\ncontrols: {scratch: true}")
    frame = results.load(folder)
    assert set(frame["metric"]) == {"output_l1", "scratch"}
    assert set(frame["budget"]) == {"first_half"}
    assert set(frame["scope"]) == {"local"}
    assert set(frame["ratio_of"]) == {"channels"}
    for widths, full in zip(frame["widths"], frame["widths_full"], strict=True):
        assert list(widths[6:]) == list(full[6:])
        assert all(
            few == max(1, int(0.5 * many)) for few, many in zip(widths[:6], full[:6], strict=True)
        )


def test_a_ranking_budget_rule_is_one_function(swept):
    @pc.ranking("best_two")
    def best_two(scores, architecture, ratio, floor):
        """Keeps the two best channels of each layer."""
        return [layer.argsort(descending=True)[:2].sort().values for layer in scores]

    folder = swept(scopes="global", more="global_budgets: [best_two]")
    (row,) = results.load(folder).to_dict("records")
    assert (row["budget"], row["scope"], row["ratio_of"]) == ("best_two", "global", "parameters")
    assert list(row["widths"]) == [2] * 13


def test_an_image_source_is_one_function(swept, monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNE_SWEEP_CACHE", str(tmp_path / "cache"))

    @pc.image_source("stripes", "dark and bright images", "a test", flip_keeps_label=True)
    def stripes(location: Location) -> Origin:
        def read() -> Arrays:
            labels = np.arange(40) % 2
            images = (200 * labels[:, None, None, None]).astype(np.uint8)
            images = np.broadcast_to(images, (40, 3, 32, 32)).copy()
            return Arrays(images, labels, images[:10], labels[:10])

        return Origin("stripes", ["stripes", 1], read, lambda: ("dark", "bright"))

    (row,) = results.load(swept(source="stripes")).to_dict("records")
    assert (row["source"], row["classes"], row["test_images"]) == ("stripes", 2, 10)
    assert pc.images.class_names("stripes") == ("dark", "bright")


def test_an_executor_is_one_class(swept):
    ran = []

    @executor("backwards")
    class Backwards:
        def check(self, spec: Spec) -> None:
            """It can run every spec."""

        def execute(self, job: Job) -> None:
            with job.progress(dict.fromkeys(KINDS, 1)) as progress:
                scheduler = job.scheduler(progress)
                while (task := scheduler.spare() or scheduler.next()) is not None:
                    scheduler.started(task)
                    ran.append(task.kind)
                    scheduler.ended(task, run_task(job.workspace, task))

    assert set(results.load(swept("backwards"))["status"]) == {"ok"}
    assert ran == ["baseline", "cell"]


def test_a_figure_of_the_report_is_one_function(swept):
    REPORT_FIGURES.clear()  # the others take seconds

    @report_figure("clock", "Seconds", "How long each cell took.")
    def clock(tables: SweepTables) -> Figure:
        figure = Figure()
        figure.add_subplot().plot(tables.frame["seconds"])
        return figure

    page = report.write([swept()]).read_text()
    assert '<figure id="figure-clock">' in page
    assert "How long each cell took." in page


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("local_budgets: [global]", ["local_budgets[0]", "'global'", "'uniform_parameters'"]),
        ("global_budgets: [uniform_channels]", ["global_budgets[0]", "'global'"]),
    ],
)
def test_a_rule_of_another_scope_is_refused(more, words):
    text = SPEC.format(source="digits", metrics="output_l1", scopes="local", more=more)
    with pytest.raises(ValueError, match="budget rule of the") as caught:
        parse(text, "new.yaml")
    assert [word for word in words if word not in str(caught.value)] == []


def test_an_executor_that_is_unknown_is_refused(tmp_path, invoke):
    done = invoke("run", "digits", "--executor", "slrum", "--out", tmp_path / "runs")
    assert done.exit_code == 2
    assert "slrum is unknown; did you mean slurm? allowed: ray, serial, slurm" in done.stderr
    assert not (tmp_path / "runs").exists()
