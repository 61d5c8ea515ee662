"""Seconds and memory of planning, status and loading for large sweeps.

python tests/benchmarks/scale.py [--quick]
"""

from __future__ import annotations

import json
import multiprocessing
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from measuring import Spread, begin, finish, options, section, table
from sweep_rival import seconds_of

import results
from prune_core.metrics import METRICS
from results import Store
from results.storage.parquet_files import MANY
from results.storage.plan_file import PLAN
from results.storage.schema import table as rows_table
from sweep.planning.grid import plan
from sweep.spec.fields import Spec

# Only for this import: folders of tests have the same names as the packages that they test.
sys.path.append(str(Path(__file__).resolve().parents[1]))
from made_up_sweep import Grid, rows

sys.path.pop()

# With two scopes; the number of seeds follows from the number of cells.
METRICS_PLANNED, RATIOS_PLANNED = 20, 25
DISTINCT = 2_000

Figures = tuple[int, float, float | None]
"""Cells, seconds, and MiB of memory in addition to what the process had before, if measured."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints seconds and memory of each task on a large sweep."""
    given = begin(options(__doc__), arguments)
    repeats = given.repeats or (1 if given.quick else 3)
    shrink = 100 if given.quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        single, status, left = folder / "single", folder / "status", folder / "left"
        write_single(single, 2_000 // shrink)
        write_single(status, 10_000 // shrink)
        write_single(left, 10_000 // shrink)
        merge_but_the_last(left)
        compacted = write_compacted(folder / "compacted", 100_000 // shrink)
        lines = [
            ("`plan` with all keys", lambda: apart(planned, 100_000 // shrink)),
            ("`results.load`, compacted", lambda: apart(loaded, str(compacted))),
            ("`results.load`, a file a cell", lambda: apart(loaded, str(single))),
            ("`prune-sweep status`, as a run leaves its files", lambda: asked(left)),
            ("`prune-sweep status`, a file a cell", lambda: asked(status)),
        ]
        done = [(what, [work() for _ in range(repeats)]) for what, work in lines]
        Store(status).compact()
        done.append(("`prune-sweep status`, compacted", [asked(status) for _ in range(repeats)]))
    found = [
        [
            what,
            f"{figures[0][0]:,}",
            Spread.of(seconds for _, seconds, _ in figures).text(2),
            memory(figures),
        ]
        for what, figures in done
    ]
    columns = ["", "cells", "seconds", "memory beyond the imports, MiB"]
    note = (
        f"Median (lowest to highest) of {repeats} runs, each in a process of its own. `status` is "
        "the whole process, imports included; for the others imports are left out. A run leaves "
        f"{MANY:,} cells in a file and at most {MANY - 1} in files of their own."
    )
    finish("scale", section(f"{table(columns, found)}\n\n{note}"), given.quick)


def memory(figures: Sequence[Figures]) -> str:
    """The memory of several runs; a dash if it was not measured separately from the imports."""
    values = [value for _, _, value in figures if value is not None]
    return Spread.of(values).text(0) if values else "-"


def apart(work: Callable[..., Figures], *arguments: object) -> Figures:
    """Runs the work in a new process, so that memory of earlier work is not included."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()


def planned(cells: int) -> Figures:
    """Computes the cells of a spec and their keys."""
    few = big_spec(1)
    plan(few.model_copy(update={"metrics": few.metrics[:1], "ratios": [0.5]}))
    spec = big_spec(max(1, cells // (2 * METRICS_PLANNED * RATIOS_PLANNED)))

    def work() -> int:
        return len({cell.key for cell in plan(spec).cells})

    return measured(work)


def big_spec(seeds: int) -> Spec:
    """A spec with 1,000 cells per seed."""
    return Spec.model_validate(
        {
            "name": "large",
            "datasets": ["digits"],
            "network": {"variant": "simplenet_310k", "width": 0.5},
            "seeds": list(range(seeds)),
            "recipe": {"epochs": 1},
            "finetune": {"epochs": 1},
            "metrics": sorted(METRICS)[:METRICS_PLANNED],
            "ratios": [round(0.3 + 0.027 * step, 4) for step in range(RATIOS_PLANNED)],
        }
    )


def loaded(folder: str) -> Figures:
    """Loads a results folder as a frame."""
    return measured(lambda: len(results.load(folder)))


def measured(work: Callable[[], int]) -> Figures:
    """Seconds and memory of work that returns its number of cells."""
    before = _peak()
    started = time.perf_counter()
    cells = work()
    return cells, time.perf_counter() - started, _peak() - before


def asked(folder: Path) -> Figures:
    """Runs `prune-sweep status` on a finished sweep."""
    cells = len(json.loads((folder / PLAN).read_text())["cells"])
    command = [Path(sys.executable).with_name("prune-sweep"), "status", folder]
    return cells, seconds_of(command), None


def write_single(folder: Path, cells: int) -> None:
    """Writes a finished sweep with one file per cell, as runs do."""
    store = Store(folder)
    store.create()
    made = list(rows(Grid(seeds=range(1 + cells // 324))))[:cells]
    for row in made:
        store.write(row)
    keys = {row["key"]: f"{row['metric']} {row['ratio']}" for row in made}
    (folder / PLAN).write_text(json.dumps({"name": "made-up", "cells": keys}))


def merge_but_the_last(folder: Path) -> None:
    """Merges files as a run does, and leaves as many single files as a run may leave."""
    store = Store(folder)
    keys = sorted(store.single())
    few = min(MANY, len(keys) // 10)
    for start in range(0, len(keys) - few, few):
        store.merge(keys[start : start + few])


def write_compacted(folder: Path, cells: int) -> Path:
    """Writes a finished sweep in one file; it repeats the rows of some cells under new keys."""
    store = Store(folder)
    store.create()
    distinct = min(DISTINCT, cells)
    made = rows_table(list(rows(Grid(seeds=range(1 + distinct // 324))))[:distinct])
    whole = pa.concat_tables([made] * (cells // distinct))
    keys = pa.array([f"{number:016x}" for number in range(len(whole))])
    whole = whole.set_column(0, whole.schema.field("key"), keys)
    path = folder / "cells" / f"compacted-{secrets.token_hex(8)}.parquet"
    pq.write_table(whole, path, compression="zstd", write_page_checksum=True)
    return folder


def _peak() -> float:
    """Peak memory of this process in MiB."""
    # Not getrusage: its peak includes that of the parent process.
    lines = Path("/proc/self/status").read_text().splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kibibytes) / 1024


if __name__ == "__main__":
    main()
