"""The packaged executors, which register themselves when this module imports them."""

from __future__ import annotations

import sweep.execution.serial
import sweep.execution.tune.executor  # noqa: F401
from sweep.errors import SpecError
from sweep.execution.executor import EXECUTORS, Executor


def executor_named(name: str) -> Executor:
    """The executor of a name.

    Raises
    ------
    SpecError
        Naming those that there are.
    """
    if name not in EXECUTORS:
        raise SpecError(f"--executor {name} is unknown; allowed: {', '.join(sorted(EXECUTORS))}")
    return EXECUTORS[name]
