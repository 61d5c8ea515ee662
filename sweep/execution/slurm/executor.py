"""The executor that runs each task as a job of Slurm, through submitit; no Ray, no daemon."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from results.storage.locations import DiskFolder, folder_of
from sweep.errors import ClusterError
from sweep.execution.executor import Job, executor
from sweep.execution.resources import StageResources, resources_of
from sweep.execution.slurm.options import AT_ONCE, asks, parameters_of
from sweep.spec.fields import Spec
from sweep.stages.workspace import Workspace

# The default of submitit for one array; here it is for the whole run.
_AT_ONCE = 256


@executor("slurm")
class Slurm:
    """Runs each task as a job in arrays; this process stays on the login node and follows them.

    Parameters
    ----------
    options : texts KEY=VALUE, see `sweep.execution.slurm.options`.
    """

    def __init__(self, options: Sequence[str] = ()) -> None:
        self.options = tuple(options)

    def check(self, spec: Spec) -> None:
        """See `Executor`. submitit must be installed, and the commands of Slurm must work."""
        if find_spec("submitit") is None:
            raise ClusterError(
                "--executor slurm needs submitit; run pip install 'prune-sweep[slurm]'"
            )
        options = parameters_of(self.options)
        for kind, share in _shares(spec).items():
            asks(share, options, f"{spec.name}-{kind}")
        for command in ("sbatch", "srun", "scancel", "sacct"):
            if shutil.which(command) is None:
                raise ClusterError(
                    f"--executor slurm: there is no command {command} here; run it on a login node "
                    "of a cluster with Slurm"
                )
        asked = ["sacct", "--noheader", "--jobs", "1"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise ClusterError(
                f"--executor slurm: {' '.join(asked)} says: {answer.stderr.strip()}; a job that "
                "Slurm ends is found by its accounting, so it must work"
            )

    def execute(self, job: Job) -> None:
        """See `Executor`."""
        import submitit

        from sweep.execution.slurm.jobs import Jobs

        # It warns on both outputs when sacct does not answer once.
        logging.getLogger("submitit").setLevel(logging.CRITICAL)
        if job.spec.loggers:
            job.say("loggers are ignored by --executor slurm: they need --executor ray")
        options, shares = parameters_of(self.options), _shares(job.spec)
        at_once = options.get(AT_ONCE, _AT_ONCE)
        folder = _folder(job.workspace)
        executors: dict[str, submitit.Executor] = {}
        for kind, share in shares.items():
            executors[kind] = submitit.SlurmExecutor(folder)
            executors[kind].update_parameters(**asks(share, options, f"{job.spec.name}-{kind}"))
        asked = " or ".join(dict.fromkeys(map(str, shares.values())))
        words = [f"Slurm: at most {at_once} jobs at once", f"{asked} each", *self.options]
        job.say(", ".join(words))
        threads = {kind: share.threads for kind, share in shares.items()}
        Jobs(job, folder, executors, threads, at_once).execute()


def _shares(spec: Spec) -> StageResources:
    # The nodes are not known here, so `gpus: null` means none.
    return resources_of(spec.resources, [])


def _folder(workspace: Workspace) -> Path:
    """For the files of submitit, on a disk: a job cannot print into an object store."""
    folder = folder_of(workspace.folder)
    local = folder.path if isinstance(folder, DiskFolder) else Path("runs") / workspace.sweep
    return local.absolute() / "slurm"
