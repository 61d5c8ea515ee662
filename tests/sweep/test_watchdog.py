"""A process that works on one task for too long is ended, whatever state it is in."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.execution.watchdog import forget, note, timed_out

WORKER = """
import os, signal, sys, time
from pathlib import Path
from sweep.execution.watchdog import Watchdog
folder, seconds, behaviour = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
dog = Watchdog(folder, seconds)
with dog.watching("cell-1"):
    if behaviour == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    while behaviour == "busy":
        pass
time.sleep(2 * seconds)
dog.close()
print("alive")
"""


def worker(folder: Path, seconds: float, behaviour: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WORKER, str(folder), str(seconds), behaviour]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("behaviour", ["busy", "stopped"])
def test_a_worker_that_hangs_is_killed_and_the_reason_is_left(
    tmp_path: Path, behaviour: str
) -> None:
    ended = worker(tmp_path, 1.0, behaviour)
    assert ended.returncode == -signal.SIGKILL
    assert timed_out(tmp_path, "cell-1") == "the task took more than 1.0 s (timeout_s)"
    forget(tmp_path)
    assert timed_out(tmp_path, "cell-1") is None


def test_a_worker_that_is_done_in_time_lives_on(tmp_path: Path) -> None:
    ended = worker(tmp_path, 1.0, "quick")
    assert (ended.returncode, ended.stdout) == (0, "alive\n")
    assert timed_out(tmp_path, "cell-1") is None


def test_the_watching_process_ends_with_its_worker() -> None:
    code = (
        "import os, signal; from pathlib import Path\n"
        "from sweep.execution.watchdog import Watchdog\n"
        "dog = Watchdog(Path('.'), 3600.0)\n"
        "print(dog._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    watching = int(started.stdout)
    for _ in range(1000):
        try:
            os.kill(watching, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{watching}/stat").read_text().split()[2] == "Z":
            return
        os.sched_yield()
        subprocess.run(["true"], check=True)
    pytest.fail("the watching process outlives its worker")


def test_a_task_name_cannot_lead_out_of_the_folder() -> None:
    assert note("../../etc/passwd\n") == "etcpasswd"
