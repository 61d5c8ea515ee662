"""The committed studies: the page agrees with the rows, and a row can be made again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import results
import sweep
from results.analysis.study import of_grid
from sweep.execution.changes import changes

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "docs/studies"
sys.path[:0] = [str(STUDIES), str(ROOT / "tests/benchmarks")]

import hardware  # noqa: E402
import write  # noqa: E402

IMAGES = ROOT.resolve().parent / "shared" / "data"
UNPRUNED = {"cifar10-cpu": 0.86, "cifar100-cpu": 0.57}
"""The lowest mean accuracy of a study's unpruned networks."""
SAME = [f"{stage}_test_{of}" for stage in ("baseline", "finetuned") for of in ("top1", "loss")]


@pytest.fixture(scope="module", params=write.STUDIES)
def study(request):
    """A study's name and rows."""
    return request.param, results.load(STUDIES / request.param)


def test_every_number_of_the_page_comes_from_the_rows():
    assert (STUDIES / "README.md").read_text() == write.page(), "run python docs/studies/write.py"


def test_a_study_is_complete_and_its_networks_are_good(study):
    name, frame = study
    assert (frame["status"] == "ok").all()
    assert frame["host"].nunique() == frame["threads"].nunique() == 1
    assert (frame["test_images"] == 10_000).all()
    unpruned = frame.groupby("seed")["baseline_test_top1"].agg(["min", "max"])
    assert list(unpruned.index) == [0, 1, 2, 3, 4]
    assert (unpruned["min"] == unpruned["max"]).all()
    assert unpruned["min"].mean() >= UNPRUNED[name]
    rows = of_grid(frame)
    assert rows["metric"].nunique() >= 16
    points = rows.groupby(["scope", "normalisation", "ratio", "metric"])["seed"].nunique()
    assert (points == 5).all()


def test_a_contest_is_complete():
    found = write.tournament.stands(write.contestants(pd.concat(write.studies().values())))
    assert (found["seeds"] == 5).all()
    assert (found["untested"] == 0).all()
    contests = found.groupby(["dataset", "ratio"]).size()
    assert (contests == len(write.tournament.ARMS) * len(write.tournament.SETTINGS)).all()


def test_a_ratio_that_lacks_a_row_has_no_contest():
    rows = write.contestants(pd.concat(write.studies().values(), ignore_index=True))
    lost = rows.index[(rows["dataset"] == "cifar10") & (rows["compensation"] == "least_squares")][0]
    left = write.tournament.complete(rows.drop(index=lost))
    assert set(left["dataset"]) == set(rows["dataset"]) - {"cifar10"} != set()


def test_a_row_is_made_again_bit_for_bit(study, tmp_path):
    name, frame = study
    (row,) = frame.query(
        "metric == 'output_l1' and scope == 'local' and ratio == 0.1 and seed == 0"
    ).to_dict("records")
    spec = STUDIES / name / "spec.yaml"
    _make_again(row, name, [spec], name, IMAGES / row["dataset"], tmp_path)


def test_a_row_of_the_tournament_is_made_again_bit_for_bit(tmp_path):
    dataset, frame = "cifar100", results.load(STUDIES / write.TOURNAMENT)
    (row,) = (
        frame[frame["dataset"] == dataset]
        .query(
            "metric == 'output_l1' and budget == 'uniform_macs' and ratio == 0.3 and seed == 0 and "
            "compensation == 'least_squares' and finetune == 'small_rate'"
        )
        .to_dict("records")
    )
    words = [write.TOURNAMENT, "evaluate=[]"]
    _make_again(row, write.TOURNAMENT, words, f"{dataset}-cpu", IMAGES, tmp_path)


def _make_again(row, name, words, study, images, folder):
    """Runs the cell of a row of `name` by a spec, with the unpruned networks of a study."""
    if not images.is_dir():
        pytest.skip(f"no images in {images}")
    made_on = json.loads((STUDIES / "hardware.json").read_text())
    now = {
        "stepping": hardware.cpuinfo("stepping"),
        "cache": hardware.cpuinfo("cache size"),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    different = [name for name, value in now.items() if made_on[name] != value]
    if hardware.processor() not in made_on["processors"]:
        different.append("processor")
    if different:
        pytest.skip(f"the study ran on other hardware or torch: {', '.join(different)}")
    again = folder / "again"
    shutil.copytree(STUDIES / study, again, ignore=shutil.ignore_patterns("cells", "scores"))
    planned = sweep.plan(words[0], words[1:], data=images, out=again)
    if row["key"] not in {cell.key for cell in planned.cells}:
        (since,) = changes(planned.planned, [row["key"]], results.Store(STUDIES / name))
        pytest.skip(f"the study is of an earlier version: {since}")
    command = [sys.executable, "-m", "sweep", "run", *words, "--data", images, "--out", again]
    command += ["--cell", row["key"], "--executor", "serial"]
    subprocess.run([str(word) for word in command], check=True, cwd=folder)
    (made,) = results.load(again).to_dict("records")
    for column in ("baseline_checksum", "threads", *SAME):
        assert made[column] == row[column]
