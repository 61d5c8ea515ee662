"""The executor that runs tasks with Ray Tune. It imports Ray late, as that takes seconds."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from results.storage.locations import DiskFolder, folder_of
from sweep.execution.capacity import Capacity
from sweep.execution.executor import Job, executor
from sweep.execution.resources import resources_of
from sweep.execution.tune import loggers
from sweep.execution.tune.address import check_address
from sweep.spec.fields import Spec
from sweep.stages.workspace import Workspace

if TYPE_CHECKING:
    from sweep.execution.tune.live import Live


@executor("ray")
class Tune:
    """Runs each task as a Ray Tune trial, on this machine or the cluster at RAY_ADDRESS."""

    def check(self, spec: Spec) -> None:
        """See `Executor`. The loggers of the spec must be installed."""
        loggers.check(spec.loggers)

    def execute(self, job: Job) -> None:
        """See `Executor`."""
        if address := os.environ.get("RAY_ADDRESS"):
            check_address(address)
        from sweep.execution.tune import trials
        from sweep.execution.tune.preflight import check_workspace
        from sweep.execution.tune.ray_cluster import Cluster

        spec = job.spec
        with Cluster(_ray_log(job.workspace)) as cluster:
            if len(cluster.nodes()) > 1:
                check_workspace(job.workspace)
            capacity = Capacity(
                resources_of(spec.resources, cluster.nodes()),
                cluster.nodes,
                spec.wait_for_nodes_s,
                spec.resources.scale_to,
                cluster.request,
            )
            capacity.check({task.kind for task in job.tasks})
            with (
                closing(capacity),
                _live(job) as live,
                job.progress(capacity.slots) as progress,
            ):
                scheduler = job.scheduler(progress, spec.retries)
                trials.execute(scheduler, capacity, spec.timeout_s, live)


def _live(job: Job) -> AbstractContextManager[Live | None]:
    spec = job.spec
    if not spec.loggers:
        return nullcontext()
    from sweep.execution.tune.live import Live, Recorder

    folder = loggers.folder_of(job.workspace.folder, spec.name)
    made = [(name, loggers.make(name, spec.name, folder)) for name in spec.loggers]
    job.say(f"live: {', '.join(spec.loggers)}; files on this machine are in {folder}")
    return Live([Recorder(name, logger, job.say) for name, logger in made])


def _ray_log(workspace: Workspace) -> Path:
    """A local file for Ray's output: an object store cannot append to a file."""
    folder = folder_of(workspace.folder)
    local = folder.path if isinstance(folder, DiskFolder) else Path("runs") / workspace.sweep
    local.mkdir(parents=True, exist_ok=True)
    return local / "ray.log"
