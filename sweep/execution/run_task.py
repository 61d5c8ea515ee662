"""Runs one task in the current process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import torch

from prune_core.training import Recipe
from results import StoreError
from sweep.execution.failures import diagnosis, write_log
from sweep.execution.tasks import Outcome, Task
from sweep.planning.baselines import Baseline
from sweep.planning.cells import Cell
from sweep.planning.scores import Statistics
from sweep.stages.baseline import baseline
from sweep.stages.cell import cell
from sweep.stages.observer import SILENT, Observer
from sweep.stages.rows import Row, evaluation_columns, identity_row, provenance
from sweep.stages.statistics import statistics
from sweep.stages.steps import forget
from sweep.stages.workspace import Workspace

Inspect = Callable[[Exception], None]


def run_task(
    workspace: Workspace,
    task: Task,
    observer: Observer = SILENT,
    inspect: Inspect = lambda problem: None,
) -> Outcome:
    """Runs a task. If the task is a cell, its row is written, also when the task fails.

    Parameters
    ----------
    inspect : called with the exception of a task that fails, before its row is written.

    Raises
    ------
    StoreError
        If the row cannot be written. The sweep cannot continue without its results folder.
    """
    began = datetime.now(UTC)
    ran = provenance(_recipe(task.work), began)
    row: Row = {}
    status, error, own_frames, accuracy, validation = "ok", None, None, None, None
    try:
        for plugin in workspace.plugins:
            plugin.load()
        if isinstance(task.work, Baseline):
            trained = baseline(workspace, task.work, observer)
            row |= evaluation_columns("baseline", trained.validation, trained.test)
            accuracy = trained.test.top1
        elif isinstance(task.work, Statistics):
            statistics(workspace, task.work, baseline(workspace, task.work.baseline))
        else:
            cell(workspace, task.work, row, observer)
            accuracy, validation = row["finetuned_test_top1"], row["finetuned_validation_top1"]
    except StoreError:
        raise
    except Exception as problem:
        # Keep text, not the exception: its frames keep tensors in memory.
        failure = diagnosis(problem)
        status, own_frames = failure.status, failure.own_frames
        error = write_log(workspace, task, failure, ran)
        inspect(problem)
    observer.figures(row)
    if isinstance(task.work, Cell):
        write_row(workspace, task.work, ran | row | {"traceback": own_frames}, status, error)
        if status == "ok":
            forget(workspace, task.work)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    seconds = (datetime.now(UTC) - began).total_seconds()
    return Outcome(status, error, seconds, accuracy, validation, own_frames)


def write_row(workspace: Workspace, of: Cell, figures: Row, status: str, error: str | None) -> None:
    """Stores the row of a cell with all figures that are known."""
    ending = {"status": status, "error": error, "finished_at": datetime.now(UTC)}
    workspace.store.write(identity_row(of, workspace.sweep) | figures | ending)


def _recipe(work: Baseline | Statistics | Cell) -> Recipe:
    """The recipe by which a task trains; that of its baseline, if it trains nothing itself."""
    if isinstance(work, Cell):
        return work.finetune
    return work.recipe if isinstance(work, Baseline) else work.baseline.recipe
