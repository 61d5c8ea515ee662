"""The file that names the cells of the last run in a results folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from results.storage.folder import Folder, StoreError

PLAN = "plan.json"


class PlanError(ValueError):
    """The plan file is absent or cannot be read; the message names it."""


@dataclass(frozen=True)
class PlannedCells:
    """The name of a sweep, and the labels of its cells by key."""

    name: str
    cells: Mapping[str, str]


def write_plan(folder: Folder, planned: PlannedCells) -> None:
    """Stores the plan in a results folder."""
    content = {"name": planned.name, "cells": dict(planned.cells)}
    folder.write(PLAN, json.dumps(content).encode())


def read_plan(folder: Folder) -> PlannedCells:
    """The plan of the last run in a results folder.

    Raises
    ------
    PlanError
        If no sweep was run in the folder, or the file is damaged.
    StoreError
        If an object store does not answer.
    """
    try:
        content = json.loads(folder.read(PLAN))
        return PlannedCells(str(content["name"]), dict(content["cells"]))
    except FileNotFoundError:
        raise PlanError(f"no sweep was run in {folder}: it has no {PLAN}") from None
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{folder / PLAN} cannot be read: {error}") from error
