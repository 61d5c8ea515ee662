"""`prune-sweep status`: how many cells are done, running, failed and left."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from results.formatting import rough_duration, several
from results.storage.locations import Where, folder_of
from sweep.execution.status import read_status


def show(console: Console, where: Where) -> bool:
    """Prints the state of the last sweep in a folder.

    Returns
    -------
    Whether every cell has a row with status ok.

    Raises
    ------
    UserError, StoreError
        If the folder does not exist, or no sweep was run in it.
    """
    status = read_status(where)
    table = Table("cells", "done", "running", "failed", "left", "time left", box=None)
    seconds = status.seconds_left
    time = rough_duration(seconds) if seconds is not None and status.left else None
    counts = status.cells, status.ok, len(status.running), status.failed, status.left
    table.add_row(*map(str, counts), "-" if status.of_part else time or "-")
    console.print(f"{status.name} in {folder_of(where)}", markup=False, highlight=False)
    console.print(table)
    if status.of_part:
        part = f"the run is of a part: {several(status.cells_left or 0, 'cell')} left of it"
        console.print(part + (f", {time}" if time else ""), markup=False, highlight=False)
    for label in status.running:
        console.print(f"running: {label}", markup=False, highlight=False)
    for one, number in status.not_ok.items():
        console.print(f"{number} {one}", markup=False, highlight=False)
    if status.left and not status.active:
        console.print("no run is active; run the spec again to continue", markup=False)
    return status.complete
