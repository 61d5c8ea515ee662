"""Time and size of the report of a made-up sweep.

python tests/benchmarks/report.py [--seeds 3] [--metrics 12] [--scopes 1]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import made_up_sweep  # noqa: E402

from results import report  # noqa: E402

SCOPES = (("local", "none"), ("global", "none"), ("global", "layer_zscore"))


def main() -> None:
    """Prints a line for each format: cells, wall and processor seconds, megabytes."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--metrics", type=int, default=12)
    arguments.add_argument("--scopes", type=int, default=1, choices=[1, 2, 3])
    chosen = arguments.parse_args()
    grid = made_up_sweep.Grid(
        metrics=made_up_sweep.METRICS[: chosen.metrics],
        seeds=range(chosen.seeds),
        scopes=SCOPES[: chosen.scopes],
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = list(made_up_sweep.rows(grid))
        made_up_sweep.write(Path(folder) / "runs", rows, scores=True)
        for form in report.FORMATS:
            wall, processor = time.perf_counter(), time.process_time()
            path = report.write([Path(folder) / "runs"], form)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            megabytes = path.stat().st_size / 1e6
            print(
                f"{form:<5} {len(rows):>6,} cells  {wall:6.1f} s  "
                f"processor {processor:6.1f} s  {megabytes:5.2f} MB"
            )


if __name__ == "__main__":
    main()
