"""The share of its slots' time that a sweep spent in cells, from the times in its rows.

python tests/benchmarks/slots.py FOLDER [--slots 2]

The time is counted from the start of the first cell, after its baseline, to the end of the last
cell. A slot can run one trial; without `--slots` their number is the largest number of cells that
ran at once. Baselines and statistics of later seeds have no rows and count as idle time, so the
share is a lower bound.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

import results

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Use:
    """How a sweep used its slots.

    Attributes
    ----------
    cells, slots : their numbers.
    seconds : from the start of the first cell to the end of the last.
    busy : fraction of the slots' time that was spent in cells.
    waits : seconds that a slot was without a cell before each cell, sorted.
    """

    cells: int
    slots: int
    seconds: float
    busy: float
    waits: list[float]


def use_of(rows: pd.DataFrame, slots: int | None = None) -> Use:
    """The use of the slots, from the times in the rows of a sweep.

    Raises
    ------
    ValueError
        If no row has a time.
    """
    rows = rows.dropna(subset=["started_at"])
    spans = sorted(zip(rows["started_at"], rows["finished_at"], strict=True))
    if not spans:
        raise ValueError("no row has the time of its start")
    begins = [(began, 1) for began, _ in spans]
    ends = [(ended, -1) for _, ended in spans]
    running = most = 0
    for _, change in sorted([*begins, *ends]):
        running += change
        most = max(most, running)
    slots = slots or most
    first, last = spans[0][0], max(ended for _, ended in spans)
    busy = sum((ended - began).total_seconds() for began, ended in spans)
    wall = (last - first).total_seconds()
    # Assign each cell to the slot that has been free for the longest time.
    free = [first] * slots
    waits = []
    for began, ended in spans:
        slot = free.index(min(free))
        waits.append((began - free[slot]).total_seconds())
        free[slot] = ended
    return Use(len(spans), slots, wall, busy / (wall * slots), sorted(waits))


def main() -> None:
    """Prints the share, and the longest time that a slot was without a cell."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder")
    options.add_argument("--slots", type=int)
    chosen = options.parse_args()
    used = use_of(results.load(chosen.folder), chosen.slots)
    print(f"{used.cells:,} cells, {used.slots} slots, {used.seconds:.1f} s")
    print(f"{100 * used.busy:.1f} % of the slots' time was spent in cells")
    middle = used.waits[len(used.waits) // 2]
    print(f"between two cells of a slot: median {middle:.3f} s, most {used.waits[-1]:.1f} s")


if __name__ == "__main__":
    main()
