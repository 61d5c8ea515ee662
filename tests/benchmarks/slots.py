"""The share of its slots' time that a sweep spent in cells, from the times in its rows.

python tests/benchmarks/slots.py FOLDER [--slots 2]

The time is counted from the start of the first cell, after its baseline, to the end of the last
cell. A slot can run one trial; without `--slots` their number is the largest number of cells that
ran at once. Baselines and statistics of later seeds have no rows and count as idle time, so the
share is a lower bound.
"""

from __future__ import annotations

import argparse

import results


def main() -> None:
    """Prints the share, and the longest time that a slot was without a cell."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder")
    options.add_argument("--slots", type=int)
    chosen = options.parse_args()
    rows = results.load(chosen.folder).dropna(subset=["started_at"])
    spans = sorted(zip(rows["started_at"], rows["finished_at"], strict=True))
    begins = [(began, 1) for began, _ in spans]
    ends = [(ended, -1) for _, ended in spans]
    running = most = 0
    for _, change in sorted([*begins, *ends]):
        running += change
        most = max(most, running)
    slots = chosen.slots or most
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
    waits.sort()
    print(f"{len(spans):,} cells, {slots} slots, {wall:.1f} s")
    print(f"{100 * busy / (wall * slots):.1f} % of the slots' time was spent in cells")
    middle = waits[len(waits) // 2]
    print(f"between two cells of a slot: median {middle:.3f} s, most {waits[-1]:.1f} s")


if __name__ == "__main__":
    main()
