"""The plug-in files of the option --plugin."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prune_core.plugins import Plugin, PluginError, load_plugin
from sweep.errors import UserError


def load(paths: Iterable[str | Path]) -> list[Plugin]:
    """Registers what the files of --plugin register.

    Raises
    ------
    UserError
        Naming the file, and the line if it can be read.
    """
    try:
        return [load_plugin(path) for path in paths]
    except PluginError as error:
        raise UserError(f"--plugin: {error}") from error
