"""A person's own network: a function in a Python file, and the files that it imports."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from prune_core.networks.errors import ArchitectureError
from prune_core.options import checked_options, options_of
from prune_core.source_files import SourceFiles, digest_of, texts_of


@dataclass(frozen=True)
class NetworkSource(SourceFiles):
    """A function that builds a network, with the texts of all files that it needs.

    Attributes
    ----------
    function : the name of a function (classes: int, *, options) -> module, or of a class.
    """

    kind = "network"
    raises = ArchitectureError

    function: str

    @classmethod
    def read(cls, source: str, base: Path | None = None) -> NetworkSource:
        """Reads a network file and the files that it imports.

        Imports the file, and calls the function once with 10 classes and default options.

        Parameters
        ----------
        source : file and function, such as `my_net.py:build`.
        base : where a relative file name starts; by default the current folder.

        Raises
        ------
        ArchitectureError
            If the file is absent, cannot be imported or has no such function, or if it imports a
            file beside it without an import statement.
        """
        file, _, function = source.rpartition(":")
        path = ((base or Path.cwd()) / Path(file).expanduser()).absolute()
        if not function.isidentifier() or path.suffix != ".py" or "." in path.stem:
            raise ArchitectureError(
                f"network '{source}' must be a Python file and a function, such as my_net.py:build"
            )
        if not path.is_file():
            raise ArchitectureError(
                f"network '{source}': there is no file {path.name} in {path.parent}"
                + (
                    ""
                    if Path(file).is_absolute()
                    else f"; a relative path starts at {base or Path.cwd()}"
                )
            )
        files = texts_of(path, "network file", ArchitectureError)
        found = cls(path.name, files, function)
        with found.travelling(path.parent):
            found.load()
            # Other classes or options may be needed; `build` reports the errors of the real ones.
            with suppress(ArchitectureError), torch.random.fork_rng(devices=[]):
                found.build(10)
        return found

    @property
    def name(self) -> str:
        """File and function, such as `my_net.py:build`."""
        return f"{self.entry}:{self.function}"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the sha256 of all names and texts."""
        return digest_of([self.function, self.entry, self.files])

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The keyword-only parameters of the function, with evaluated annotations.

        Raises
        ------
        ArchitectureError
            See `load` and `prune_core.options.options_of`.
        """
        return options_of(self.load(), self.where, ArchitectureError)

    def load(self) -> Callable[..., nn.Module]:
        """Imports the function from the texts.

        Raises
        ------
        ArchitectureError
            If a file cannot be imported, or if it has no such function of one parameter.
        """
        module = self.module()
        function = vars(module).get(self.function)
        if not callable(function):
            own = [
                name
                for name, value in vars(module).items()
                if callable(value) and getattr(value, "__module__", None) == module.__name__
            ]
            raise ArchitectureError(
                f"{self.where}: {self.entry} has no function '{self.function}'; it has "
                f"{', '.join(own) or 'none'}"
            )
        signature = inspect.signature(function)
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = [*signature.parameters.values()]
        if sum(one.kind in positional for one in parameters) != 1 or any(
            one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters
        ):
            raise ArchitectureError(
                f"{self.where} has the parameters {signature}; it must take one, the number of "
                "classes, and options after a *, such as (classes: int, *, width: float = 1.0)"
            )
        return function

    def build(self, classes: int, options: Mapping[str, object] | None = None) -> nn.Module:
        """A new module; its weights are drawn from torch's global generator.

        Parameters
        ----------
        options : values of keyword-only parameters; the others keep their defaults.

        Raises
        ------
        ArchitectureError
            For an unknown option or a wrong value, if the function raises, or if its result is not
            a module; see also `load`.
        """
        function = self.load()
        filled = checked_options(function, options or {}, self.where, ArchitectureError)
        try:
            module: object = function(classes, **filled)
        except (Exception, SystemExit) as error:
            raise self.explained(error) from error
        if not isinstance(module, nn.Module):
            raise ArchitectureError(
                f"{self.where} returned {type(module).__name__}; it must return a torch.nn.Module"
            )
        return module

    @property
    def where(self) -> str:
        """See `SourceFiles`."""
        return f"network '{self.name}'"
