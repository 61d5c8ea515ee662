"""One run at a time works on a results folder, and a dead run does not block it forever."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from results import StoreError
from results.storage.lease import LEASE, Lease, LeaseLost
from results.storage.processes import gone, owner

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
    ("changes", "expected"),
    [
        ({}, True),
        ({"host": "elsewhere"}, False),
        ({"boot": "another boot"}, False),
        ({"pid_namespace": "pid:[1]"}, False),
        ({"pid": None}, False),
        ({"pid": os.getpid()}, False),
    ],
    ids=["ended", "host", "boot", "container", "no process", "running"],
)
def test_a_holder_is_gone_only_if_this_process_can_tell(
    changes: dict[str, object], expected: bool
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert gone(owner("token", 1) | {"pid": ended.pid} | changes) is expected


@pytest.mark.parametrize("absent", ["host", "boot", "pid_namespace", "pid"])
def test_a_lease_of_an_earlier_version_is_not_taken_at_once(absent: str) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    holder = owner("token", 1) | {"pid": ended.pid}
    del holder[absent]
    assert not gone(holder)


IN_A_CONTAINER = """
import sys
from pathlib import Path
from results.storage.lease import Lease
def stop(holder):
    print("waits for", holder, flush=True)
    sys.exit()
with Lease(Path(sys.argv[1]), stop):
    print("took the lease", flush=True)
"""


def test_a_container_with_the_same_host_name_waits_for_a_live_holder(tmp_path: Path) -> None:
    # In the container the holder's process id is free.
    inside = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], check=False).returncode:
        pytest.skip("this user cannot make a container")
    with Lease(tmp_path):
        command = [*inside, sys.executable, "-c", IN_A_CONTAINER, str(tmp_path)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told == f"waits for process {os.getpid()} on {socket.gethostname()}\n"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_folder_that_accepts_no_files_cannot_be_held() -> None:
    with pytest.raises(StoreError, match=r"/proc/lease\.json cannot be written"), Lease("/proc"):
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
