"""Sweeps from Python: plan, run, and what became of the cells."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from prune_core.spelling import allowed
from results import Store
from results.formatting import several
from results.storage.folder import Folder
from results.storage.locations import Where, folder_of
from results.storage.schema import STATUSES
from results.storage.wrong_folder import RUNS
from sweep.errors import SpecError
from sweep.execution.changes import changes
from sweep.execution.executor import Executor
from sweep.execution.executors import executor_named
from sweep.execution.messages import note
from sweep.execution.run_sweep import run_sweep
from sweep.execution.status import Status, status_of
from sweep.execution.terminal import Terminal
from sweep.planning.cells import Cell
from sweep.planning.grid import Plan
from sweep.planning.grid import plan as plan_cells
from sweep.spec.conditions import Conditions, conditions_of
from sweep.spec.fields import Spec
from sweep.spec.given import AnyPath, AnySpec, each, spec_of
from sweep.spec.plugin_files import plugins_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sweep:
    """A sweep and its results folder; `plan` and `run` make it.

    Attributes
    ----------
    spec : the checked spec.
    planned : its cells, with notes about the images.
    store : the rows of its results folder.
    data : the folder of the images; None for the current folder.
    """

    spec: Spec
    planned: Plan
    store: Store
    data: Path | None = None

    def __repr__(self) -> str:
        return f"<Sweep {self.spec.name}: {several(len(self.cells), 'cell')}, {self.folder}>"

    @property
    def folder(self) -> Folder:
        """The results folder; it exists after the first run."""
        return self.store.folder

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells, in the order of the spec's axes."""
        return self.planned.cells

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing of the images and the network."""
        return self.planned.notes

    def status(self) -> Status:
        """How many cells are ok, failed, running and left.

        Raises
        ------
        StoreError
            If the results folder cannot be read.
        """
        return status_of(self.spec.name, [cell.key for cell in self.cells], self.folder)

    def load(self) -> pd.DataFrame:
        """The rows of these cells, failed ones too; see `results.load`.

        A row holds the names of the spec that ran it first. Names are not part of a cell's key, so
        the data set, the metric and others may have other names in this spec; the frame has these.

        Raises
        ------
        StoreError, SchemaError
            If no cell was run yet, or the results folder cannot be read.
        UserError
            If a run in this process uses another version of a plug-in now.
        """
        # `plan` and `run` need no pandas, whose import takes a second.
        import pandas as pd

        import results

        cells = {cell.key: cell for cell in self.cells}
        frame = results.load(self.folder)
        frame = frame[frame["key"].isin(cells)].reset_index(drop=True)
        mine = [cells[key] for key in frame["key"]]
        with plugins_of(self.spec):
            axes = [cell.axes for cell in mine]
        for name in ("dataset", "metric", "budget", "compensation", "schedule", "finetune"):
            frame[name] = pd.Series([one[name] for one in axes], frame.index, frame[name].dtype)
        return frame

    def run(
        self,
        executor: str = "ray",
        *,
        retry: str | Collection[str] | None = (),
        only: str | Collection[str] | None = (),
        where: Conditions | None = (),
        slurm: Mapping[str, object] | str | Sequence[str] | None = (),
        debugger: bool = False,
        console: Console | None = None,
    ) -> Sweep:
        """Runs the cells that have no row, and returns when all have ended.

        A cell that fails has a row too, which says why; see `status`. A run waits for another run
        on the same results folder. Ctrl-C keeps all finished cells.

        Parameters
        ----------
        executor : `ray`, on this machine or on the cluster at RAY_ADDRESS; `serial`, in this
            process, without Ray; `slurm`, as jobs of Slurm.
        retry : statuses of rows, such as `["failed"]`, that count as missing.
        only : keys of cells or their beginnings; if given, no other cells run. A single status,
            key or option needs no list.
        where : values on the axes of the grid, such as `{"ratio": 0.3, "metric": ["random",
            "taylor"]}` or `["ratio=0.3"]`; cells with others do not run now. The axes are those
            of `Cell.axes`.
        slurm : what a job asks of Slurm, such as `{"partition": "gpu"}` or `["partition=gpu"]`; for
            the executor `slurm`.
        debugger : whether to open Python's debugger where a task fails; for `serial`.
        console : where progress is printed: by default standard output. The notes go to standard
            error. `rich.console.Console(quiet=True)` prints neither.

        Returns
        -------
        This sweep; with `only` or `where`, one of these cells alone.

        Raises
        ------
        UserError, SchemaError, StoreError
            If the run cannot start or go on. No existing result is overwritten.
        """
        with plugins_of(self.spec):
            chosen_executor = _executor(executor, slurm, debugger)
            chosen_executor.check(self.spec)
            self.store.check()
            statuses = _statuses(retry)
            chosen = self._only([str(key) for key in each(only)]) if only else self
            if where:
                part = chosen.planned.where(conditions_of(where))
                chosen = replace(chosen, planned=part)
            console = console or Terminal(file=sys.stdout)
            for text in () if console.quiet else self.notes:
                note(text)
            run_sweep(
                self.spec,
                self.planned,
                chosen.planned,
                self.store,
                chosen_executor,
                statuses,
                console,
                self.data,
                debugger,
            )
            return chosen

    def _only(self, keys: Collection[str]) -> Sweep:
        try:
            return replace(self, planned=self.planned.only(keys))
        except SpecError as error:
            words = [str(error), *changes(self.planned, keys, self.store)]
            raise SpecError("; ".join(words)) from error


def plan(
    spec: AnySpec,
    overrides: str | Iterable[str] | None = (),
    *,
    plugins: AnyPath | Iterable[AnyPath] | None = (),
    data: AnyPath | None = None,
    out: Where | None = None,
) -> Sweep:
    """The cells of a spec, before or after they have run. Runs nothing.

    Reads and caches the images, because their content is part of the cells' keys. All relative
    paths start at the folder that is now the current one.

    Parameters
    ----------
    spec : fields as in a spec's YAML, such as `{"name": "mine", "datasets": ["digits"], ...}`; the
        path of a spec file; the name of a packaged spec; or a `Spec`.
    overrides : fields in place of those of the spec, such as `"recipe.epochs=3"`.
    plugins : Python files that register metrics, networks and others, in addition to the spec's.
        A single file or override needs no list.
    data : the folder in which relative folders of images start; by default the current one.
    out : the results folder, a path or URI; by default `runs/NAME`.

    Raises
    ------
    SpecError, UserError
        If the spec or a plug-in is wrong, or images cannot be read; the message names what to
        change.
    SchemaError, StoreError
        If the results folder cannot be read.
    """
    checked = spec_of(spec, overrides, plugins)
    if out is not None and not isinstance(out, Folder) and not os.fspath(out):
        raise SpecError("the results folder is an empty text; leave it out for runs/NAME")
    store = Store(folder_of(out if out is not None else Path(RUNS) / checked.name).fixed())
    store.check()
    data = Path(data).expanduser().absolute() if data is not None else None
    with plugins_of(checked):
        return Sweep(checked, plan_cells(checked, data), store, data)


def run(
    spec: AnySpec,
    overrides: str | Iterable[str] | None = (),
    *,
    plugins: AnyPath | Iterable[AnyPath] | None = (),
    data: AnyPath | None = None,
    out: Where | None = None,
    executor: str = "ray",
    retry: str | Collection[str] | None = (),
    only: str | Collection[str] | None = (),
    where: Conditions | None = (),
    slurm: Mapping[str, object] | str | Sequence[str] | None = (),
    debugger: bool = False,
    console: Console | None = None,
) -> Sweep:
    """Runs the cells of a spec that have no row yet, and returns when all have ended.

    Parameters
    ----------
    spec, overrides, plugins, data, out : see `plan`.
    executor, retry, only, where, slurm, debugger, console : see `Sweep.run`.

    Raises
    ------
    As `plan` and `Sweep.run`.
    """
    checked = spec_of(spec, overrides, plugins)
    # What the executor cannot do is told before images are decoded.
    _executor(executor, slurm, debugger).check(checked)
    _statuses(retry)
    conditions = conditions_of(where)
    planned = plan(checked, data=data, out=out)
    return planned.run(
        executor,
        retry=retry,
        only=only,
        where=conditions,
        slurm=slurm,
        debugger=debugger,
        console=console,
    )


def _executor(
    name: str, slurm: Mapping[str, object] | str | Sequence[str] | None, debugger: bool
) -> Executor:
    if isinstance(slurm, Mapping):
        slurm = [f"{key}={value}" for key, value in slurm.items()]
    return executor_named(name, debugger, each(slurm))


def _statuses(given: str | Collection[str] | None) -> frozenset[str]:
    names = [str(name) for name in each(given)]
    if unknown := sorted(set(names) - set(STATUSES)):
        raise SpecError(f"--retry {', '.join(unknown)}: {allowed(unknown[0], STATUSES)}")
    return frozenset(names)
