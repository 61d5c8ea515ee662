"""`--slurm KEY=VALUE`: what a job asks of Slurm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from sweep.errors import SpecError
from sweep.execution.resources import Resources

AT_ONCE = "array_parallelism"
LISTS = ("setup", "teardown", "srun_args")
GPUS = ("gpus", "gpus_per_node", "gpus_per_task", "gres")
# One task is one process, whose output and end this executor follows.
FIXED = frozenset(
    [
        "additional_parameters",
        "array",
        "error",
        "map_count",
        "nodes",
        "ntasks",
        "ntasks_per_node",
        "num_gpus",
        "open_mode",
        "output",
        "requeue",
        "no_requeue",
        "signal",
        "signal_delay_s",
    ]
)

Parameters = Mapping[str, Any]


def parameters_of(options: Sequence[str]) -> Parameters:
    """Parameters of submitit's Slurm executor, from texts KEY=VALUE.

    A key is a parameter of submitit, or else any long option of sbatch. Each use of `setup`,
    `teardown` and `srun_args` adds one entry to a list.

    Raises
    ------
    SpecError
        Naming the option and what is allowed.
    """
    from submitit import SlurmExecutor

    known = SlurmExecutor._valid_parameters()
    found: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        name = key.strip().lstrip("-").replace("-", "_")
        if not (name and equals):
            raise SpecError(f"--slurm {option} must be KEY=VALUE, such as partition=gpu or time=60")
        if name in FIXED:
            raise SpecError(f"--slurm {option}: {name} is set by prune-sweep; leave it out")
        if name in LISTS:
            found.setdefault(name, []).append(text)
        else:
            (found if name in known else others)[name] = _value(text)
    if not isinstance(most := found.get(AT_ONCE, 1), int) or isinstance(most, bool) or most < 1:
        raise SpecError(f"--slurm {AT_ONCE}={most} must be a whole number of jobs, at least 1")
    if others:
        found["additional_parameters"] = others
    return found


def asks(share: Resources, options: Parameters, name: str) -> Parameters:
    """The parameters of the jobs of one stage; those of the user take precedence.

    Parameters
    ----------
    share : the CPUs and GPUs of a task.
    name : of the jobs.

    Raises
    ------
    SpecError
        If the spec asks for a part of a GPU and the options say nothing about GPUs.
    """
    others = options.get("additional_parameters", {})
    # The scheduler retries tasks. A job that Slurm starts again by itself would run a second time.
    found: dict[str, Any] = {"job_name": name, "time": None, "cpus_per_task": ceil(share.cpus)}
    if share.gpus and not any(key in options or key in others for key in GPUS):
        if share.gpus != int(share.gpus):
            raise SpecError(
                f"resources.gpus is {share.gpus:g}, but a job of Slurm gets whole GPUs; set "
                "resources.gpus to a whole number, or to 0 and --slurm gres=shard:1 if your "
                "cluster shares GPUs"
            )
        found["gpus_per_node"] = int(share.gpus)
    return {**found, **options, "additional_parameters": {**others, "no-requeue": True}}


def _value(text: str) -> int | bool | str:
    # Not YAML, which reads 2:00:00 as 7200.
    if text.isascii() and text.isdecimal():
        return int(text)
    return {"true": True, "false": False}.get(text, text)
