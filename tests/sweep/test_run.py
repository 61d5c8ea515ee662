"""A whole sweep on photographs of house numbers: run, run again, grown, broken and mended."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

import results
from results import DamagedFileWarning, Store
from results.storage.schema import CELLS
from sweep.commands.cli import app
from sweep.planning.grid import plan
from sweep.spec.parsing import read
from sweep.stages.artifacts import DamagedArtifactWarning

REPOSITORY = Path(__file__).resolve().parents[2]
# A learning rate at which no network stays finite.
DIVERGING = 1e9


@pytest.fixture(scope="module")
def finished(run_svhn: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the small sweep, run without Ray; not to be changed."""
    folder = tmp_path_factory.mktemp("serial") / "runs"
    done = run_svhn(folder)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished results, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def states(folder: Path) -> dict[str, int]:
    """When each result and artifact was last written, by name."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for part in ("cells", "scores", "artifacts")
        for path in (folder / part).rglob("*")
        if path.is_file()
    }


def figures(folder: Path) -> list[dict[str, Any]]:
    """All rows, without what differs between two runs of one cell."""
    runs = ("started_at", "finished_at", "host", "git_revision")
    timed = ("seconds", "latency")
    columns = [n for n in CELLS.names if n not in runs and not n.startswith(timed)]
    return Store(folder).read(columns).to_pylist()


def test_every_cell_is_ok_and_has_its_figures(finished):
    frame = results.load(finished)
    assert frame["status"].tolist() == ["ok"] * 8
    assert frame["key"].is_unique
    assert len(set(frame["baseline_key"])) == 1
    passes = [name for name in frame if name.startswith("seconds_statistics")]
    compensation = [name for name in frame if name.startswith("compensated_")]
    compensation += ["seconds_compensate", "seconds_moments"]
    absent = ("error", "traceback", "git_revision", "widths_of", "weights", *passes, *compensation)
    assert frame[[name for name in frame if name not in absent]].notna().all(axis=None)
    # Only this metric needs statistics.
    needing = frame["metric"] == "entropy_gaussian"
    assert (frame[passes].notna().all(axis=1) == needing).all()
    for stage in ("baseline", "pruned", "recalibrated", "finetuned"):
        assert frame[f"{stage}_test_top1"].between(0, 1).all()
        assert (frame[f"{stage}_test_top1"] <= frame[f"{stage}_test_top5"]).all()
    assert (frame["started_at"] < frame["finished_at"]).all()


def test_networks_are_as_small_as_asked(finished):
    frame = results.load(finished)
    assert (frame["parameters"] < frame["parameters_full"]).all()
    # One channel of such narrow layers is some percent of all parameters.
    assert (frame["parameter_ratio"] - frame["ratio"]).abs().max() < 0.05
    for row in Store(finished).read(["kept", "widths", "history", "baseline_history"]).to_pylist():
        assert [len(layer) for layer in row["kept"]] == row["widths"]
        assert [epoch["epoch"] for epoch in row["history"]] == [1]
        assert [epoch["epoch"] for epoch in row["baseline_history"]] == [1]


def test_latencies_were_measured(finished):
    frame = results.load(finished)
    medians = [f"latency_{of}{batch}_ms" for of in ("", "full_") for batch in (1, 256)]
    assert (frame[medians] > 0).all(axis=None)
    spreads = [name.replace("_ms", "_iqr_ms") for name in medians]
    assert (frame[spreads] >= 0).all(axis=None)
    # The unpruned network's is measured once in a process, each pruned one's by itself.
    assert frame[medians].nunique().tolist() == [len(frame), len(frame), 1, 1]


def test_ray_gives_the_same_rows_and_says_nothing_of_its_own(
    finished, svhn_spec, svhn_data, start, leftovers, listing, tmp_path
):
    folder = tmp_path / "ray"
    process = start("run", svhn_spec(), "--data", svhn_data, "--out", folder, marker="equal")
    output, errors = process.communicate()
    assert process.returncode == 0
    assert leftovers("equal") == []
    note, resized = errors.splitlines()
    assert note.startswith("note: svhn: column label has no class names")
    assert "resized to 16 x 16" in resized
    lines = output.splitlines()
    assert lines[0].startswith("small: 8 cells, 0 done before, 8 to run")
    ends = [line for line in lines if line.startswith("[")]
    assert lines[1:11] == ends
    assert len([line for line in ends if " ok " in line and " s" in line]) == 10
    assert lines[11].startswith("svhn: test accuracy in %")
    assert lines[-1] == f"8 of 8 cells ok; pandas: results.load('{folder}')"
    assert figures(folder) == figures(finished)
    pd.testing.assert_frame_equal(results.load_scores(folder), results.load_scores(finished))
    networks = [listing(kept / "networks") for kept in (folder, finished)]
    assert networks[0] == networks[1]
    assert len(networks[0]) == 3 * 8


def test_running_again_runs_nothing(finished, run_svhn, listing):
    before, hashes = states(finished), listing(finished)
    # With Ray, which is not even started: there is nothing to run.
    done = run_svhn(finished, executor="ray")
    assert done.exit_code == 0, done.output
    assert "8 cells, 8 done before, 0 to run" in done.stdout
    assert "8 of 8 cells ok" in done.stdout
    assert (states(finished), listing(finished)) == (before, hashes)


def test_a_new_ratio_runs_its_own_cells_alone(copied, run_svhn):
    before = states(copied)
    done = run_svhn(copied, {"ratios": [0.3, 0.45, 0.6]})
    assert done.exit_code == 0, done.output
    assert "12 cells, 8 done before, 4 to run" in done.stdout
    ends = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert [line.partition("]")[2].split()[0] for line in ends] == ["ok"] * 4
    assert all(" 0.45 " in line for line in ends)
    after = states(copied)
    assert before.items() <= after.items()
    new = after.keys() - before.keys()
    assert {Path(name).parent.name for name in new} == {"cells"}
    assert len(new) == 4


def test_a_new_metric_needs_no_new_baseline(copied, run_svhn):
    before = states(copied)
    done = run_svhn(copied, {"metrics": ["input_l1"], "ratios": [0.6]})
    assert done.exit_code == 0, done.output
    new = states(copied).keys() - before.keys()
    assert sorted(Path(name).parent.name for name in new) == ["cells", "cells", "scores"]


def test_a_cell_alone_gives_its_row_again(finished, run_svhn, tmp_path):
    key = results.load(finished)["key"].iloc[0]
    alone = tmp_path / "alone"
    done = run_svhn(alone, None, "--cell", key[:6])
    assert done.exit_code == 0, done.output
    assert "small: 1 of 8 cells, 0 done before, 1 to run" in done.stdout
    assert "1 of 1 cells ok" in done.stdout
    assert figures(alone) == [row for row in figures(finished) if row["key"] == key]


@pytest.mark.parametrize("key", ["0" * 17, "", "x"])
def test_a_cell_that_is_none_of_the_specs_is_told(key, run_svhn, tmp_path):
    done = run_svhn(tmp_path / "none", None, "--cell", key)
    assert done.exit_code == 2, done.output
    assert f"--cell {key} matches none of the 8 cells" in done.stderr
    assert not (tmp_path / "none").exists()


def test_the_plan_tells_what_is_done_and_runs_nothing(finished, svhn_spec, svhn_data, invoke):
    path = svhn_spec({"ratios": [0.3, 0.45, 0.6]})
    before = states(finished)
    done = invoke("plan", path, "--data", svhn_data, "--out", finished)
    assert done.exit_code == 0, done.output
    words = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "done 8" in words
    assert "to run 4" in words
    assert states(finished) == before


def test_the_status_of_a_finished_sweep(finished, invoke):
    done = invoke("status", finished)
    assert done.exit_code == 0, done.output
    assert ["8", "8", "0", "0", "0", "-"] in [line.split() for line in done.stdout.splitlines()]


def damage_cell(folder: Path) -> None:
    path = min((folder / "cells").iterdir())
    path.write_bytes(path.read_bytes()[:-30])


def delete_cell(folder: Path) -> None:
    min((folder / "cells").iterdir()).unlink()


def damage_tensors(folder: Path) -> None:
    delete_cell(folder)
    (path,) = (folder / "artifacts" / "baselines").glob("*/*.safetensors")
    path.write_bytes(path.read_bytes()[:-30])


def damage_record(folder: Path) -> None:
    delete_cell(folder)
    (path,) = (folder / "artifacts" / "baselines").glob("*/baseline.json")
    path.write_text("{")


def damage_statistic(folder: Path) -> None:
    for path in (folder / "cells").iterdir():
        path.unlink()
    (path,) = (folder / "artifacts" / "statistics").iterdir()
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("damage", "warning"),
    [
        (delete_cell, None),
        (damage_cell, DamagedFileWarning),
        (damage_tensors, DamagedArtifactWarning),
        (damage_record, DamagedArtifactWarning),
        (damage_statistic, DamagedArtifactWarning),
    ],
)
@pytest.mark.filterwarnings("always")
def test_what_is_damaged_is_made_again_as_it_was(
    damage, warning, copied, finished, run_svhn, recwarn
):
    damage(copied)
    done = run_svhn(copied)
    assert done.exit_code == 0, done.output
    assert figures(copied) == figures(finished)
    assert states(copied).keys() == states(finished).keys()
    given = {each.category for each in recwarn if "Damaged" in each.category.__name__}
    assert given == ({warning} if warning else set())
    again = run_svhn(copied)
    assert "8 done before, 0 to run" in again.stdout


def test_a_cell_that_diverges_keeps_what_came_before(copied, run_svhn):
    changes = {"finetune.learning_rate": DIVERGING, "metrics": ["output_l1"], "ratios": [0.6]}
    done = run_svhn(copied, changes)
    assert done.exit_code == 1, done.output
    assert "2 cells diverged" in done.stdout
    assert "0 of 2 cells ok" in done.stdout
    bad = diverged(copied)
    assert len(bad) == 2
    for stage in ("baseline", "pruned", "recalibrated"):
        assert bad[f"{stage}_test_top1"].notna().all()
    assert bad["parameters"].notna().all()
    assert bad["latency_256_ms"].notna().all()
    assert bad["finetuned_test_top1"].isna().all()
    assert bad["error"].str.contains("epoch 1").all()
    for key, error, frames in zip(bad["key"], bad["error"], bad["traceback"], strict=True):
        assert error.endswith(f"; log: logs/cell-{key}.txt")
        assert "in train" in frames
        assert "Diverged: " in (copied / "logs" / f"cell-{key}.txt").read_text()

    before = states(copied)
    assert run_svhn(copied, changes).exit_code == 1
    assert run_svhn(copied, changes, "--retry", "failed,timeout").exit_code == 1
    assert states(copied) == before
    done = run_svhn(copied, changes, "--retry", "diverged")
    assert done.exit_code == 1
    assert "2 cells, 0 done before, 2 to run" in done.stdout
    assert (diverged(copied)["started_at"] > bad["finished_at"]).all()


def diverged(folder: Path) -> pd.DataFrame:
    frame = results.load(folder)
    return frame[frame["status"] == "diverged"]


def test_a_baseline_that_diverges_gives_rows_to_all_its_cells(run_svhn, tmp_path):
    done = run_svhn(tmp_path / "runs", {"recipe.learning_rate": DIVERGING, "seeds": [0]})
    assert done.exit_code == 1, done.output
    assert "8 cells diverged" in done.stdout
    bad = diverged(tmp_path / "runs")
    assert len(bad) == 8
    assert bad["error"].str.contains("baseline: Diverged").all()
    (key,) = set(bad["baseline_key"])
    assert bad["error"].str.endswith(f"; log: logs/baseline-{key}.txt").all()
    assert "in train" in (tmp_path / "runs" / "logs" / f"baseline-{key}.txt").read_text()
    assert bad["baseline_test_top1"].isna().all()
    assert bad["metric"].nunique() == 2
    assert not (tmp_path / "runs" / "artifacts" / "baselines").exists()


def test_the_command_stops_in_the_debugger_and_then_writes_the_row(write_spec, tmp_path):
    path = write_spec({"finetune.learning_rate": DIVERGING, "metrics": ["output_l1"]})
    cell = plan(read(str(path))).cells[0]
    words = ["run", path, "--out", tmp_path / "runs", "--executor", "serial", "--cell", cell.key]
    done = subprocess.run(
        [Path(sys.executable).with_name("prune-sweep"), *map(str, words), "--pdb"],
        input="p 6*7\np type(history)\nq\n",
        # This checkout comes before any other that is installed.
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "training.py(" in done.stdout
    for answer in ("(Pdb) 42\n", "(Pdb) <class 'list'>\n"):
        assert answer in done.stdout
    (row,) = results.load(tmp_path / "runs").to_dict("records")
    assert (row["key"], row["status"]) == (cell.key, "diverged")


def test_relative_folders_mean_the_same_wherever_trials_run(run_svhn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_svhn(Path("here/runs"), {"metrics": ["random"], "ratios": [0.6]})
    assert done.exit_code == 0, done.output
    assert len(results.load("here/runs")) == 2


@pytest.fixture(scope="module")
def svhn_data() -> Path:
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "svhn_sample"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: real photographs in Parquet, which no download gives")
    return folder.parent


@pytest.fixture(scope="module")
def svhn_spec(
    content: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Path]]:
    """Writes the small sweep over house numbers, with changes, to a file."""
    source = {"source": "parquet:svhn_sample", "name": "svhn", "flip": False}
    source |= {"train_images": 300, "test_images": 100, "image_size": 16}

    def write(changes: dict[str, Any] | None = None) -> Path:
        path = tmp_path_factory.mktemp("spec") / "small.yaml"
        path.write_text(yaml.safe_dump(content({"datasets": [source], **(changes or {})})))
        return path

    return write


@pytest.fixture(scope="module")
def run_svhn(svhn_spec: Callable[..., Path], svhn_data: Path) -> Callable[..., Result]:
    """Runs the small sweep with changes into a folder, in this process."""

    def run(folder: Path, changes: Any = None, *words: str, executor: str = "serial") -> Result:
        fixed = ["run", svhn_spec(changes), "--data", svhn_data, "--out", folder]
        return CliRunner().invoke(app, [*map(str, fixed), "--executor", executor, *words])

    return run
