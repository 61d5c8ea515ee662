"""`prune-sweep status`: how many cells are done, running, failed and left."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table

from results import Store
from results.formatting import rough_duration
from results.storage.locations import Where, folder_of
from results.storage.plan_file import PlanError, read_plan
from results.storage.wrong_folder import check_results
from sweep.errors import UserError
from sweep.execution.progress import read_progress


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
    folder = folder_of(where)
    check_results(folder)
    try:
        planned = read_plan(folder)
    except PlanError as error:
        raise UserError(str(error)) from error
    cells = planned.cells
    statuses = Store(folder).statuses()
    counts = Counter(statuses[key] for key in cells if key in statuses)
    progress = read_progress(folder)
    running = progress["running"] if progress else []
    ok, failed = counts["ok"], sum(counts.values()) - counts["ok"]
    left = len(cells) - ok - failed
    table = Table("cells", "done", "running", "failed", "left", "time left", box=None)
    seconds = progress["seconds_left"] if progress else None
    table.add_row(
        str(len(cells)),
        str(ok),
        str(len(running)),
        str(failed),
        str(left),
        rough_duration(seconds) if seconds is not None and left else "-",
    )
    console.print(f"{planned.name} in {folder}", markup=False, highlight=False)
    console.print(table)
    for label in running:
        console.print(f"running: {label}", markup=False, highlight=False)
    for status, number in sorted(counts.items()):
        if status != "ok":
            console.print(f"{number} {status}", markup=False, highlight=False)
    if left and not progress:
        console.print("no run is active; run the spec again to continue", markup=False)
    return ok == len(cells)
