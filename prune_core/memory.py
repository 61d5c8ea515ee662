"""The memory of a process that computes on its processors."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that its tensors free, for the next ones.

    Left alone, glibc returns large blocks to the system, and asks for them again with the next
    layer's feature maps: pages that the system clears one by one when they are first touched. Of
    a pass of SimpleNet that is a third of the time. No figure changes by it, and a process stays
    as large as it once was. Best called before other threads have allocated anything.

    Returns
    -------
    Whether the C library is one that can be told so.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # No blocks of their own, no returning of what is free at the end, and one heap for all
    # threads: the backward pass runs in a thread, whose own heap could not hold large tensors.
    wanted = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _ARENA_MAX: 1}
    answers = [mallopt(parameter, value) for parameter, value in wanted.items()]
    return all(answer == 1 for answer in answers)
