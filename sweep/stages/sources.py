"""The files of a person's own networks and plug-ins, kept in FOLDER/sources/<fingerprint>.

Workers do not read them: tasks and the workspace carry the texts. They are kept so that rows can be
understood, and networks exported, when the original files have changed. Only the kept spec names
plug-ins there; nothing else runs these files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path, PurePath

from prune_core.budgets import BudgetChoice, BudgetError
from prune_core.networks import ModuleArchitecture
from prune_core.networks.own import OwnNetwork
from prune_core.networks.source import NetworkSource
from prune_core.source_files import SourceFiles
from results.storage.folder import Folder
from sweep.errors import SpecError
from sweep.planning.cells import Cell
from sweep.spec.fields import Spec

FOLDER = "sources"


def keep_sources(folder: Folder, cells: Iterable[Cell]) -> None:
    """Writes the files of the own networks of cells into the results folder."""
    for source in {_source(cell) for cell in cells}:
        if source is None:
            continue
        write_files(folder / FOLDER / source.fingerprint, source)


def with_plugins_in(folder: Folder, name: str, spec: Spec) -> Spec:
    """Writes the plug-ins of a spec into folders of a folder, by their fingerprints.

    Parameters
    ----------
    name : of the folder inside `folder`, where the spec will be.

    Returns
    -------
    The spec with the new paths, relative to `folder`.
    """
    for plugin in spec.plugins:
        write_files(folder / name / plugin.fingerprint, plugin)
    there = [replace(one, path=f"{name}/{one.fingerprint}/{one.entry}") for one in spec.plugins]
    return spec.model_copy(update={"plugins": there})


def with_widths_in(folder: Folder, name: str, taken: Collection[str], spec: Spec) -> Spec:
    """Writes the files that `widths(file=...)` names in a spec into a folder.

    A file keeps its relative path, because the label of the budget contains it.

    Parameters
    ----------
    name : of the folder inside `folder`, where the spec will be, for the files that cannot keep
        their paths: absolute paths, and those that lead out of the current folder or to `taken`.
    taken : names of files and folders inside `folder`.

    Returns
    -------
    The spec with the new paths, relative to `folder`.

    Raises
    ------
    SpecError
        If a file cannot be read, or two files that cannot keep their paths have the same name.
    """
    files: dict[PurePath, Path] = {}

    def moved(choice: BudgetChoice) -> BudgetChoice:
        if not choice.fixes_ratio:
            return choice
        try:
            choice.resolved()
        except BudgetError as error:
            raise SpecError(str(error)) from error
        path = Path(str(dict(choice.options)["file"])).expanduser()
        stays = not path.is_absolute() and ".." not in path.parts and path.parts[0] not in taken
        there, file = path if stays else PurePath(name, path.name), path.absolute()
        if files.setdefault(there, file) != file:
            raise SpecError(
                f"the files of widths {files[there]} and {file} have the same name; rename one"
            )
        inside = folder
        for parent in there.parent.parts:
            inside = inside / parent
        inside.make()
        inside.write(there.name, file.read_bytes())
        return choice if stays else BudgetChoice(choice.name, (("file", there.as_posix()),))

    rules = [moved(rule) for rule in spec.local_budgets]
    comparisons = [
        one.model_copy(update={"budget": moved(one.budget)}) if one.budget else one
        for one in spec.comparisons
    ]
    return spec.model_copy(update={"local_budgets": rules, "comparisons": comparisons})


def write_files(folder: Folder, source: SourceFiles) -> None:
    """Writes the files of a source that are not there yet, in folders as they were."""
    for name, text in source.files:
        *parents, file = name.split("/")
        inside = folder
        for parent in parents:
            inside = inside / parent
        if not inside.has(file):
            inside.make()
            inside.write(file, text.encode())


def _source(cell: Cell) -> NetworkSource | None:
    architecture = cell.baseline.architecture
    if isinstance(architecture, ModuleArchitecture):
        builder = architecture.builder
        return builder.source if isinstance(builder, OwnNetwork) else None
    return None
