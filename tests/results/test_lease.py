"""One run at a time works on a results folder, and a dead run does not block it forever."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from results.storage.lease import LEASE, Lease, LeaseLost

HOLD = """
import sys, time
from pathlib import Path
from results.storage.lease import Lease
with Lease(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lease_is_gone_when_its_run_ends(tmp_path: Path) -> None:
    with Lease(tmp_path) as lease:
        assert json.loads((tmp_path / LEASE).read_text())["token"] == lease.token
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_waits_for_the_first_and_says_for_whom(tmp_path: Path) -> None:
    first = holder(tmp_path)
    told: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with Lease(tmp_path, told.append):
            entered.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not entered.wait(1.5)
    assert len(told) == 1
    assert str(first.pid) in told[0]
    first.communicate("\n")
    assert entered.wait(10)
    thread.join()


def test_a_killed_holder_on_this_machine_loses_the_lease_at_once(tmp_path: Path) -> None:
    first = holder(tmp_path)
    first.kill()
    first.wait()
    assert (tmp_path / LEASE).exists()
    with Lease(tmp_path, lifetime=3600):
        pass


@pytest.mark.parametrize(
    "content",
    [
        b'{"token": "a", "host": "elsewhere", "pid": 1}',
        b"",
        b"[]",
        b"\xff\xfe no JSON",
        b'{"host": 7}',
    ],
)
def test_a_lease_that_does_not_change_is_dead(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEASE).write_bytes(content)
    with Lease(tmp_path, lifetime=1.0) as lease:
        assert json.loads((tmp_path / LEASE).read_text())["token"] == lease.token


def test_a_stopped_holder_learns_that_it_lost_the_folder(tmp_path: Path) -> None:
    with Lease(tmp_path) as first:
        # As if another run had taken over while this one was suspended.
        (tmp_path / LEASE).write_text('{"token": "another", "host": "elsewhere", "pid": 1}')
        first.check()
        first._thread.join(30)
        with pytest.raises(LeaseLost, match="taken over"):
            first.check()
    assert "another" in (tmp_path / LEASE).read_text()


def test_a_run_that_was_stopped_for_too_long_loses_its_lease(tmp_path: Path) -> None:
    first = holder(tmp_path)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        with Lease(tmp_path, lifetime=1.0) as lease:
            lease.check()
    finally:
        os.kill(first.pid, signal.SIGCONT)
        first.communicate("\n")


def test_many_runs_take_over_a_dead_lease_one_at_a_time(tmp_path: Path) -> None:
    (tmp_path / LEASE).write_text('{"token": "dead", "host": "elsewhere", "pid": 1}')
    inside, most = 0, 0
    guard = threading.Lock()

    def run() -> None:
        nonlocal inside, most
        with Lease(tmp_path, lifetime=1.0):
            with guard:
                inside += 1
                most = max(most, inside)
            with guard:
                inside -= 1

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert list(tmp_path.iterdir()) == []
