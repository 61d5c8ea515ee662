"""Tasks as jobs of Slurm: what is asked, how jobs end, and rows as without Slurm."""

from __future__ import annotations

import io
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_slurm
import pandas as pd
import pytest
from click.testing import Result
from faults.disturbance import table
from idle_tasks import idle
from rich.console import Console
from submitit import LocalExecutor

import results
import sweep.execution.slurm.jobs as jobs_module
from prune_core.plugins import PluginError
from results import Store
from sweep.errors import ClusterError, SpecError
from sweep.execution.executor import EXECUTORS, Job, executor
from sweep.execution.slurm.executor import Slurm
from sweep.execution.slurm.jobs import Jobs
from sweep.execution.slurm.on_node import run_on_node
from sweep.execution.tasks import KINDS, Outcome, Task
from sweep.planning.grid import plan
from sweep.spec.fields import Spec
from sweep.stages.workspace import Workspace

METRIC = """
import prune_core as pc

@pc.metric(source="a test")
def widest(layer):
    "Largest weight of each filter."
    return layer.weight.abs().amax(dim=(1, 2, 3))
"""
TRACE = "Traceback (most recent call last):\n  File ...\nStoreError: the disk is full\n"
GRID = {"ratios": [0.5], "scopes": ["local"]}


@dataclass
class Machine:
    """A fake Slurm, and a job of tasks without work on it."""

    slurm: Path
    folder: Path
    spec: Spec

    def __post_init__(self) -> None:
        self.printed = io.StringIO()
        self.told: dict[str, Outcome] = {}
        self.before: Callable[[], None] = lambda: None

    @property
    def files(self) -> Path:
        return self.folder / "slurm"

    def end(self, job: str) -> None:
        """Lets a job end with the outcome ok."""
        (self.files / f"{job}_0_result.pkl").write_bytes((self.slurm / "ok.pkl").read_bytes())

    def run(self, names: str, endings: list[str], *options: str) -> None:
        fake_slurm.say_endings(self.slurm, endings)
        job = Job(
            self.spec,
            Workspace(self.folder, "small"),
            [idle(name) for name in names],
            Console(file=self.printed, width=200),
            lambda: self.before(),
            [lambda task, outcome: self.told.update({task.name: outcome})],
        )
        chosen = Slurm(options)
        chosen.check(self.spec)
        chosen.execute(job)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a fake Slurm whose commands are on the PATH."""
    monkeypatch.setattr(jobs_module, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(jobs_module, "LATE_S", 0.0)
    folder = tmp_path / "fake"
    monkeypatch.setenv("PATH", str(fake_slurm.install(folder)), prepend=":")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    results = {"ok": ("success", Outcome("ok", seconds=1.0)), "raised": ("error", TRACE)}
    for name, result in results.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(result))
    return folder


@pytest.fixture
def machine(slurm: Path, tmp_path: Path, spec: Callable[..., Spec]) -> Machine:
    folder = tmp_path / "runs"
    Store(folder).create()
    return Machine(slurm, folder, spec({"retries": 1, "resources": {"cpus": 2.5, "gpus": 1}}))


def test_every_end_of_a_job_becomes_a_retry_or_the_right_status(machine: Machine) -> None:
    first = ["ok", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"]
    second = ["NODE_FAIL", "CANCELLED by 1000", "PREEMPTED", "ok"]
    third = ["COMPLETED", "raised", "FAILED"]
    notes = machine.folder / "timeouts"

    def watchdog() -> None:
        notes.mkdir(exist_ok=True)
        (notes / "i").write_text("the task took more than 5 s (timeout_s)")

    machine.before = watchdog
    machine.run(
        "abcdefghi",
        [*first, *second, *third, "raised", "OUT_OF_MEMORY"],
        *("partition=gpu", "time=2:00:00", "array_parallelism=4", "reservation=mine"),
        *("setup=module load cuda", "setup=ulimit -n 4096", "--exclusive=true"),
    )
    told = {name: (outcome.status, outcome.error) for name, outcome in machine.told.items()}
    lost = "its job ended in Slurm's state {} without a result and wrote nothing into "
    lost += f"{machine.files}, which all nodes must share, 2 times; log: logs/{{}}.txt"
    assert told == {
        "a": ("ok", None),
        "g": ("ok", None),
        "b": (
            "timeout",
            "Slurm ended its job at the time limit; --slurm time=MINUTES sets it; log: logs/b.txt",
        ),
        "c": (
            "out_of_memory",
            "Slurm ended its job, which used more memory than it had; --slurm mem=GIGABYTESG sets "
            "it; log: logs/c.txt",
        ),
        "d": ("failed", lost.format("NODE_FAIL", "d")),
        "e": (
            "failed",
            "its job was cancelled in Slurm, but not by this run; log: logs/e.txt",
        ),
        "f": ("failed", lost.format("COMPLETED", "f")),
        "h": ("failed", "StoreError: the disk is full, 2 times; log: logs/h.txt"),
        "i": ("timeout", "the task took more than 5 s (timeout_s)"),
    }
    assert "job: 2_0\nstate: NODE_FAIL\n" in (machine.folder / "logs" / "d.txt").read_text()
    assert TRACE in (machine.folder / "logs" / "h.txt").read_text()
    assert not machine.files.exists()
    # Arrays of at most four jobs, the second try of h, and the job that runs alone.
    scripts = fake_slurm.scripts(machine.slurm)
    arrays = [[line for line in script.splitlines() if "--array" in line] for script in scripts]
    full = ["#SBATCH --array=0-3%4"]
    assert arrays == [full, full, ["#SBATCH --array=0-2%3"], [], []]
    for line in (
        *("#SBATCH --partition=gpu", "#SBATCH --time=2:00:00", "#SBATCH --reservation=mine"),
        *("#SBATCH --cpus-per-task=3", "#SBATCH --gpus-per-node=1", "#SBATCH --no-requeue"),
        *("#SBATCH --exclusive", "#SBATCH --job-name=small-statistics"),
        "module load cuda\nulimit -n 4096",
    ):
        assert all(f"\n{line}\n" in script for script in scripts), line
    assert fake_slurm.calls(machine.slurm, "scancel") == []


def test_jobs_are_cancelled_where_a_run_ends_early_or_was_killed_before(machine: Machine) -> None:
    machine.files.mkdir()
    (machine.files / "7_submission.sh").touch()

    def interrupt() -> None:
        if fake_slurm.scripts(machine.slurm):
            raise KeyboardInterrupt

    machine.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        machine.run("abc", ["RUNNING", "RUNNING"], "array_parallelism=2")
    assert fake_slurm.calls(machine.slurm, "scancel") == [["--quiet", "7"], ["--quiet", "1"]]
    assert "cancelled in Slurm: 1\n" in machine.printed.getvalue()
    assert not machine.files.exists()


def test_a_refusal_ends_the_run_only_where_no_job_is_left(machine: Machine) -> None:
    with pytest.raises(ClusterError, match=r"Slurm refused the jobs: sbatch: error: .* partition"):
        machine.run("ab", ["refuse"], "partition=absent")

    def end() -> None:
        if len(fake_slurm.scripts(machine.slurm)) == 2 and machine.files.exists():
            machine.end("1_1")

    machine.before = end
    machine.run("abc", ["ok", "RUNNING", "refuse", "refuse", "ok"], "array_parallelism=2")
    assert {name: outcome.status for name, outcome in machine.told.items()} == dict.fromkeys(
        "abc", "ok"
    )
    assert machine.printed.getvalue().count("refused jobs; they will be retried: sbatch") == 1


@pytest.mark.parametrize(
    ("options", "changes", "words"),
    [
        (["partition"], {}, "--slurm partition must be KEY=VALUE"),
        (["nodes=2"], {}, "--slurm nodes=2: nodes is set by prune-sweep"),
        (["array-parallelism=0"], {}, "array_parallelism=0 must be a whole number"),
        ([], {"resources": {"gpus": 0.25}}, "resources.gpus is 0.25, but .* whole GPUs"),
        (["gres=shard:1"], {"resources": {"gpus": 0.25}}, None),
    ],
)
def test_options_are_checked_before_anything_is_written(
    options: list[str], changes: dict[str, Any], words: str | None, slurm: Path, spec: Any
) -> None:
    if words is None:
        Slurm(options).check(spec(changes))
        return
    with pytest.raises(SpecError, match=words):
        Slurm(options).check(spec(changes))


def test_a_machine_without_a_working_slurm_is_told(
    slurm: Path, spec: Callable[..., Spec], invoke: Callable[..., Result], tmp_path: Path
) -> None:
    (slurm / "bin" / "sacct").write_text("#!/bin/sh\necho accounting is disabled >&2; exit 1\n")
    with pytest.raises(ClusterError, match=r"sacct .* says: accounting is disabled"):
        Slurm().check(spec())
    (slurm / "bin" / "sbatch").unlink()
    done = invoke("run", "digits", "--executor", "slurm", "--out", tmp_path / "new")
    assert (done.exit_code, (tmp_path / "new").exists()) == (2, False)
    assert "there is no command sbatch here; run it on a login node" in done.stderr
    done = invoke("run", "digits", "--slurm", "partition=gpu", "--out", tmp_path / "new")
    assert (done.exit_code, (tmp_path / "new").exists()) == (2, False)
    assert "--slurm is for --executor slurm, not for --executor ray" in done.stderr


def test_slurm_alone_ends_a_task(store: Store, spec: Callable[..., Spec]) -> None:
    """Slurm warns a job before its time limit; submitit would raise an error in the task."""

    class Warned:
        def load(self) -> None:
            for number in (signal.SIGUSR1, signal.SIGUSR2):
                os.kill(os.getpid(), number)
            raise PluginError("it goes on")

    def handler(*_: object) -> None:
        raise RuntimeError("the job is not requeued")

    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        cell = plan(spec()).cells[0]
        workspace = Workspace(store.folder, "small", plugins=(Warned(),))  # type: ignore[arg-type]
        outcome = run_on_node(workspace, Task(cell.key, cell.label, cell), 1, None)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        for number, known in before.items():
            signal.signal(number, known)
    assert (outcome.status, "PluginError: it goes on" in str(outcome.error)) == ("failed", True)


@pytest.fixture
def local() -> Iterator[str]:
    """The name of an executor that runs the jobs with submitit on this machine."""

    @executor("submitit-local")
    class Local:
        def check(self, spec: Spec) -> None:
            """It can run every spec."""

        def execute(self, job: Job) -> None:
            folder = Path(str(job.workspace.folder)) / "slurm"
            here = LocalExecutor(folder)
            here.update_parameters(timeout_min=10)
            executors = dict.fromkeys(KINDS, here)
            Jobs(job, folder, executors, dict.fromkeys(KINDS, 1), at_once=2).execute()

    yield "submitit-local"
    del EXECUTORS["submitit-local"]


@pytest.mark.slow
def test_rows_are_those_of_one_process_and_a_second_run_continues(
    slurm: Path, local: str, run_digits: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(METRIC)
    plugin = ["--plugin", str(tmp_path / "mine.py")]
    serial, jobs = tmp_path / "serial", tmp_path / "jobs"
    assert run_digits(serial, GRID, "metrics=[widest,output_l1]", *plugin).exit_code == 0
    options = ["--executor", "slurm", "--slurm", "time=60"]
    done = run_digits(jobs, GRID, "metrics=[widest]", *plugin, *options)
    assert done.exit_code == 0, done.output
    assert "Slurm: at most 256 jobs at once, 1 CPU and 0 GPUs each, time=60\n" in done.output
    assert "[2/2] ok       digits seed 0 widest local 0.5" in done.output
    assert len(fake_slurm.scripts(slurm)) == 2
    assert not (jobs / "slurm").exists()
    # The same rows from submitit's own executor for one machine.
    done = run_digits(jobs, GRID, "metrics=[widest,output_l1]", *plugin, "--executor", local)
    assert "small: 2 cells, 1 done before, 1 to run" in done.output
    assert "[1/1] ok       digits seed 0 output_l1 local 0.5" in done.output
    assert len(fake_slurm.scripts(slurm)) == 2
    pd.testing.assert_frame_equal(table(jobs), table(serial))
    pd.testing.assert_frame_equal(results.load_scores(jobs), results.load_scores(serial))
