"""The share of a cluster's time that is spent in trials.

python tests/benchmarks/scaling.py nodes                 real cells on one and on two nodes
python tests/benchmarks/scaling.py sleep --slots 8       sleeping cells through Ray Tune
python tests/benchmarks/scaling.py simulate --event S    3,000 cells on 8, 64 and 512 slots

`nodes` uses simulated nodes (Linux network namespaces) and needs root. `sleep` measures the
overhead of Tune and the driver with cells that sleep, on as many logical CPUs as the memory allows.
From its seconds per event, `simulate` computes the share for more slots on a virtual clock: the
real scheduler gives out tasks, the driver handles one event at a time, and each wave of trials ends
before the next begins, as in `sweep.execution.tune.trials`.
"""

from __future__ import annotations

import argparse
import heapq
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.console import Console

import results
from sweep.execution.progress import Progress
from sweep.execution.resources import resources_of
from sweep.execution.scheduler import Scheduler
from sweep.execution.tasks import Outcome, Task
from sweep.planning.cells import Cell
from sweep.planning.grid import plan
from sweep.spec.parsing import parse
from sweep.stages.rows import Row
from sweep.stages.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
SECONDS = "SCALING_SECONDS"
SPEC = """
name: scaling
datasets: [{source: digits, train_images: 600}]
network: {variant: simplenet_310k, width: 0.25}
recipe: {epochs: 1}
finetune: {epochs: 4, batch_size: 64, learning_rate: 0.05}
controls: {unpruned: false}
metrics: [output_l1, input_l1]
ratios: [0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9]
resources: {gpus: 0}
"""


def duration(cell: Cell, mean: float) -> float:
    """Seconds of a cell, in proportion to the multiplications of the pruned network."""
    return mean * (0.2 + cell.ratio) / 0.7


def made_up(count: int) -> tuple[list[Cell], list[Task]]:
    """Cells with ratios between 0 and 1 and a mean of 0.5, longest first, and their tasks."""
    (template, *_) = plan(parse(SPEC, "scaling")).cells
    cells = [replace(template, ratio=(count - index) / (count + 1)) for index in range(count)]
    return cells, [Task(f"cell-{cell.key}", cell.label, cell) for cell in cells]


def nodes() -> None:
    """Runs real cells on one and on two simulated nodes, each with one CPU."""
    sys.path.append(str(ROOT / "tests"))
    from faults.machines import Network

    environment = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    binaries = Path(sys.executable).parent
    for count in (1, 2):
        with Network() as network, tempfile.TemporaryDirectory() as folder:
            head = network.machine("head")
            ray = [binaries / "ray", "start", "--object-store-memory=100000000"]
            address = f"--node-ip-address={head.address}"
            head.run(*ray, "--head", "--num-cpus=0", address, **environment)
            for number in range(count):
                node = network.machine(f"node{number}")
                own = f"--node-ip-address={node.address}"
                join = f"--address={head.address}:6379"
                node.run(*ray, join, "--num-cpus=1", own, **environment)
            spec = Path(folder) / "scaling.yaml"
            spec.write_text(SPEC)
            run = head.command(binaries / "prune-sweep", "run", spec, "--out", f"{folder}/runs")
            joined = environment | {"RAY_ADDRESS": f"{head.address}:6379"}
            began = time.perf_counter()
            subprocess.run(run, check=True, env=os.environ | joined, stdout=subprocess.DEVNULL)
            wall = time.perf_counter() - began
            frame = results.load(f"{folder}/runs")
            assert set(frame["status"]) == {"ok"}
            ends, starts = frame["finished_at"], frame["started_at"]
            cells = (ends.max() - starts.min()).total_seconds()
            busy = (ends - starts).dt.total_seconds().sum() / (count * cells)
            per_node = ", ".join(str(n) for n in Counter(frame["host"]).values())
            print(
                f"{count} nodes: {len(frame)} cells ({per_node}) in {wall:.1f} s, {cells:.1f} s "
                f"of them from the first cell to the last, {100 * busy:.1f} % of the slots' time"
            )


def sleep_instead() -> None:
    """Replaces the work of a cell, in each process that runs trials."""
    from sweep.execution import run_task

    mean = float(os.environ[SECONDS])

    def cell(workspace: Workspace, wanted: Cell, row: Row, *rest: object) -> None:
        time.sleep(duration(wanted, mean))
        row["finetuned_test_top1"] = row["finetuned_validation_top1"] = wanted.ratio

    run_task.cell = cell


class Timed(Progress):
    """Progress that also records when tasks start and end."""

    def note(self) -> None:
        """Starts recording."""
        self.starts: list[float] = []
        self.ends: list[float] = []

    def started(self, task: Task) -> None:
        """See `Progress`."""
        super().started(task)
        self.starts.append(time.perf_counter())

    def ended(self, task: Task, outcome: Outcome) -> None:
        """See `Progress`."""
        super().ended(task, outcome)
        assert outcome.status == "ok", outcome.error
        self.ends.append(time.perf_counter())


def sleep(slots: int, count: int, mean: float) -> None:
    """Runs sleeping cells through Ray Tune, on this many logical CPUs."""
    os.environ |= {"RAY_AUTH_MODE": "disabled", SECONDS: str(mean)}
    os.environ.pop("RAY_ADDRESS", None)
    spec = parse(SPEC, "scaling")
    cells, tasks = made_up(count)
    from sweep.execution.tune.ray_cluster import Cluster  # sets variables for the import of Ray

    # isort: split
    import ray

    from sweep.execution.capacity import Capacity
    from sweep.execution.tune import trials

    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), "scaling")
        workspace.store.create()
        ray.init(
            "local",
            num_cpus=slots,
            include_dashboard=False,
            object_store_memory=256 * 1024**2,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"worker_process_setup_hook": sleep_instead},
        )
        living = Cluster(Path(folder) / "ray.log").nodes()
        capacity = Capacity(resources_of(spec.resources, living), lambda: living, 600)
        with Timed(Console(quiet=True), tasks, capacity.slots, workspace.folder) as progress:
            progress.note()
            processor = time.process_time()
            trials.execute(Scheduler(workspace, tasks, progress), capacity)
            processor = time.process_time() - processor
        ray.shutdown()
    work = sum(duration(cell, mean) for cell in cells)
    wall = max(progress.ends) - min(progress.starts)
    # When each process has finished a cell, no more processes have to be started.
    warm = progress.ends[slots - 1]
    late = [end for end in progress.ends if end > warm]
    print(
        f"{slots} slots, {count} cells of {mean:g} s on average: {wall:.1f} s, "
        f"{100 * work / slots / wall:.1f} % of the slots' time is trial time; "
        f"{1000 * processor / count:.1f} ms of the driver's processor a cell, "
        f"{1000 * (late[-1] - warm) / max(1, len(late)):.1f} ms from one end to the next"
    )


def simulate(slots: int, count: int, mean: float, event: float, start: float) -> float:
    """The share of the slots' time that is spent in trials, on a virtual clock.

    Parameters
    ----------
    event : seconds of the driver for the end of a trial and the start of the next.
    start : seconds until a new process can work. Each experiment of Tune has new processes.
    """
    from sweep.execution.tune.trials import wave_of

    cells, tasks = made_up(count)
    workspace = Workspace(Path(tempfile.gettempdir()), "scaling")
    with tempfile.TemporaryDirectory() as folder:
        slotted = dict.fromkeys(("baseline", "statistics", "cell"), slots)
        progress = Progress(Console(quiet=True), tasks, slotted, Path(folder))
        scheduler = Scheduler(workspace, tasks, progress)
        clock = 0.0
        while not scheduler.finished:
            clock = _wave(scheduler, slots, mean, event, start, wave_of(slots), clock)
    return sum(duration(cell, mean) for cell in cells) / (slots * clock)


def _wave(
    scheduler: Scheduler,
    slots: int,
    mean: float,
    event: float,
    start: float,
    wave: int,
    clock: float,
) -> float:
    driver, running = clock, []
    offered = 0

    def offer(now: float, new: float) -> None:
        nonlocal driver, offered
        if offered == wave or (task := scheduler.next()) is None:
            return
        offered += 1
        scheduler.started(task)
        driver = max(driver, now) + event
        assert isinstance(task.work, Cell)
        ends = driver + new + duration(task.work, mean)
        heapq.heappush(running, (ends, task.name, task))

    for _ in range(slots):
        offer(clock, start)
    while running:
        now, _, task = heapq.heappop(running)
        clock = max(clock, now)
        scheduler.ended(task, Outcome("ok"))
        offer(now, 0.0)
    return max(clock, driver)


def main() -> None:
    """Runs the chosen measurement."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("what", choices=["nodes", "sleep", "simulate"])
    options.add_argument("--slots", type=int, default=8)
    options.add_argument("--cells", type=int, default=3_000)
    options.add_argument("--seconds", type=float, default=60.0, help="mean seconds of a cell")
    options.add_argument("--event", type=float, default=0.03, help="driver seconds per trial")
    options.add_argument("--start", type=float, default=20.0, help="seconds to start a process")
    chosen = options.parse_args()
    if chosen.what == "nodes":
        nodes()
    elif chosen.what == "sleep":
        sleep(chosen.slots, chosen.cells, chosen.seconds)
    else:
        for slots in (8, 64, 512):
            found = simulate(slots, chosen.cells, chosen.seconds, chosen.event, chosen.start)
            print(f"{slots} slots: {100 * found:.1f} % of the slots' time is trial time")


if __name__ == "__main__":
    main()
