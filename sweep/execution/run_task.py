"""Runs one task in the current process."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime

import torch

from prune_core.training import Diverged
from results import StoreError
from sweep.execution.tasks import Outcome, Task
from sweep.plan.cells import Baseline, Cell, Statistics
from sweep.stages.baseline import baseline
from sweep.stages.cell import cell
from sweep.stages.observer import SILENT, Observer
from sweep.stages.rows import Row, evaluation_columns, identity_row, provenance
from sweep.stages.statistics import statistics
from sweep.stages.workspace import Workspace

ERROR_LENGTH = 2_000


def run_task(workspace: Workspace, task: Task, observer: Observer = SILENT) -> Outcome:
    """Runs a task. If the task is a cell, its row is written, also when the task fails.

    Raises
    ------
    StoreError
        If the row cannot be written. The sweep cannot continue without its results folder.
    """
    began = datetime.now(UTC)
    row: Row = {}
    status, error, accuracy, validation = "ok", None, None, None
    try:
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
        status, error = _diagnose(problem)
    observer.figures(row)
    if isinstance(task.work, Cell):
        write_row(workspace, task.work, provenance(task.work, began) | row, status, error)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    seconds = (datetime.now(UTC) - began).total_seconds()
    return Outcome(status, error, seconds, accuracy, validation)


def write_row(workspace: Workspace, of: Cell, figures: Row, status: str, error: str | None) -> None:
    """Stores the row of a cell with all figures that are known."""
    ending = {"status": status, "error": error, "finished_at": datetime.now(UTC)}
    workspace.store.write(identity_row(of, workspace.sweep) | figures | ending)


def _diagnose(problem: Exception) -> tuple[str, str]:
    text = f"{type(problem).__name__}: {problem}"
    if isinstance(problem, Diverged):
        return "diverged", text
    if isinstance(problem, torch.OutOfMemoryError | MemoryError):
        return "out_of_memory", text[:ERROR_LENGTH]
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return "failed", f"{text} ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})"[:ERROR_LENGTH]
