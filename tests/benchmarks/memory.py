"""The effect of keeping freed memory in the process of a trial.

python tests/benchmarks/memory.py [--quick]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from made_up import BATCH, SCALING, network, noise
from measuring import Spread, begin, finish, options, section, table

from prune_core.evaluation import evaluate
from prune_core.memory import keep_freed_memory
from prune_core.training import Recipe, train

IMAGES = {"simplenet_310k": 1_024, "simplenet_5m": 256}
SMALLEST = 64

Figures = dict[str, tuple[float, int]]
"""Seconds and page faults of each kind of work."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints seconds and page faults of evaluation and training, without and with kept memory."""
    parser = options(__doc__)
    parser.add_argument("--child", choices=("kept", "returned"), help="for internal use")
    # As in a trial, which has one CPU.
    parser.set_defaults(threads=1)
    given = begin(parser, arguments)
    if given.child:
        print(json.dumps(figures(given.child == "kept", given.quick)))
        return
    repeats = given.repeats or (1 if given.quick else 3)
    turns = [
        [asked(how, given.threads, given.quick) for how in ("returned", "kept")]
        for _ in range(repeats)
    ]
    rows = []
    for what in turns[0][0]:
        returned, kept = ([turn[at][what] for turn in turns] for at in range(2))
        ratio = Spread.of(one[0] / other[0] for one, other in zip(returned, kept, strict=True))
        seconds = [Spread.of(each[0] for each in found).text(3) for found in (returned, kept)]
        faults = [Spread.of(each[1] for each in found).text(0) for found in (returned, kept)]
        rows.append([what, *seconds, ratio.text(2), *faults])
    columns = ["work", "returned, s", "kept, s", "times as fast"]
    columns += ["page faults, returned", "page faults, kept"]
    note = (
        f"Median (lowest to highest) of {repeats} turns of a process each; page faults are those "
        "that took a page from the system."
    )
    finish("memory", section(f"{table(columns, rows)}\n\n{note}"), given.quick)


def asked(how: str, threads: int, quick: bool) -> Figures:
    """The figures of a new process."""
    command = [sys.executable, Path(__file__), "--child", how, "--threads", str(threads)]
    found = subprocess.run(
        [*command, *(["--quick"] if quick else [])], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(found.stdout)


def figures(kept: bool, quick: bool) -> Figures:
    """Measures in this process."""
    if kept and not keep_freed_memory():
        raise SystemExit("this C library cannot keep freed memory; use glibc")
    recipe = Recipe(1, SMALLEST if quick else BATCH, learning_rate=1e-3, recalibrate=False)
    found: Figures = {}
    for variant, images in IMAGES.items():
        seen = noise(SMALLEST if quick else images)
        net = network(variant, 1.0)
        found[f"evaluation of {len(seen):,} images, `{variant}`"] = measured(
            lambda net=net, seen=seen: evaluate(net, seen, SCALING)
        )
        found[f"an epoch of {len(seen):,} images, `{variant}`"] = measured(
            lambda net=net, seen=seen: train(net, seen, SCALING, recipe, 0, True)
        )
    return found


def measured(work: Callable[[], object]) -> tuple[float, int]:
    """Median seconds of three runs, and page faults of the last run."""
    work()
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return Spread.of(seconds).median, faults


if __name__ == "__main__":
    main()
