"""Ctrl-C gives exit code 130 and no traceback, also while libraries are imported and at the exit.

A program that imports torch, pyarrow and Ray spends seconds in imports. There, an exception would
be shown with a traceback, or be replaced by another one.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType

EXIT_INTERRUPTED = 130
_seen = False


def quit_at_ctrl_c() -> None:
    """Lets Ctrl-C end the process at once; for times at which nothing needs to be cleaned up."""
    _handle(signal.default_int_handler, _quit)


def raise_at_ctrl_c() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again, and remembers it."""
    _handle(_quit, _raise)


def finish() -> None:
    """Lets Ctrl-C end the process at once again, if this module handled it before."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    _handle(_raise, _quit)


def interrupted() -> bool:
    """Whether Ctrl-C was pressed since `raise_at_ctrl_c`."""
    return _seen


def _handle(before: object, after: object) -> None:
    in_main = threading.current_thread() is threading.main_thread()
    # A handler of another program that calls this one is left alone.
    if in_main and signal.getsignal(signal.SIGINT) is before:
        signal.signal(signal.SIGINT, after)  # type: ignore[arg-type]


def _quit(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_INTERRUPTED)


def _raise(number: int, frame: FrameType | None) -> None:
    global _seen
    _seen = True
    raise KeyboardInterrupt
