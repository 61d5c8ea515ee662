"""Sweeps from Python: plan, run, and what became of the cells."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from prune_core.images.sources import parse_source
from prune_core.networks import NETWORKS
from prune_core.normalisation import NORMALISATIONS
from prune_core.spelling import allowed
from results import Store
from results.formatting import several
from results.storage.folder import Folder
from results.storage.locations import Where
from results.storage.schema import STATUSES
from results.storage.wrong_folder import RUNS
from sweep.errors import SpecError
from sweep.execution.changes import changes
from sweep.execution.executor import Executor
from sweep.execution.executors import executor_named
from sweep.execution.messages import say
from sweep.execution.run_sweep import run_sweep
from sweep.execution.status import Status, status_of
from sweep.planning.cells import Cell
from sweep.planning.grid import Plan
from sweep.planning.grid import plan as plan_cells
from sweep.spec.fields import Spec
from sweep.spec.parsing import of_fields, read
from sweep.spec.plugin_files import load

if TYPE_CHECKING:
    import pandas as pd

AnySpec = Spec | Mapping[str, Any] | str | Path
"""A spec: its fields, the path of its file, the name of a packaged spec, or a `Spec`."""


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
        """
        # `plan` and `run` need no pandas, whose import takes a second.
        import pandas as pd

        import results

        cells = {cell.key: cell for cell in self.cells}
        frame = results.load(self.folder)
        frame = frame[frame["key"].isin(cells)].reset_index(drop=True)
        mine = [cells[key] for key in frame["key"]]
        names: dict[str, Callable[[Cell], str]] = {
            "dataset": lambda cell: cell.baseline.dataset.name,
            "metric": lambda cell: cell.metric,
            "budget": lambda cell: cell.budget.label,
            "compensation": lambda cell: cell.compensation.label,
            "schedule": lambda cell: cell.schedule.label,
            "finetune": lambda cell: cell.finetune_name,
        }
        for name, of in names.items():
            frame[name] = pd.Series(map(of, mine), frame.index, frame[name].dtype)
        return frame

    def run(
        self,
        executor: str = "ray",
        *,
        retry: Collection[str] = (),
        only: Collection[str] = (),
        slurm: Mapping[str, object] | Sequence[str] = (),
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
        only : keys of cells or their beginnings; if given, no other cells run.
        slurm : what a job asks of Slurm, such as `{"partition": "gpu"}` or `["partition=gpu"]`; for
            the executor `slurm`.
        debugger : whether to open Python's debugger where a task fails; for `serial`.
        console : where notes and progress are printed: by default standard output;
            `rich.console.Console(quiet=True)` prints nothing.

        Returns
        -------
        This sweep; with `only`, one of these cells alone.

        Raises
        ------
        UserError, SchemaError, StoreError
            If the run cannot start or go on. No existing result is overwritten.
        """
        chosen_executor = _executor(executor, slurm, debugger)
        chosen_executor.check(self.spec)
        self.store.check()
        statuses = _statuses(retry)
        chosen = self._only(only) if only else self
        console = console or Console(file=sys.stdout)
        for note in self.notes:
            say(console, note)
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
    overrides: Sequence[str] = (),
    *,
    plugins: Iterable[str | Path] = (),
    data: str | Path | None = None,
    out: Where | None = None,
) -> Sweep:
    """The cells of a spec, before or after they have run. Runs nothing.

    Reads and caches the images, because their content is part of the cells' keys.

    Parameters
    ----------
    spec : fields as in a spec's YAML, such as `{"name": "mine", "datasets": ["digits"], ...}`; the
        path of a spec file; the name of a packaged spec; or a `Spec`.
    overrides : fields in place of those of the spec, such as `"recipe.epochs=3"`.
    plugins : Python files that register metrics, networks and others, in addition to the spec's.
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
    checked = _spec_of(spec, overrides, plugins)
    store = Store(out if out is not None else Path(RUNS) / checked.name)
    store.check()
    data = Path(data) if data is not None else None
    return Sweep(checked, plan_cells(checked, data), store, data)


def run(
    spec: AnySpec,
    overrides: Sequence[str] = (),
    *,
    plugins: Iterable[str | Path] = (),
    data: str | Path | None = None,
    out: Where | None = None,
    executor: str = "ray",
    retry: Collection[str] = (),
    only: Collection[str] = (),
    slurm: Mapping[str, object] | Sequence[str] = (),
    debugger: bool = False,
    console: Console | None = None,
) -> Sweep:
    """Runs the cells of a spec that have no row yet, and returns when all have ended.

    Parameters
    ----------
    spec, overrides, plugins, data, out : see `plan`.
    executor, retry, only, slurm, debugger, console : see `Sweep.run`.

    Raises
    ------
    As `plan` and `Sweep.run`.
    """
    checked = _spec_of(spec, overrides, plugins)
    # What the executor cannot do is told before images are decoded.
    _executor(executor, slurm, debugger).check(checked)
    _statuses(retry)
    planned = plan(checked, data=data, out=out)
    return planned.run(
        executor, retry=retry, only=only, slurm=slurm, debugger=debugger, console=console
    )


def _spec_of(
    spec: AnySpec, overrides: Sequence[str] = (), plugins: Iterable[str | Path] = ()
) -> Spec:
    loaded = load(plugins)
    if isinstance(spec, Mapping):
        checked = of_fields(spec, "the spec", overrides, loaded)
    elif not isinstance(spec, Spec):
        checked = read(str(spec), overrides, loaded)
    elif overrides or loaded:
        raise SpecError("overrides and plugins need the fields or the file of a spec, not a Spec")
    else:
        checked = spec
    _check_files(checked)
    return checked


def _check_files(spec: Spec) -> None:
    """Refuses what the program that calls registered itself.

    Workers could not load it, and no key would say which version of it made a row.
    """
    used: dict[str, Callable[..., object]] = {}
    for choice in [*spec.metrics, *spec.controls.widths_of]:
        used[f"metric '{choice.name}'"] = choice.metric.function
    for budget in [*spec.local_budgets, *spec.global_budgets]:
        used[f"budget '{budget.name}'"] = budget.rule.function
    for name in spec.normalisations:
        used[f"normalisation '{name}'"] = NORMALISATIONS[name].apply
    for dataset in spec.datasets:
        used[f"dataset '{dataset.name}'"] = parse_source(dataset.located)[0].find
    if spec.network.variant in NETWORKS:
        used[f"network '{spec.network.variant}'"] = NETWORKS[spec.network.variant].build
    for what, function in used.items():
        if function.__module__ == "__main__":
            raise SpecError(
                f"{what} is defined in the program that runs now; put it into a file of its own "
                "and name the file in `plugins`, so that workers can load it and a change of it "
                "makes new cells"
            )


def _executor(name: str, slurm: Mapping[str, object] | Sequence[str], debugger: bool) -> Executor:
    if isinstance(slurm, Mapping):
        slurm = [f"{key}={value}" for key, value in slurm.items()]
    return executor_named(name, debugger, slurm)


def _statuses(names: Collection[str]) -> frozenset[str]:
    if unknown := sorted(set(names) - set(STATUSES)):
        raise SpecError(f"--retry {', '.join(unknown)}: {allowed(unknown[0], STATUSES)}")
    return frozenset(names)
