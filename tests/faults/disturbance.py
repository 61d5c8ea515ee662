"""A running sweep, the processes that it started, and its table of results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from click.testing import Result
from typer.testing import CliRunner

import results
from sweep.commands.cli import app

# Columns that may differ after an interruption: times, hosts and the commit.
VOLATILE = ["started_at", "finished_at", "host", "git_revision"]

SPEC = """
name: faults
datasets: [{source: digits, train_images: 200, test_images: 40, image_size: 16}]
network: {variant: simplenet_310k, width: 0.125}
seeds: [0]
recipe: {epochs: 1, batch_size: 64}
finetune: {epochs: 1, batch_size: 64, learning_rate: 0.05}
controls: {unpruned: false}
metrics: [output_l1, entropy_gaussian]
ratios: [0.4, 0.6]
resources: {cpus: 1, gpus: 0}
"""

COMMAND = [sys.executable, "-c", "from sweep.commands.cli import app; app()"]


def table(folder: Path) -> pd.DataFrame:
    """All rows of a results folder, without columns that differ from run to run."""
    frame = results.load(folder)
    return frame.drop(columns=[*VOLATILE, *frame.filter(regex="seconds|latency").columns])


def run(folder: Path, spec: Path, *options: str) -> Result:
    """Runs `prune-sweep run` to its end, in this process and without Ray."""
    words = ["run", str(spec), "--out", str(folder), "--executor", "serial", *options]
    return CliRunner().invoke(app, words)


@dataclass
class Sweep:
    """A running `prune-sweep run`."""

    folder: Path
    process: subprocess.Popen[str]

    def until_cells(self, count: int) -> None:
        """Waits until this many cells have a result, or the run ends."""
        while self.process.poll() is None and len(self.finished()) < count:
            pause()

    def finished(self) -> list[Path]:
        """The files of the cells that are done."""
        return sorted((self.folder / "cells").glob("*.parquet"))

    def family(self) -> dict[int, str]:
        """All processes that the run started: their ids and command lines."""
        return descendants(self.process.pid)

    def workers(self) -> list[int]:
        """Ids of processes that run trials; waits for at least one, unless the run has ended."""
        while True:
            names = self.family().items()
            found = [pid for pid, name in names if name.startswith("ray::Resource")]
            if found or self.process.poll() is not None:
                return found
            pause()

    def stop_a_worker(self) -> None:
        """Stops a process while it runs a task, as if it hung."""
        while True:
            pid = self.workers()[0]
            os.kill(pid, signal.SIGSTOP)
            # Between two tasks there is no time limit.
            if self.family().get(pid) == "ray::ResourceTrainable.train":
                return
            os.kill(pid, signal.SIGCONT)
            pause()

    def listens_on(self) -> set[str]:
        """Addresses on which its processes listen, in the kernel's hexadecimal form."""
        inodes = set()
        for pid in self.family():
            for link in Path(f"/proc/{pid}/fd").glob("*"):
                with suppress(OSError):
                    inodes.add(str(link.readlink()))
        found = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                    found.add(fields[1].partition(":")[0])
        return found

    def end(self) -> tuple[int, str]:
        """Waits for the end; returns the exit code and all output."""
        out, _ = self.process.communicate(timeout=400)
        return self.process.returncode, out


def pause() -> None:
    """Waits for a moment, so that other processes can run."""
    subprocess.run(["sleep", "0.1"], check=True)


def descendants(ancestor: int) -> dict[int, str]:
    """The ids and command lines of all descendants of a process."""
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    children: dict[int, list[tuple[int, str]]] = {}
    for line in listing.splitlines():
        pid, parent, name = line.split(maxsplit=2)
        children.setdefault(int(parent), []).append((int(pid), name))
    found: dict[int, str] = {}
    waiting = [ancestor]
    while waiting:
        for pid, name in children.get(waiting.pop(), []):
            found[pid] = name
            waiting.append(pid)
    return found
