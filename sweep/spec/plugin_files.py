"""The plug-in files of the option --plugin, and those of a spec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path

from prune_core.plugins import Plugin, PluginError, load_plugin, using
from sweep.errors import UserError
from sweep.spec.fields import Spec


def load(paths: Iterable[str | PathLike[str]]) -> list[Plugin]:
    """Registers what the files of --plugin register.

    Raises
    ------
    UserError
        Naming the file, and the line if it can be read.
    """
    try:
        return [load_plugin(Path(path)) for path in paths]
    except PluginError as error:
        raise UserError(f"--plugin: {error}") from error


@contextmanager
def plugins_of(spec: Spec) -> Iterator[None]:
    """Registers what the plug-ins of a spec register, and keeps it while the context is open.

    Since the spec was read, another version of the same file may have replaced them.

    Raises
    ------
    UserError
        If a run in this process uses another version now, or another file took a name.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(using(spec.plugins))
        except PluginError as error:
            raise UserError(str(error)) from error
        yield
