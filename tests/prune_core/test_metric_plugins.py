"""Metrics of other installed packages are registered."""

import os
import subprocess
import sys
from pathlib import Path

from prune_core.metrics import METRICS

# Before any test registers its own.
BUILT_IN = tuple(METRICS)

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


def test_packages_register_metrics_and_those_that_cannot_be_loaded_are_named_and_left_out(tmp_path):
    broken = {
        "a_missing_import": ("import nothing_of_that_name", "No module named"),
        "a_taken_name": (
            METRIC.replace("widest", "output_l1"),
            "'output_l1' is already registered",
        ),
    }
    install(tmp_path, "wide_metrics", METRIC)
    for module, (content, _) in broken.items():
        install(tmp_path, module, content)
    code = (
        "from prune_core.metrics import METRICS; print(*METRICS); print(METRICS['widest'].summary)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    names, summary = said.stdout.splitlines()
    assert names.split() == [*BUILT_IN, "widest"]
    assert summary == "Largest weight of each filter."
    notes = said.stderr.splitlines()
    for module, (_, reason) in broken.items():
        (note,) = (note for note in notes if f"metrics of {module} ({module})" in note)
        assert "could not be loaded" in note
        assert reason in note
