"""The measurements for a GPU machine run completely on a CPU, with torch and few other packages."""

import os
import subprocess
import sys
from pathlib import Path

import gpu_images
import numpy as np
import pytest
from gpu import Watch
from made_up import SCALING, network, noise

REPOSITORY = Path(__file__).resolve().parents[2]
ABSENT = ("ray", "pyarrow", "pandas", "scipy", "pydantic", "typer", "sweep", "results")
# Every Python process reads this when it starts, so the processes of packed trials do, too.
BLOCKING = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {ABSENT}:
            return self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


def test_everything_runs_without_ray_pyarrow_and_pandas(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKING)
    images = {f"{part}_images": noise(32).images.numpy() for part in ("train", "test")}
    labels = {f"{part}_labels": noise(32).labels.numpy() for part in ("train", "test")}
    np.savez_compressed(tmp_path / "images.npz", **images, **labels)
    out = tmp_path / "gpu.md"
    command = [sys.executable, REPOSITORY / "tests/benchmarks/gpu.py", "--tiny", "--threads", "1"]
    environment = os.environ | {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}",
        "OMP_NUM_THREADS": "1",
    }
    ended = subprocess.run(
        [*command, "--images", tmp_path / "images.npz", "--out", out],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    printed = out.read_text()
    assert printed.strip() == ended.stdout.strip()
    for part in (
        "| bf16 product, TFLOP/s",
        "| fp32 product, TFLOP/s",
        "| copy, bytes read and written, GB/s",
        "| `simplenet_310k` at 0.1",
        "| taylor",
        "| 2         |",
        "94 % of 32 test images",
        "With a part of CIFAR-10",
        "Measured on",
    ):
        assert part in printed


def test_blocked_packages_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKING)
    ended = subprocess.run(
        [sys.executable, "-c", "import pyarrow"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'pyarrow'" in ended.stderr


def test_images_are_stored_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import BytesIO

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    made = {part: noise(20) for part in ("train", "test")}
    for part, whole in made.items():
        encoded = []
        for pixels in whole.images:
            file = BytesIO()
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "PNG")
            encoded.append(file.getvalue())
        columns = {"image": pa.array(encoded), "label": pa.array(whole.labels.numpy())}
        pq.write_table(pa.table(columns), tmp_path / f"{part}.parquet")
    path = tmp_path / "images.npz"
    gpu_images.write(path, tmp_path, 12, 5)
    split = gpu_images.read(path)
    assert split.train.images.equal(made["train"].images[:12])
    assert split.train.labels.equal(made["train"].labels[:12])
    assert split.test.images.equal(made["test"].images[:5])
    monkeypatch.setattr("gpu_images.MOST_BYTES", 100)
    with pytest.raises(ValueError, match="ask for fewer"):
        gpu_images.write(path, tmp_path, 12, 5)
    assert not path.exists()


def test_the_time_to_the_goal_is_recorded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    accuracies = iter([0.5, 0.95, 0.96, 0.9])
    monkeypatch.setattr("gpu.evaluate", lambda *_: SimpleNamespace(top1=next(accuracies)))
    watch = Watch(network("simplenet_310k", 0.3), noise(8), SCALING, most_seconds=1e9)
    watch.look()
    assert watch.reached is None
    watch.look()
    first = watch.reached
    watch.look()
    watch.look()
    assert first is not None
    assert (watch.reached, watch.best, watch.last) == (first, 0.96, 0.9)
