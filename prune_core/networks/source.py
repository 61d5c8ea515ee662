"""A person's own network: a function in a Python file, and the files that it imports.

The texts of these files are part of the value. So it builds the network on a machine that has
nothing else, and its fingerprint changes when one of the files changes.

Import statements are followed from file to file. A name that belongs to a file beside the network
file, or in a folder below it, means that file, as it does for a script. Each source gets a private
package, and in its files these statements are rewritten to import from that package. So sources
never see each other's files or other modules of the same names, also when a function imports later.
"""

from __future__ import annotations

import ast
import atexit
import hashlib
import importlib
import inspect
import json
import os
import shutil
import sys
import tempfile
import threading
import tokenize
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import torch
from torch import nn

from prune_core.networks.errors import ArchitectureError
from prune_core.options import checked_options, options_of

_PACKAGE = "prune_sweep_network_"
_OWN = __name__.partition(".")[0]
_INSTALLED = {"site-packages", "dist-packages"}
# Blocks under these conditions do not run when a network is built.
_NEVER = {"TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'"}
_LOCK = threading.Lock()


@dataclass(frozen=True)
class NetworkSource:
    """A function that builds a network, with the texts of all files that it needs.

    Attributes
    ----------
    function : the name of a function (classes: int, *, options) -> module, or of a class.
    entry : the file that contains it.
    files : the entry and the files that it imports: names relative to the folder of the entry, and
        texts, sorted by name.
    """

    function: str
    entry: str
    files: tuple[tuple[str, str], ...]

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
            )
        found = cls(function, path.name, tuple(sorted(_texts(path).items())))
        before = set(sys.modules)
        found.load()
        # Other classes or options may be needed; `build` reports the errors of the real ones.
        with suppress(ArchitectureError), torch.random.fork_rng(devices=[]):
            found.build(10)
        for name in set(sys.modules) - before:
            if _is_beside(name, path.parent):
                raise ArchitectureError(
                    f"{found._where} imports {name} without an import statement, so this file "
                    f"cannot be found on other machines; write `import {name}`"
                )
        return found

    @property
    def name(self) -> str:
        """File and function, such as `my_net.py:build`."""
        return f"{self.entry}:{self.function}"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the sha256 of all names and texts."""
        content = json.dumps([self.function, self.entry, self.files])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The keyword-only parameters of the function, with evaluated annotations.

        Raises
        ------
        ArchitectureError
            See `load` and `prune_core.options.options_of`.
        """
        return options_of(self.load(), self._where, ArchitectureError)

    def load(self) -> Callable[..., nn.Module]:
        """Imports the function from the texts.

        Raises
        ------
        ArchitectureError
            If a file cannot be imported, or if it has no such function of one parameter.
        """
        package = self._package()
        try:
            module = importlib.import_module(f"{package.__name__}.{Path(self.entry).stem}")
        except (Exception, SystemExit) as error:
            raise self._explained(error) from error
        function = vars(module).get(self.function)
        if not callable(function):
            own = [
                name
                for name, value in vars(module).items()
                if callable(value) and getattr(value, "__module__", None) == module.__name__
            ]
            raise ArchitectureError(
                f"{self._where}: {self.entry} has no function '{self.function}'; it has "
                f"{', '.join(own) or 'none'}"
            )
        signature = inspect.signature(function)
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = [*signature.parameters.values()]
        if sum(one.kind in positional for one in parameters) != 1 or any(
            one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters
        ):
            raise ArchitectureError(
                f"{self._where} has the parameters {signature}; it must take one, the number of "
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
        filled = checked_options(function, options or {}, self._where, ArchitectureError)
        try:
            module: object = function(classes, **filled)
        except (Exception, SystemExit) as error:
            raise self._explained(error) from error
        if not isinstance(module, nn.Module):
            raise ArchitectureError(
                f"{self._where} returned {type(module).__name__}; it must return a torch.nn.Module"
            )
        return module

    @property
    def _where(self) -> str:
        return f"network '{self.name}'"

    def _package(self) -> ModuleType:
        """The private package of this source; its folder holds the files."""
        name = _PACKAGE + self.fingerprint
        with _LOCK:
            if name not in sys.modules:
                folder = Path(tempfile.mkdtemp(prefix="prune-sweep-network-"))
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
                for relative, text in self.files:
                    (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                    (folder / relative).write_text(text, encoding="utf-8")
                package = ModuleType(name)
                package.__path__ = [str(folder)]
                sys.modules[name] = package
                if _Finder not in sys.meta_path:
                    sys.meta_path.insert(0, _Finder)
        return sys.modules[name]

    def _explained(self, error: BaseException) -> ArchitectureError:
        """The error of a person's code, with the last line of that code that ran."""
        package = self._package()
        folder = package.__path__[0] + os.sep
        said = f"{type(error).__name__}: {error}"
        lines = [
            f"{frame.filename.removeprefix(folder)}, line {frame.lineno} ({frame.line})"
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename.startswith(folder)
        ]
        if isinstance(error, SyntaxError) and (error.filename or "").startswith(folder):
            said = f"{type(error).__name__}: {error.msg}"
            lines = [f"{error.filename}, line {error.lineno} ({(error.text or '').strip()})"]
        place = f" at {lines[-1]}" if lines else ""
        text = f"{self._where} raised{place}: {said}"
        if isinstance(error, ImportError):
            text += (
                f". Only files beside {self.entry} or in folders below it that import statements "
                "name travel with it; all other modules must be installed on every machine"
            )
        return ArchitectureError(text.replace(f"{package.__name__}.", "").replace(folder, ""))


class _Finder:
    """Finds the modules of private packages."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if not name.startswith(_PACKAGE) or path is None:
            return None
        return FileFinder(path[0], (_Loader, [".py"])).find_spec(name)


class _Loader(SourceFileLoader):
    """Compiles a file whose imports of files beside it are imports from the private package."""

    def source_to_code(self, data: bytes, path: str, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        package = self.name.partition(".")[0]
        folder = Path(sys.modules[package].__path__[0])
        imports = _Imports(Path(path).relative_to(folder).as_posix(), folder, package)
        # The files are written in UTF-8, whatever an encoding comment says.
        tree = ast.fix_missing_locations(imports.visit(ast.parse(data.decode(), path)))
        return super().source_to_code(tree, path, _optimize=_optimize)


class _Imports(ast.NodeTransformer):
    """Finds the files that the import statements of a file name, and rewrites the statements.

    Parameters
    ----------
    file : relative to `folder`.
    folder : holds the files of the source.
    package : the private package to import from.

    Attributes
    ----------
    found : names of files relative to `folder`.
    """

    def __init__(self, file: str, folder: Path, package: str) -> None:
        self.parents, self.folder, self.package = file.split("/")[:-1], folder, package
        self.found: list[str] = []

    def visit_If(self, node: ast.If) -> ast.AST:
        """Skips blocks that do not run when a network is built."""
        skipped: list[ast.stmt] = []
        if ast.unparse(node.test) in _NEVER:
            node.body, skipped = skipped, node.body
        self.generic_visit(node)
        node.body = skipped or node.body
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        """Rewrites `import a` and `import a.b`."""
        statements = []
        for alias in node.names:
            names = [(alias.name, alias.asname)]
            if files := _beside(alias.name, self.folder):
                self.found += files
                top = alias.name.partition(".")[0]
                names = [(f"{self.package}.{alias.name}", alias.asname or top)]
                if alias.asname is None and top != alias.name:
                    # Without `as`, the name of the outermost package is bound.
                    names.append((f"{self.package}.{top}", top))
            statements += [ast.Import([ast.alias(*pair)]) for pair in names]
        return [ast.copy_location(statement, node) for statement in statements]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Rewrites `from a import b`; follows `from .a import b`, which needs no rewriting."""
        # A relative import from above the folder fails when it runs.
        parents = self.parents[: len(self.parents) + 1 - node.level] if node.level else []
        steps = [*parents, *(node.module or "").split(".")]
        module = ".".join(step for step in steps if step)
        names = [alias.name for alias in node.names]
        if "*" in names:
            below = self.folder.joinpath(*steps)
            names = sorted(path.stem for path in below.glob("*.py"))
        search = _files if node.level else _beside
        files = [
            file
            for name in (module, *(f"{module}.{name}".lstrip(".") for name in names))
            for file in search(name, self.folder)
        ]
        self.found += files
        if files and not node.level:
            node.module = f"{self.package}.{module}"
        return node


def _texts(entry: Path) -> dict[str, str]:
    """The text of a file and of all files that it imports, by names relative to its folder."""
    folder, texts, waiting = entry.parent, {}, [entry.name]
    while waiting:
        file = waiting.pop()
        if file in texts:
            continue
        try:
            # Knows the encodings of Python files, and makes all line endings \n.
            with tokenize.open(folder / file) as opened:
                texts[file] = opened.read()
        except (OSError, SyntaxError, UnicodeDecodeError) as error:
            raise ArchitectureError(f"network file {file} cannot be read: {error}") from error
        imports = _Imports(file, folder, "")
        # A file that is imported reports its syntax error itself.
        with suppress(SyntaxError, ValueError):
            imports.visit(ast.parse(texts[file]))
        waiting += imports.found
    return texts


def _files(module: str, folder: Path) -> list[str]:
    """The files in a folder that the import of a dotted name runs, as relative names."""
    found = []
    steps = module.split(".")
    for end in range(1, len(steps) + 1):
        stem = "/".join(steps[:end])
        for file in (f"{stem}/__init__.py", f"{stem}.py"):
            if (folder / file).is_file():
                found.append(file)
                break
    return found


def _beside(module: str, folder: Path) -> list[str]:
    """As `_files`, for an absolute import: installed modules and this package stay themselves."""
    if module.partition(".")[0] == _OWN or _INSTALLED & set(folder.parts):
        return []
    return _files(module, folder)


def _is_beside(module: str, folder: Path) -> bool:
    """Whether a loaded module is a file of the folder."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and any(
        Path(file).resolve() == (folder / one).resolve() for one in _beside(module, folder)
    )
