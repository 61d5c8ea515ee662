"""Processes are killed, and the final table is the same as in an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from faults.disturbance import Sweep, pause, run, table

Start = Callable[..., Sweep]
# Ray's processes wait so long for a driver that is gone; a minute if nothing is set.
SOON = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}


@pytest.fixture(scope="module")
def orphans() -> Iterator[dict[int, str]]:
    """Processes of drivers that were killed. When all tests have run, they must have ended."""
    found: dict[int, str] = {}
    yield found
    # Ray's last processes notice only after about a minute that the driver is gone.
    for _ in range(1500):
        if not (alive := [pid for pid in found if _alive(pid)]):
            break
        pause()
    assert not alive, [found[pid] for pid in alive]


def test_killed_workers_cost_only_the_cells_in_flight(
    spec: Path, start: Start, undisturbed: pd.DataFrame, chance: random.Random
) -> None:
    sweep = start(spec)
    # The first kill hits the training of the baseline, the others hit cells.
    for done in (0, 2, 4):
        sweep.until_cells(done)
        kept = {path: path.stat().st_mtime_ns for path in sweep.finished()}
        if workers := sweep.workers():
            os.kill(chance.choice(workers), signal.SIGKILL)
        for _ in range(chance.randrange(10)):
            pause()
        assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    code, out = sweep.end()
    assert code == 0, out
    pd.testing.assert_frame_equal(table(sweep.folder), undisturbed)


def test_after_kill_9_of_the_driver_the_next_run_goes_on(
    spec: Path,
    start: Start,
    undisturbed: pd.DataFrame,
    chance: random.Random,
    orphans: dict[int, str],
) -> None:
    sweep = start(spec, **SOON)
    sweep.until_cells(chance.randint(2, 4))
    # A Ray that we start listens on 127.0.0.1 only, here also in its IPv6 form.
    assert sweep.listens_on() <= {"0100007F", "0000000000000000FFFF00000100007F"}
    orphans.update(sweep.family())
    sweep.process.kill()
    sweep.process.wait()
    kept = {path: path.stat().st_mtime_ns for path in sweep.finished()}
    assert kept
    ended = run(sweep.folder, spec)
    assert ended.exit_code == 0, ended.output
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    pd.testing.assert_frame_equal(table(sweep.folder), undisturbed)


def test_a_stopped_worker_is_ended_and_its_cell_gets_a_row(
    spec: Path, start: Start, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    limited = tmp_path / "limited.yaml"
    limited.write_text(spec.read_text() + "timeout_s: 20\n")
    sweep = start(limited)
    sweep.until_cells(2)
    sweep.stop_a_worker()
    code, out = sweep.end()
    assert code == 1, out
    frame = table(sweep.folder)
    late = frame[frame["status"] != "ok"]
    # Without the limit the run would never end. Where others use the processors, a cell whose
    # worker was not stopped may be late as well.
    assert set(late["status"]) == {"timeout"}
    assert late["error"].str.contains("20").all()
    ended = run(sweep.folder, limited, "--retry", "timeout")
    assert ended.exit_code == 0, ended.output
    pd.testing.assert_frame_equal(table(sweep.folder), undisturbed)


@pytest.mark.skipif(sys.platform != "linux", reason="two raylets on one machine need Linux")
def test_a_killed_node_costs_only_the_cells_in_flight(
    spec: Path, start: Start, undisturbed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, connect=False, head_node_args={"num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        sweep = start(spec, RAY_ADDRESS=cluster.address)
        sweep.until_cells(3)
        cluster.remove_node(second, allow_graceful=False)
        code, out = sweep.end()
    finally:
        cluster.shutdown()
    assert code == 0, out
    pd.testing.assert_frame_equal(table(sweep.folder), undisturbed)


def test_two_drivers_on_one_folder_run_no_cell_twice(
    spec: Path, start: Start, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    # Whoever runs the tasks does so under the lease of the folder.
    first, second = (start(spec, "--executor", "serial") for _ in range(2))
    ends = [first.end(), second.end()]
    assert [code for code, _ in ends] == [0, 0], ends
    lines = [line for _, out in ends for line in out.splitlines() if "/" in line[:8]]
    assert len(lines) == len(undisturbed) + 2  # the baseline and its statistics
    pd.testing.assert_frame_equal(table(tmp_path / "runs"), undisturbed)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
