"""Metrics, budget rules, normalisations, image sources and networks of other people.

They come from a file, see `load_plugin`, or from an installed package that names, in its
`pyproject.toml`, the modules that register them:

    [project.entry-points."prune_sweep.metrics"]
    mine = "my_package.my_metrics"

The groups of entry points are `prune_sweep.metrics`, `.budgets`, `.normalisations`, `.images` and
`.networks`. The package is then known wherever it is installed, on every worker too, and a spec
names what is registered without containing code. A file travels to the workers as text.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from prune_core.budgets import BUDGETS
from prune_core.images import SOURCES
from prune_core.metrics import METRICS
from prune_core.networks import NETWORKS
from prune_core.normalisation import NORMALISATIONS
from prune_core.registering import Package, registering
from prune_core.source_files import SourceFiles, texts_of

GROUPS = {
    "prune_sweep.metrics": "metrics",
    "prune_sweep.budgets": "budget rules",
    "prune_sweep.normalisations": "normalisations",
    "prune_sweep.images": "image sources",
    "prune_sweep.networks": "networks",
}
"""The entry point groups, and what their modules register."""

REGISTRIES: tuple[dict[str, Any], ...] = (METRICS, BUDGETS, NORMALISATIONS, SOURCES, NETWORKS)

_LOADED: dict[str, Plugin] = {}
_USED: Counter[str] = Counter()
_LOCK = threading.RLock()


class PluginWarning(UserWarning):
    """A package whose plugin could not be loaded; the message names it and says why."""


class PluginError(ValueError):
    """A plug-in file cannot be read, imported or registered; the message names it and the line."""


@dataclass(frozen=True)
class Plugin(SourceFiles):
    """A Python file that registers entries, with the texts of all files that it imports.

    Where it is unpickled it is loaded, so that objects of its classes can be unpickled after it.

    Attributes
    ----------
    path : of the file on the machine that read it. Only the texts count.
    """

    kind = "plugin"
    raises = PluginError

    path: str = field(compare=False)

    @classmethod
    def read(cls, path: str | Path, base: Path | None = None) -> Plugin:
        """Reads a file and the files that it imports, without running them.

        Parameters
        ----------
        base : where a relative path starts; by default the current folder.

        Raises
        ------
        PluginError
            If a file is absent or cannot be read.
        """
        file = ((base or Path.cwd()) / Path(path).expanduser()).absolute()
        if file.suffix != ".py" or not file.stem.isidentifier():
            raise PluginError(
                f"plug-in '{path}' must be a Python file whose name can be imported, such as "
                "my_metrics.py"
            )
        if not file.is_file():
            raise PluginError(f"plug-in '{path}': there is no file {file.name} in {file.parent}")
        return cls(file.name, texts_of(file, "plug-in", PluginError), str(file))

    @property
    def where(self) -> str:
        """See `SourceFiles`."""
        return str(self)

    def __str__(self) -> str:
        path, here = Path(self.path), Path.cwd()
        return f"plug-in {path.relative_to(here) if path.is_relative_to(here) else path}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.entry, self.files, self.path)

    def load(self) -> None:
        """Imports the file, which registers its entries; does nothing if it is loaded already.

        An earlier version of the same file is replaced.

        Raises
        ------
        PluginError
            If the file cannot be imported, registers nothing, or registers a name that is taken, or
            if an earlier version is used now; see `using`. Nothing is registered then.
        """
        with _LOCK:
            if self.fingerprint in _LOADED:
                return
            with _all_or_nothing():
                for earlier in [one for one in _LOADED.values() if one.path == self.path]:
                    if _USED[earlier.fingerprint]:
                        raise PluginError(
                            f"{self} is another version than the one that a run in this process "
                            "uses now; wait until the run has ended, or use another process"
                        )
                    earlier.unload()
                try:
                    with registering(self), self.travelling(Path(self.path).parent):
                        self.module()
                    if not any(self._entries(registry) for registry in REGISTRIES):
                        raise PluginError(
                            f"{self} registers nothing; put a decorator above a function, such as "
                            "@metric(source=...)"
                        )
                except PluginError:
                    self.forget()
                    raise
                _LOADED[self.fingerprint] = self

    def unload(self) -> None:
        """Takes out of the registries what the file registered."""
        for registry in REGISTRIES:
            for name in self._entries(registry):
                del registry[name]
        _LOADED.pop(self.fingerprint, None)
        self.forget()

    def _entries(self, registry: dict[str, Any]) -> list[str]:
        return [name for name, entry in registry.items() if entry.provider == self]


def load_plugin(path: str | Path, base: Path | None = None) -> Plugin:
    """Registers the metrics, budget rules, normalisations, image sources and networks of a file.

    Parameters
    ----------
    base : where a relative path starts; by default the current folder.

    Raises
    ------
    PluginError
        See `Plugin.read` and `Plugin.load`.
    """
    plugin = Plugin.read(path, base)
    plugin.load()
    return plugin


@contextmanager
def using(plugins: Iterable[Plugin]) -> Iterator[None]:
    """Loads plug-ins, and refuses other versions of their files inside this context.

    Another thread that replaced them would change what a run computes, but not its keys.

    Raises
    ------
    PluginError
        See `Plugin.load`.
    """
    used = []
    try:
        for plugin in plugins:
            with _LOCK:
                plugin.load()
                _USED[plugin.fingerprint] += 1
                used.append(plugin.fingerprint)
        yield
    finally:
        with _LOCK:
            _USED.subtract(used)


def load_plugins() -> None:
    """Imports the modules that installed packages name; one that fails is left out."""
    for group, what in GROUPS.items():
        for point in entry_points(group=group):
            package = point.dist.name if point.dist else point.name
            try:
                with registering(Package(package)):
                    point.load()
            except Exception as error:
                warnings.warn(
                    f"the {what} of {package} ({point.value}) could not be loaded: "
                    f"{type(error).__name__}: {error}",
                    PluginWarning,
                    stacklevel=2,
                )


@contextmanager
def _all_or_nothing() -> Iterator[None]:
    """Puts the registries back as they were if an error is raised."""
    tables: list[dict[str, Any]] = [*REGISTRIES, _LOADED]
    before = [dict(table) for table in tables]
    try:
        yield
    except BaseException:
        for table, content in zip(tables, before, strict=True):
            table.clear()
            table.update(content)
        raise


def _arrived(entry: str, files: tuple[tuple[str, str], ...], path: str) -> Plugin:
    plugin = Plugin(entry, files, path)
    # Who uses it loads it again, and gets the error.
    with suppress(PluginError):
        plugin.load()
    return plugin
