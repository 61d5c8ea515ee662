"""A person's own Python file and the files that it imports, as a value.

The texts of these files are part of the value. So it can be imported on a machine that has nothing
else, and its fingerprint changes when one of the files changes.

Import statements are followed from file to file. A name that belongs to a file beside the entry, or
in a folder below it, means that file, as it does for a script. Each source gets a private package,
and in its files these statements are rewritten to import from that package. So sources never see
each other's files or other modules of the same names, also when a function imports later.
"""

from __future__ import annotations

import ast
import atexit
import hashlib
import importlib
import json
import os
import shutil
import sys
import tempfile
import threading
import tokenize
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import ClassVar

_PACKAGE = "prune_sweep_{}_"
_PACKAGES = tuple(_PACKAGE.format(kind) for kind in ("network", "plugin"))
_OWN = __name__.partition(".")[0]
_INSTALLED = {"site-packages", "dist-packages"}
# Blocks under these conditions do not run when the file is imported.
_NEVER = {"TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'"}
_LOCK = threading.Lock()


@dataclass(frozen=True)
class SourceFiles(ABC):
    """A Python file with the texts of all files that it needs.

    Attributes
    ----------
    kind : what it is, in names of its package and its folder: `network` or `plugin`.
    raises : the class of its errors.
    entry : the file.
    files : the entry and the files that it imports: names relative to the folder of the entry, and
        texts, sorted by name.
    """

    kind: ClassVar[str]
    raises: ClassVar[type[ValueError]]

    entry: str
    files: tuple[tuple[str, str], ...]

    @property
    @abstractmethod
    def where(self) -> str:
        """What errors call it."""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the sha256 of all names and texts."""
        return digest_of([self.entry, self.files])

    def module(self) -> ModuleType:
        """Imports the entry from the texts; once for each fingerprint.

        Raises
        ------
        ValueError
            Of the class `raises`, if a file cannot be imported; with the line of the file.
        """
        package = self._package()
        try:
            return importlib.import_module(f"{package.__name__}.{Path(self.entry).stem}")
        except (Exception, SystemExit) as error:
            raise self.explained(error) from error

    def forget(self) -> None:
        """Lets `module` run the files again."""
        name = self._name
        with _LOCK:
            for module in [one for one in sys.modules if one.partition(".")[0] == name]:
                del sys.modules[module]

    @contextmanager
    def travelling(self, folder: Path) -> Iterator[None]:
        """Refuses files that are imported inside this context but are not among `files`.

        Raises
        ------
        ValueError
            Of the class `raises`, for a file of `folder` that no import statement names.
        """
        before = set(sys.modules)
        yield
        for name in set(sys.modules) - before:
            if _is_beside(name, folder):
                raise self.raises(
                    f"{self.where} imports {name} without an import statement, so this file "
                    f"cannot be found on other machines; write `import {name}`"
                )

    def explained(self, error: BaseException) -> ValueError:
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
        text = f"{self.where} raised{place}: {said}"
        if isinstance(error, ImportError):
            text += (
                f". Only files beside {self.entry} or in folders below it that import statements "
                "name travel with it; all other modules must be installed on every machine"
            )
        return self.raises(text.replace(f"{package.__name__}.", "").replace(folder, ""))

    @property
    def _name(self) -> str:
        return _PACKAGE.format(self.kind) + self.fingerprint

    def _package(self) -> ModuleType:
        """The private package of this source; its folder holds the files."""
        name = self._name
        with _LOCK:
            if name not in sys.modules:
                folder = Path(tempfile.mkdtemp(prefix=f"prune-sweep-{self.kind}-"))
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
                # Tracebacks name the two last parts of a path, which are then always the same.
                folder = folder / name
                for relative, text in self.files:
                    (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                    (folder / relative).write_text(text, encoding="utf-8")
                package = ModuleType(name)
                package.__path__ = [str(folder)]
                sys.modules[name] = package
                if _Finder not in sys.meta_path:
                    sys.meta_path.insert(0, _Finder)
        return sys.modules[name]


def digest_of(content: object) -> str:
    """16 hexadecimal digits of the sha256 of JSON values."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def texts_of(entry: Path, what: str, raises: type[ValueError]) -> tuple[tuple[str, str], ...]:
    """The texts of a file and of all files that it imports, by names relative to its folder.

    Parameters
    ----------
    what : names the kind of file in errors.

    Raises
    ------
    ValueError
        Of the class `raises`, if a file cannot be read.
    """
    folder, texts, waiting = entry.parent, dict[str, str](), [entry.name]
    while waiting:
        file = waiting.pop()
        if file in texts:
            continue
        try:
            # Knows the encodings of Python files, and makes all line endings \n.
            with tokenize.open(folder / file) as opened:
                texts[file] = opened.read()
        except (OSError, SyntaxError, UnicodeDecodeError) as error:
            raise raises(f"{what} {file} cannot be read: {error}") from error
        imports = _Imports(file, folder, "")
        # A file that is imported reports its syntax error itself.
        with suppress(SyntaxError, ValueError):
            imports.visit(ast.parse(texts[file]))
        waiting += imports.found
    return tuple(sorted(texts.items()))


class _Finder:
    """Finds the modules of private packages."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if not name.startswith(_PACKAGES) or path is None:
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
        """Skips blocks that do not run when the file is imported."""
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
