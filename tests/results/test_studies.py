"""The committed studies: the page agrees with the tables, and a row can be reproduced."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import results
import sweep
from sweep.execution.changes import changes

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "docs/studies"


def module(name, path):
    found = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(found)
    found.loader.exec_module(made)
    return made


def write():
    return module("write_studies", STUDIES / "write.py")


def test_every_number_of_the_page_comes_from_the_tables():
    assert (STUDIES / "README.md").read_text() == write().page(), "run python docs/studies/write.py"


@pytest.mark.parametrize("name", write().STUDIES)
def test_a_study_is_complete(name):
    frame = results.load(STUDIES / name)
    assert (frame["status"] == "ok").all()
    assert len(frame) == 861
    pruned = frame[frame["metric"] != "scratch"]
    assert pruned.groupby("metric")["seed"].nunique().min() == 3
    assert pruned["metric"].nunique() == 15
    local = pruned[pruned["scope"] == "local"]
    assert local.groupby("metric")["ratio"].nunique().min() == 5
    assert frame["host"].nunique() == 1


def test_a_row_is_made_again_bit_for_bit(tmp_path):
    images = ROOT.resolve().parent / "shared" / "data" / "cifar10"
    if not images.is_dir():
        pytest.skip(f"no CIFAR-10 in {images}")
    made_on = json.loads((STUDIES / "hardware.json").read_text())
    here = module("hardware", ROOT / "tests/benchmarks/hardware.py")
    now = {
        "processor": here.processor(),
        "stepping": here.cpuinfo("stepping"),
        "cache": here.cpuinfo("cache size"),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    if different := [name for name, value in now.items() if made_on[name] != value]:
        pytest.skip(f"the study ran on other hardware or torch: {', '.join(different)}")
    rows = results.load(STUDIES / "cifar10-cpu")
    wanted = rows.query("metric == 'output_l1' and scope == 'local' and ratio == 0.1 and seed == 0")
    row = wanted.iloc[0]
    planned = sweep.plan(
        STUDIES / "cifar10-cpu/spec.yaml", data=images, out=STUDIES / "cifar10-cpu"
    )
    if row["key"] not in {cell.key for cell in planned.cells}:
        (since,) = changes(planned.planned, [row["key"]], planned.store)
        pytest.skip(f"the study is of an earlier version: {since}")
    command = [sys.executable, "-m", "sweep", "run", STUDIES / "cifar10-cpu/spec.yaml"]
    command += ["--data", images, "--out", tmp_path / "again", "--cell", row["key"]]
    command += ["--executor", "serial"]
    subprocess.run([str(word) for word in command], check=True, cwd=tmp_path)
    again = results.load(tmp_path / "again").iloc[0]
    assert again["threads"] == row["threads"]
    same = [
        f"{stage}_test_{of}" for stage in results.storage.schema.STAGES for of in ("top1", "loss")
    ]
    assert again[same].to_dict() == row[same].to_dict()
