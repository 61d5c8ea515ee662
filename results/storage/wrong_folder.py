"""Refuses a folder that holds no results, and names the folder that was probably meant."""

from __future__ import annotations

from results.storage.format_version import FORMAT, OWN, check_folder
from results.storage.locations import Folder, StoreError

CELLS_FOLDER = "cells"
RUNS = "runs"
"""Where a sweep writes its results folder if none is named."""
_LISTED = 5


def has_results(folder: Folder) -> bool:
    """Whether a sweep has written to the folder, or files of cells were copied into it."""
    return folder.has(FORMAT) or CELLS_FOLDER in folder.folders()


def check_results(folder: Folder) -> None:
    """Refuses a folder that cannot be read as results.

    Raises
    ------
    StoreError
        If it does not exist, or holds no results; the message names the results folders in it, or
        the one that it is a part of.
    SchemaError
        See `check_folder`.
    """
    if not folder.exists():
        raise StoreError(f"there is no results folder {folder}")
    check_folder(folder)
    if not has_results(folder):
        raise StoreError(f"{folder} is not a results folder: {_meant(folder.absolute())}")


def _meant(folder: Folder) -> str:
    if folder.name in OWN and has_results(folder.parent):
        return f"it is a part of one; name {folder.parent}"
    inside = _inside(folder) or _inside(folder / RUNS)
    if inside:
        named = ", ".join(map(str, inside[:_LISTED]))
        more = f" and {len(inside) - _LISTED} more" if len(inside) > _LISTED else ""
        return f"it contains results folders; name one of them, such as {named}{more}"
    return "no sweep has written to it"


def _inside(folder: Folder) -> list[Folder]:
    return [found for name in folder.folders() if has_results(found := folder / name)]
