"""The CPUs that a process may use are those of its affinity and of its control groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from prune_core.cpus import usable_cpus
from sweep.execution.resources import this_machine


@pytest.fixture(autouse=True)
def _eight(monkeypatch):
    """A machine with 8 CPUs."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


VERSION_1 = "11:cpu,cpuacct:/docker/a\n3:memory:/docker/a\n"
CASES = {
    "no limit": ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
    "docker --cpus 2": ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
    "docker --cpus 2.5": ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
    "docker --cpus 0.5": ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
    "more than there are": ("0::/\n", {"cpu.max": "9900000 100000\n"}, 8),
    "a slice": (
        "0::/user.slice/mine\n",
        {"user.slice/cpu.max": "300000 100000\n", "user.slice/mine/cpu.max": "max 100000\n"},
        3,
    ),
    "a path of the host": ("0::/host/docker/b\n", {"cpu.max": "400000 100000\n"}, 4),
    "version 1": (
        VERSION_1,
        {"cpu/docker/a/cpu.cfs_quota_us": "150000\n", "cpu/docker/a/cpu.cfs_period_us": "50000\n"},
        3,
    ),
    "version 1, no limit": (
        VERSION_1,
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        8,
    ),
    "damaged": ("0::/\n", {"cpu.max": "?\n"}, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_a_quota_of_a_control_group(case, tmp_path):
    groups, files, expected = CASES[case]
    assert usable_cpus(machine(tmp_path, groups, files)) == expected


def test_the_smaller_of_affinity_and_quota(tmp_path, monkeypatch):
    root = machine(tmp_path, "0::/\n", {"cpu.max": "400000 100000\n"})
    for allowed, expected in ((1, 1), (6, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=allowed: set(range(n)))
        assert usable_cpus(root) == expected


def test_a_system_without_either(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cpus(tmp_path) == 8


def test_taskset_limits_the_machine_of_a_sweep():
    script = (
        "import os\n"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "os.cpu_count = lambda: 8\n"
        "from sweep.execution.resources import this_machine\n"
        "print(this_machine().cpus)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1.0\n"


def test_plan_counts_the_usable_ones(invoke, write_spec, tmp_path, monkeypatch):
    root = machine(tmp_path / "root", "0::/\n", {"cpu.max": "300000 100000\n"})
    monkeypatch.setattr("sweep.execution.resources.usable_cpus", lambda: usable_cpus(root))
    assert this_machine().cpus == 3
    path = write_spec({"resources": {"cpus": 1}})
    done = invoke("plan", path, "--out", tmp_path / "runs")
    assert "3 at a time" in done.stdout, done.output


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "nowhere", "image.png"],
        ["export", "nowhere", "key", "--to", "there"],
        ["prune", "nowhere", "--dataset", "digits", "--ratio", "0.5"],
    ],
    ids=lambda words: words[0],
)
def test_commands_without_trials_use_no_more_threads(words, invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sweep.execution.resources.usable_cpus", lambda: 2)
    torch.set_num_threads(3)
    assert invoke(*words).exit_code == 2
    assert torch.get_num_threads() == 2
