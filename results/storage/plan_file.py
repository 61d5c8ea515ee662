"""The file that names the cells of the last run in a results folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from results.storage.folder import Folder, StoreError
from results.storage.schema import FINETUNE, NO_COMPENSATION, ONE_SHOT

PLAN = "plan.json"
DEFAULT_BUDGETS = {"local": "uniform_parameters", "global": "global"}
"""The budget rule of a scope that is meant where none is named."""


class PlanError(ValueError):
    """The plan file is absent or cannot be read; the message names it."""


@dataclass(frozen=True)
class Comparison:
    """Two metrics that the spec names, before the run, as one of its main comparisons.

    Attributes
    ----------
    metric, reference : as in the column `metric`.
    budget : the rule; None for the default rule of the scope.
    dataset : as in the column `dataset`; None for every data set.
    compensation, finetune, schedule : of both metrics, as in the columns of these names.
    in_advance : whether it was named before any cell of its sweep had a row in the folder.
    """

    metric: str
    ratio: float
    reference: str = "output_l1"
    scope: str = "local"
    budget: str | None = None
    normalisation: str = "none"
    dataset: str | None = None
    compensation: str = NO_COMPENSATION
    finetune: str = FINETUNE
    schedule: str = ONE_SHOT
    in_advance: bool = True

    @property
    def rule(self) -> str:
        """The budget rule that is meant."""
        return self.budget or DEFAULT_BUDGETS[self.scope]


@dataclass(frozen=True)
class PlannedCells:
    """The name of a sweep, the labels of its cells by key, and its main comparisons."""

    name: str
    cells: Mapping[str, str]
    comparisons: tuple[Comparison, ...] = ()


def write_plan(folder: Folder, planned: PlannedCells) -> None:
    """Stores the plan in a results folder."""
    comparisons = [asdict(one) for one in planned.comparisons]
    content = {"name": planned.name, "cells": dict(planned.cells), "comparisons": comparisons}
    folder.write(PLAN, json.dumps(content).encode())


def read_plan(folder: Folder) -> PlannedCells:
    """The plan of the last run in a results folder.

    Raises
    ------
    PlanError
        If no sweep was run in the folder, or the file is absent or damaged.
    StoreError
        If an object store does not answer.
    """
    try:
        content = json.loads(folder.read(PLAN))
        name, cells = str(content["name"]), dict(content["cells"])
        # Versions before comparisons could be planned did not write them.
        comparisons = tuple(Comparison(**one) for one in content.get("comparisons", ()))
        return PlannedCells(name, cells, comparisons)
    except FileNotFoundError:
        if (folder / "cells").entries():
            raise PlanError(
                f"{folder} has results, but no {PLAN}, which says what cells its sweep has; run "
                "its spec there again, which writes it and runs only what is missing"
            ) from None
        raise PlanError(f"no sweep was run in {folder}: it has no {PLAN}") from None
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{folder / PLAN} cannot be read: {error}") from error
