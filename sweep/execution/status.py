"""How many cells of a sweep are done, running, failed and left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from results import Store
from results.storage.folder import Folder
from results.storage.locations import Where, folder_of
from results.storage.plan_file import PlanError, read_plan
from results.storage.wrong_folder import check_results
from sweep.errors import UserError
from sweep.execution.progress import in_words, read_progress


@dataclass(frozen=True)
class Status:
    """The state of a sweep.

    Attributes
    ----------
    name : of the sweep.
    cells : how many it has.
    ok : cells with a row of the status ok.
    not_ok : the numbers of cells with other statuses, such as `{"failed": 2}`.
    running : what runs now, in words, with the epochs that a long training of a baseline has done;
        empty if no run is active.
    active : whether a run is active.
    seconds_left : until the active run ends, estimated; None if it is not known.
    cells_left : cells that the active run has yet to end; fewer than `left` if it is of a part.
        None if it is not known.
    """

    name: str
    cells: int
    ok: int
    not_ok: Mapping[str, int]
    running: tuple[str, ...] = ()
    active: bool = False
    seconds_left: float | None = None
    cells_left: int | None = None

    @property
    def failed(self) -> int:
        """Cells with a row of another status than ok."""
        return sum(self.not_ok.values())

    @property
    def left(self) -> int:
        """Cells that have no row."""
        return self.cells - self.ok - self.failed

    @property
    def complete(self) -> bool:
        """Whether every cell is ok."""
        return self.ok == self.cells

    @property
    def of_part(self) -> bool:
        """Whether the active run will leave cells without a row, because it is of a part."""
        return self.cells_left is not None and self.cells_left < self.left


def read_status(where: Where) -> Status:
    """The state of the last sweep in a results folder.

    Raises
    ------
    UserError, StoreError
        If the folder does not exist, or no sweep was run in it.
    """
    folder = folder_of(where)
    check_results(folder)
    try:
        planned = read_plan(folder)
    except PlanError as error:
        raise UserError(str(error)) from error
    return status_of(planned.name, planned.cells, folder)


def status_of(name: str, keys: Collection[str], folder: Folder) -> Status:
    """The state of the cells with these keys; a folder that does not exist yet has no rows."""
    # A row is written before the progress, so the rows are never behind if they are read later.
    progress = read_progress(folder) or {}
    statuses = Store(folder).statuses()
    counts = Counter(statuses[key] for key in keys if key in statuses)
    ok = counts.pop("ok", 0)
    return Status(
        name=name,
        cells=len(keys),
        ok=ok,
        not_ok=dict(sorted(counts.items())),
        running=tuple(
            in_words(label, progress.get("trainings", {}).get(label), folder)
            for label in progress.get("running", ())
        ),
        active=bool(progress),
        seconds_left=progress.get("seconds_left"),
        cells_left=progress.get("cells_left"),
    )
