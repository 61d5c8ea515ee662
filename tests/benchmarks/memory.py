"""The memory of a trial: the effect of keeping what it frees, and what its images take.

python tests/benchmarks/memory.py [--quick]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from made_up import BATCH, SCALING, network, noise
from measuring import Spread, begin, finish, options, section, table

from prune_core.evaluation import evaluate
from prune_core.images import load
from prune_core.memory import keep_freed_memory
from prune_core.training import Recipe, train

IMAGES = {"simplenet_310k": 1_024, "simplenet_5m": 256}
SMALLEST = 64
SIZES = (32, 64, 224)
TRAINED = 64  # images
MIB = 1024**2

Figures = dict[str, tuple[float, int]]
"""Seconds and page faults of each kind of work."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints seconds and page faults of evaluation and training, without and with kept memory."""
    parser = options(__doc__)
    parser.add_argument("--child", choices=("kept", "returned"), help="for internal use")
    parser.add_argument("--digits", type=int, help="for internal use")
    parser.add_argument("--cache", type=Path, help="for internal use")
    # As in a trial, which has one CPU.
    parser.set_defaults(threads=1)
    given = begin(parser, arguments)
    if given.child:
        print(json.dumps(figures(given.child == "kept", given.quick)))
        return
    if given.digits:
        print(json.dumps(memory_of_images(given.digits, given.cache)))
        return
    repeats = given.repeats or (1 if given.quick else 3)
    turns = [
        [
            asked("--child", how, threads=given.threads, quick=given.quick)
            for how in ("returned", "kept")
        ]
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
    text = f"{table(columns, rows)}\n\n{note}\n\n{images_table(given.threads, given.quick)}"
    finish("memory", section(text), given.quick)


def images_table(threads: int, quick: bool) -> str:
    """What the digits take at several sizes, on disk and in a process that trains on them."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for side in SIZES[: 1 if quick else None]:
            load("digits", image_size=(side, side), cache=Path(cache))
            found = asked("--digits", str(side), "--cache", cache, threads=threads, quick=quick)
            rows.append([f"{side} x {side}", *(f"{value / MIB:,.1f}" for value in found.values())])
    columns = ["digits, MiB", "training images", "mapped", "own, opened", "own, trained"]
    note = (
        "All processes of a machine share what is mapped. The last two columns are the growth of "
        "the process's own memory while it opened and split the images, and while it trained a "
        f"small network on {TRAINED} of them, in batches of 32."
    )
    return f"{table(columns, rows)}\n\n{note}"


def memory_of_images(side: int, cache: Path) -> dict[str, int]:
    """Bytes of the training images, and what this process maps and copies to train on them."""
    # The memory of the first convolution is that of the library, not of the images.
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.AdaptiveAvgPool2d(1))
    net.extend([torch.nn.Flatten(), torch.nn.Linear(4, 10)])
    recipe = Recipe(1, 32, learning_rate=1e-3, recalibrate=False, images=TRAINED)
    train(net, noise(TRAINED), SCALING, recipe, 0, True)
    before, mapped = resident("RssAnon"), resident("RssFile")
    split = load("digits", image_size=(side, side), cache=cache).split(0.1)
    opened, mapped = resident("RssAnon"), resident("RssFile") - mapped
    train(net, split.train, SCALING, recipe, 0, True)
    return {
        "images": split.train.nbytes,
        "mapped": mapped,
        "opened": opened - before,
        "trained": resident("RssAnon") - opened,
    }


def resident(field: str) -> int:
    """Bytes of this process in memory: `RssAnon` are its own, `RssFile` are shared; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith(f"{field}:"))
    return 1024 * int(found.split()[1])


def asked(*arguments: str, threads: int, quick: bool) -> dict[str, Any]:
    """The figures of a new process."""
    command = [sys.executable, Path(__file__), *arguments, "--threads", str(threads)]
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
