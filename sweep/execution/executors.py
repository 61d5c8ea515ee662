"""The packaged executors, which register themselves when this module imports them."""

from __future__ import annotations

from collections.abc import Sequence

import sweep.execution.serial
import sweep.execution.tune.executor  # noqa: F401
from prune_core.spelling import allowed
from sweep.errors import SpecError
from sweep.execution.executor import EXECUTORS, Executor
from sweep.execution.slurm.executor import Slurm


def executor_named(name: str, debugger: bool = False, slurm: Sequence[str] = ()) -> Executor:
    """The executor of a name.

    Parameters
    ----------
    debugger : whether it must be able to open a debugger.
    slurm : options KEY=VALUE of the executor `slurm`.

    Raises
    ------
    SpecError
        Naming those that are allowed.
    """
    if name not in EXECUTORS:
        raise SpecError(f"--executor {name} is unknown; {allowed(name, sorted(EXECUTORS))}")
    if debugger and name != "serial":
        raise SpecError(
            f"--pdb cannot be used with --executor {name}, which runs tasks in other processes; "
            "allowed: --executor serial"
        )
    if slurm and name != "slurm":
        raise SpecError(f"--slurm is for --executor slurm, not for --executor {name}")
    return Slurm(slurm) if slurm else EXECUTORS[name]
