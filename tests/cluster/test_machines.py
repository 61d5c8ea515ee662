"""Nodes of a cluster are killed, frozen and disconnected while a sweep runs on them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from faults.disturbance import pause, table
from faults.machines import Machine, Network, Unavailable

import results

# With these settings Ray gives up a node that does not answer after about ten seconds, not after
# a minute.
HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
CUT_SECONDS = 30
METRICS = "output_l1, input_l1, bn_scale, random"
# These ratios run first, so their cells are running when the nodes are lost.
FIRST = "0.9, 0.85"
RATIOS = f"{FIRST}, 0.8, 0.75, 0.7, 0.65"
CELLS = 48
Ended = Callable[..., tuple[int, str, str]]


class RayCluster:
    """A head node without CPUs for trials, and nodes with one CPU each."""

    def __init__(self, network: Network, environment: dict[str, str]) -> None:
        self.network, self._environment = network, environment | HEALTH_CHECKS
        self.ray = Path(environment["PATH"].partition(":")[0]) / "ray"
        self.head = network.machine("head")
        self._start(self.head, "--head", "--num-cpus=0", "--dashboard-host=0.0.0.0")
        self.address = f"http://{self.head.address}:8265"

    def join(self, name: str, before: tuple[str, ...] = ("true",)) -> Machine:
        """Starts a node, runs a command on it, and adds it to the cluster."""
        machine = self.network.machine(name)
        machine.run(*before)
        self._start(machine, f"--address={self.head.address}:6379", "--num-cpus=1")
        return machine

    def leave(self, machine: Machine) -> None:
        """Removes a node from the cluster, and stops it."""
        machine.run(self.ray, "stop", **self._environment)
        machine.off()

    def _start(self, machine: Machine, *words: str) -> None:
        memory = "--object-store-memory=100000000"
        machine.run(self.ray, "start", *words, memory, **self._environment)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    try:
        with Network() as network:
            yield network
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def cluster(network: Network, environment: dict[str, str]) -> RayCluster:
    return RayCluster(network, environment)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all nodes share."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def steady(cluster: RayCluster) -> Machine:
    """A node that is not disturbed."""
    return cluster.join("steady")


def test_a_node_without_the_folder_is_named_before_the_first_trial(
    cluster: RayCluster,
    steady: Machine,
    shared: Path,
    write_spec: Callable[..., Path],
    ended: Ended,
) -> None:
    bare = cluster.join("bare", ("mount", "-t", "tmpfs", "tmpfs", str(shared.parent)))
    out = shared / "early"
    code, said, _ = ended("submit", write_spec("early"), "--address", cluster.address, "--out", out)
    cluster.leave(bare)
    assert code == 2, said
    assert f"node {bare.address} " in said
    assert steady.address not in said
    assert str(out) in said
    assert not list((out / "cells").glob("*.parquet"))


# Four nodes start on one machine, which may have other work.
@pytest.mark.timeout(1200)
def test_lost_nodes_change_no_row(
    cluster: RayCluster,
    steady: Machine,
    shared: Path,
    write_spec: Callable[..., Path],
    command: Callable,
    ended: Ended,
) -> None:
    killed, frozen, cut = (cluster.join(name) for name in ("killed", "frozen", "cut"))
    out = shared / "runs"
    spec = write_spec("machines", METRICS, RATIOS, epochs=4)
    sweep = command("submit", spec, "--address", cluster.address, "--out", out)
    everybody = {"steady", "killed", "frozen", "cut"}
    while _hosts(out) != everybody:
        assert sweep.poll() is None, sweep.communicate()
        pause()

    killed.run("pkill", "-KILL", "raylet")
    frozen.freeze()
    cut.cut()
    until = time.monotonic() + CUT_SECONDS
    # Meanwhile, another CPU computes the expected rows.
    alone = write_spec("machines", METRICS, FIRST, epochs=4)
    local = ended("run", alone, "--out", shared / "alone", "--executor", "serial")
    assert local[0] == 0, local
    # On a fast machine few cells are left earlier. The nodes must come back while the sweep runs.
    while time.monotonic() < until and len(list((out / "cells").glob("*.parquet"))) < CELLS - 6:
        assert sweep.poll() is None, sweep.communicate()
        pause()
    cut.mend()
    frozen.thaw()

    said, errors = sweep.communicate(timeout=1000)
    assert sweep.returncode == 0, said + errors
    assert f"{CELLS} of {CELLS} cells ok" in said
    assert "its process was lost; the task will be retried" in said
    rows, expected = table(out), table(shared / "alone")
    pd.testing.assert_frame_equal(
        rows[rows["key"].isin(expected["key"])].reset_index(drop=True), expected
    )
    assert len(rows) == rows["key"].nunique() == CELLS


@pytest.mark.timeout(1200)
def test_the_slurm_script_starts_ray_on_its_nodes_and_runs_a_sweep(
    network: Network, shared: Path, write_spec: Callable[..., Path], environment: dict[str, str]
) -> None:
    first, second = nodes = [network.machine(name) for name in ("first", "second")]
    # As Debian writes it: the own name is an address on which no other node can reach this one.
    hosts = {
        node: f"127.0.0.1 localhost\n127.0.1.1 {node.name}\n{other.address} {other.name}\n"
        for node, other in ((first, second), (second, first))
    }
    for node, text in hosts.items():
        node.run("sh", "-c", 'printf %s "$0" > /etc/hosts', text)
        # The nodes share this machine's disk, but the sockets of each are its own.
        sockets = f"/tmp/ray-{os.getuid()}"
        node.run("sh", "-c", 'mkdir -p "$0" && mount -t tmpfs tmpfs "$0"', sockets)
    tools = shared / "slurm"
    tools.mkdir()
    # A substitute for srun: one process on each node of the job, with the same environment.
    starts = "\n".join(f'{shlex.join(node.command())} "$@" & pids="$pids $!"' for node in nodes)
    _write_command(
        tools / "srun",
        f"shift\n{starts}\ncode=0\nfor pid in $pids; do wait $pid || code=$?; done\nexit $code",
    )
    _write_command(tools / "scontrol", "printf '%s\\n' first second")
    out, long = shared / "by-slurm", shared / ("long" * 20)
    long.mkdir()
    job = {
        "PATH": f"{tools}:{environment['PATH']}",
        "VENV": str(Path(sys.prefix)),
        "SPEC": str(write_spec("slurm", ratios="0.3, 0.4, 0.5, 0.6")),
        "OUT": str(out),
        "DATA": str(shared),
        "TMPDIR": str(long),
        "SLURM_JOB_NODELIST": "made-up",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
        # How long the second node waits for a head that has ended, else a minute. On the first one
        # `ray stop` must end within this time.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "30",
    }
    own = {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH")}
    script = files("cluster") / "files" / "slurm.sbatch"
    # Slurm runs the script on the first node. The substitute for srun must see the processes of
    # this machine, so the script has only the network and the hosts file of the first node.
    (shared / "hosts").write_text(hosts[first])
    there = ["nsenter", "--target", first.first, "--net", "--uts", "--", "unshare", "--mount"]
    begin = 'mount --bind "$0" /etc/hosts && exec bash "$1"'
    ended = subprocess.run(
        [*there, "sh", "-c", begin, shared / "hosts", str(script)],
        env=own | job,
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "8 of 8 cells ok" in ended.stdout
    assert "On worker node. Connecting to Ray cluster" in ended.stdout
    # Ray starts without its dashboard too, but waits a minute for it.
    log = first.run("cat", f"/tmp/ray-{os.getuid()}/ray/session_latest/logs/dashboard.log")
    assert "AF_UNIX path too long" not in log
    assert _hosts(out) <= {"first", "second"}


def _write_command(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def _hosts(folder: Path) -> set[str]:
    """The hosts on which the finished cells ran."""
    if not (folder / "format.json").exists():
        return set()
    return set(results.load(folder)["host"])
