"""Python's debugger at the place where a task failed."""

from __future__ import annotations

from bdb import BdbQuit
from contextlib import suppress
from pdb import Pdb, Restart


def post_mortem(problem: BaseException) -> None:
    """Opens the debugger in the frame that raised an exception; returns when it is left.

    Like `pdb.post_mortem`, but the commands `continue` and `run` leave it too, and Ctrl-C
    afterwards ends the sweep as before.
    """
    debugger = Pdb(nosigint=True)
    debugger.reset()
    with suppress(BdbQuit, Restart):
        debugger.interaction(None, problem.__traceback__)
