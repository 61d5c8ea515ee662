"""The measurements for a GPU machine run completely on a CPU, with torch and few other packages."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import gpu
import gpu_images
import gpu_sharing
import gpu_speeds
import gpu_sweep
import mps
import numpy as np
import pytest
import torch
from gpu_baseline import Watch
from gpu_bench import QUICK, Bench
from gpu_report import Report, publish_all
from gpu_together import Together, siblings
from made_up import SCALING, network, noise

from prune_core.images import Split
from prune_core.precision import full_precision
from prune_core.training import Recipe, train

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
    command = [sys.executable, REPOSITORY / "tests/benchmarks/gpu.py", "--quick", "--threads", "1"]
    environment = os.environ | {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}",
        "OMP_NUM_THREADS": "1",
    }
    ended = subprocess.run(
        [*command, "--device", "cpu", "--images", tmp_path / "images.npz", "--out", out],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    printed = out.read_text()
    assert printed.strip() == ended.stdout.strip()
    assert "failed:" not in printed
    for part in (
        "| bf16 product, TFLOP/s",
        "| fp32 product, TFLOP/s",
        "| copy, bytes read and written, GB/s",
        "| `simplenet_310k` at 0.1",
        "not on a CPU",
        "| the 27 that are not listed below",
        "| 2 |",
        "Mean difference",
        "this machine has no ray, pyarrow, pandas, pydantic, typer",
        "94 % of 32 test images",
        "With a part of CIFAR-10",
        "Measured on",
    ):
        assert part in printed
    # Every part has its place in the document.
    document = tmp_path / "benchmarks.md"
    document.write_text((REPOSITORY / "docs/benchmarks.md").read_text())
    assert publish_all(printed, document) == [
        f"gpu_{part}"
        for part in (
            "training",
            "scoring",
            "processes",
            "together",
            "sweep",
            "compiled",
            "baseline",
        )
    ]
    assert "| ceiling                            |" in document.read_text()


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


def test_a_sweep_is_measured() -> None:
    ask = gpu_sweep.Ask("digits", (*gpu_sweep.DIGITS_CUT, "metrics=[output_l1]"))
    cells, seconds, slots, busy, failed = gpu_sweep.ran(ask, 300, "serial")
    assert (cells, slots, failed) == ("2", "1", "0")
    assert int(seconds) > 0
    assert 0 < int(busy) <= 100


@pytest.mark.parametrize("quick", [True, False])
def test_a_cut_of_the_thesis_is_a_spec(tmp_path: Path, quick: bool) -> None:
    from sweep.spec.given import spec_of

    fields = gpu_sweep.thesis(tmp_path, 100, 50, quick)
    spec = spec_of("thesis", fields)
    (dataset,) = spec.datasets
    assert (dataset.source, dataset.train_images) == (f"parquet:{tmp_path}", 100)
    assert len(spec.metrics) == 3


def test_a_sweep_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(gpu_sweep.Stopped, match="longer than 1 s"):
        gpu_sweep._run([sys.executable, "-c", "import time; time.sleep(600)"], 1)


def test_what_was_measured_before_the_time_was_over_is_published(tmp_path: Path, capsys) -> None:
    report = Report(torch.device("cpu"), out=tmp_path / "out.md")

    def measured():
        report.seconds = -1.0
        return ["1", "2"]

    def fails():
        raise ValueError("a | b\nc")

    def stopped():
        with report.section("gpu_training"):
            report.rows(["what", "one", "two"], [("a", fails), ("b", measured), ("c", measured)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    printed = (tmp_path / "out.md").read_text()
    assert printed == capsys.readouterr().out
    document = tmp_path / "document.md"
    document.write_text("<!-- measured: gpu_training -->\nold\n<!-- end of gpu_training -->\n")
    assert publish_all(printed, document) == ["gpu_training"]
    lines = document.read_text().splitlines()
    assert [" ".join(line.split()) for line in lines if line.startswith("|")][2:] == [
        "| a | failed: ValueError: a / b c | - |",
        "| b | 1 | 2 |",
        "| c | not measured: the time was over | - |",
    ]
    assert "The measurement was stopped here." in lines
    with pytest.raises(ValueError, match="no section"):
        publish_all("nothing", document)


@pytest.mark.parametrize("variant", ["simplenet_310k", "resnet20"])
def test_networks_are_trained_together_as_alone(variant: str) -> None:
    images = noise(24)
    # At random scores of one network, so that the siblings differ.
    nets = siblings(network(variant, 0.1).eval(), 0.5, 2)
    assert not next(nets[0].parameters()).equal(next(nets[1].parameters()))
    # In fp32 two pixels of a pooling may be equal up to rounding, and either may lead.
    for net in nets:
        net.double().register_forward_pre_hook(lambda _, inputs: inputs[0].double())
    copies = copy.deepcopy(nets)
    # The random numbers of dropout lie otherwise in memory, so other positions become zero.
    for module in (module for net in (*nets, *copies) for module in net.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    recipe = Recipe(1, 8, 0.001, precision="fp32", recalibrate=False)
    both = Together(copies)
    with full_precision():
        both.steps(images, recipe).train(seed=3)
        both.give_back()
        for net, other in zip(nets, copies, strict=True):
            before = {name: one.clone() for name, one in net.named_parameters()}
            train(net, images, SCALING, recipe, seed=3, flip_keeps_label=True)
            for name, parameter in net.named_parameters():
                moved = (parameter - before[name]).abs().max()
                difference = (parameter - other.get_parameter(name)).abs().max()
                assert difference <= 0.02 * moved + 1e-6


def test_the_service_is_told_where_its_program_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(mps.NoService, match="is not on this machine"), mps.service():
        pass


@pytest.mark.parametrize("works", [True, False])
def test_the_service_is_started_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    program = tmp_path / mps.PROGRAM
    program.write_text(
        f'#!/bin/sh\necho "$1 $(cat) $CUDA_MPS_PIPE_DIRECTORY" >> {tmp_path}/calls\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(mps, "_PROBE", "" if works else "raise SystemExit('no GPU')")
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    if works:
        with mps.service():
            folder = Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
            assert folder.is_dir()
    else:
        with pytest.raises(mps.NoService, match="no GPU"), mps.service():
            pass
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [line.split()[0] for line in calls] == ["-d", "quit"]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    if works:
        assert calls[0].endswith(str(folder))
        assert not folder.exists()


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
    for split in (gpu_images.read(path), gpu_images.of_parquet(tmp_path, 12, 5)):
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
    monkeypatch.setattr("gpu_baseline.evaluate", lambda *_: SimpleNamespace(top1=next(accuracies)))
    watch = Watch(network("simplenet_310k", 0.3), noise(8), SCALING, most_seconds=1e9)
    watch.look()
    assert watch.reached is None
    watch.look()
    first = watch.reached
    watch.look()
    watch.look()
    assert first is not None
    assert (watch.reached, watch.best, watch.last) == (first, 0.96, 0.9)


def test_the_forms_for_a_gpu_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a GPU, a graph's stand-in is the step itself.
    monkeypatch.setattr(Bench, "on_gpu", True)
    monkeypatch.setattr("gpu_forms.Steps.capture", lambda steps: steps)
    images = noise(16)
    split = Split(images, images.first(0), images, 10, flip_keeps_label=True)
    report = Report(torch.device("cpu"))
    bench = Bench(report, QUICK, split, images, images, False, None, "serial")
    assert len(gpu_speeds._trained(bench, "simplenet_310k", 0.1)) == 6
    assert len(gpu_sharing._stacked(bench, "simplenet_310k", 2)) == 5
    report.seconds = 1e-9
    names = []
    monkeypatch.setattr(report, "rows", lambda _, found: names.extend(name for name, _ in found))
    gpu.sweep(bench)
    assert names[:2] == ["`digits`, 0.25 GPUs a trial", "`thesis`, cut, 0.25 GPUs a trial"]
