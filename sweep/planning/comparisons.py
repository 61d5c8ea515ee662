"""The planned comparisons of a spec, at the ratios that its cells have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prune_core.budgets import BudgetError
from results.storage.plan_file import Comparison
from sweep.errors import SpecError
from sweep.planning.cells import Cell
from sweep.spec.fields import Spec


def comparisons_of(spec: Spec, cells: Sequence[Cell]) -> tuple[Comparison, ...]:
    """The comparisons of a spec; where a file decides the ratio, each data set has its own.

    Raises
    ------
    SpecError
        If a comparison names another ratio than that of the widths in its file.
    """
    found = []
    for index, (asked, named) in enumerate(
        zip(spec.comparisons, spec.planned_comparisons, strict=True)
    ):
        if asked.budget is None or not asked.budget.fixes_ratio:
            found.append(named)
            continue
        cell_of = {
            cell.baseline.dataset.name: cell
            for cell in cells
            if cell.importance and cell.budget.label == named.rule
        }
        for dataset in [named.dataset] if named.dataset else cell_of:
            cell = cell_of[dataset]
            try:
                cell.budget.choice.check(cell.baseline.architecture, named.ratio, cell.budget.floor)
            except BudgetError as error:
                raise SpecError(
                    f"comparisons[{index}].ratio is {named.ratio}; dataset {dataset}: {error}"
                ) from error
            found.append(replace(named, dataset=dataset, ratio=cell.ratio))
    return tuple(found)
