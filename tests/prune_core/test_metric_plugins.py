"""Metrics of other installed packages are registered."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

METRIC = '''
from prune_core.layer import LayerView
from prune_core.metrics import metric

@metric(source="a test")
def widest(layer: LayerView):
    """Largest weight of each filter."""
    return layer.weight.abs().amax(dim=(1, 2, 3))
'''


def install(site: Path, module: str, content: str) -> None:
    """Installs a package: a module and its metadata."""
    (site / f"{module}.py").write_text(content)
    metadata = site / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[prune_sweep.metrics]\nmine = {module}\n")


def python(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a new Python process that has the package."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_an_installed_package_registers_its_metrics(tmp_path):
    install(tmp_path, "wide_metrics", METRIC)
    said = python(
        tmp_path,
        "from prune_core.metrics import Choice; print(Choice.parse('widest').metric.summary)",
    )
    assert said.stdout == "Largest weight of each filter.\n"
    assert not said.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        (METRIC.replace("widest", "output_l1"), "metric 'output_l1' is already registered"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_named_and_left_out(tmp_path, content, reason):
    names = "from prune_core.metrics import METRICS; print(*METRICS)"
    built_in = python(tmp_path, names)
    install(tmp_path, "broken_metrics", content)
    said = python(tmp_path, names)
    assert said.stdout == built_in.stdout
    assert "the metrics of broken_metrics (broken_metrics) could not be loaded" in said.stderr
    assert reason in said.stderr
