"""Overhead of a cell: runs cells whose stages do nothing through Ray Tune.

python tests/benchmarks/empty_cells.py [--cells 5000] [--slots 2] [--profile]

For every 1,000 cells it prints the seconds per cell and the memory of the driver. Everything but
the stages is as in a real run: the queue, Tune's trials in their processes, the files of the rows
and the progress table.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sweep.execution.capacity import Capacity
from sweep.execution.progress import Progress
from sweep.execution.resources import resources_of
from sweep.execution.scheduler import Scheduler
from sweep.execution.tasks import Outcome, Task
from sweep.planning.cells import Cell
from sweep.planning.grid import plan
from sweep.spec.parsing import parse
from sweep.stages.rows import Row
from sweep.stages.workspace import Workspace

SPEC = """
name: empty
datasets: [digits]
network: {variant: simplenet_310k, width: 0.125}
recipe: {epochs: 0}
finetune: {epochs: 0}
metrics: [output_l1]
ratios: [0.5]
scopes: [local]
resources: {gpus: 0}
"""
BLOCK = 1_000


def do_nothing() -> None:
    """Replaces the work of a cell, in each process that runs trials."""
    from sweep.execution import run_task

    def cell(workspace: Workspace, wanted: Cell, row: Row, *rest: object) -> None:
        row |= dict.fromkeys(["finetuned_test_top1", "finetuned_validation_top1"], wanted.ratio)

    run_task.cell = cell


class Watched(Progress):
    """Progress that also prints time and memory."""

    cells = 0
    began = time.perf_counter()

    def ended(self, task: Task, outcome: Outcome) -> None:
        """See `Progress`."""
        super().ended(task, outcome)
        assert outcome.status == "ok", outcome.error
        self.cells += 1
        if self.cells == 1:
            # Measure from here: Ray's processes have started.
            self.began = time.perf_counter()
        elif self.cells % BLOCK == 1:
            now = time.perf_counter()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            each = (now - self.began) / BLOCK
            print(f"{self.cells - 1:>7,} cells  {each:.4f} s each  driver {memory:,.0f} MiB")
            self.began = now


def main() -> None:
    """Runs the cells."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cells", type=int, default=5_000)
    options.add_argument("--slots", type=int, default=os.cpu_count())
    options.add_argument("--profile", action="store_true", help="profile the driver")
    chosen = options.parse_args()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    spec = parse(SPEC, "empty")
    (template,) = plan(spec).cells
    count = chosen.cells + 1
    cells = [replace(template, ratio=(index + 1) / (count + 1)) for index in range(count)]
    tasks = [Task(f"cell-{cell.key}", cell.label, cell) for cell in cells]

    from sweep.execution.tune.ray_cluster import Cluster  # sets variables for the import of Ray

    # isort: split
    import ray

    from sweep.execution.tune import trials

    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), "empty")
        workspace.store.create()
        began = time.perf_counter()
        ray.init(
            "local",
            num_cpus=chosen.slots,
            include_dashboard=False,
            object_store_memory=256 * 1024**2,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"worker_process_setup_hook": do_nothing},
        )
        print(f"Ray started in {time.perf_counter() - began:.1f} s, {chosen.slots} slots")
        nodes = Cluster(Path(folder) / "ray.log").nodes()
        capacity = Capacity(resources_of(spec.resources, nodes), lambda: nodes, 600)
        profile = cProfile.Profile() if chosen.profile else nullcontext()
        watched = Watched(Console(quiet=True), tasks, capacity.slots, workspace.folder)
        with watched as progress, profile:
            began = time.perf_counter()
            trials.execute(Scheduler(workspace, tasks, progress), capacity)
            seconds = time.perf_counter() - began
        print(f"{count:,} cells in {seconds:.1f} s, {seconds / count:.4f} s each")
        assert len(workspace.store.statuses()) == count
        ray.shutdown()
    if isinstance(profile, cProfile.Profile):
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
