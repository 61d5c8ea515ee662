r"""All measurements on one GPU, in two calls of less than 8 minutes each.

From the root of the repository, with `.` in PYTHONPATH if the package is not installed there:

    python tests/benchmarks/gpu.py --images FOLDER --seconds 340 --out gpu1.md \
        --parts training processes scoring
    python tests/benchmarks/gpu.py --images FOLDER --seconds 340 --out gpu2.md \
        --parts together sweep compiled
    python tests/benchmarks/gpu.py --publish gpu1.md gpu2.md

The first two print their tables row by row, so a call that is stopped has printed what it measured;
the third puts them into docs/benchmarks.md. After `--seconds`, no new measurement begins; the last
one may take a minute or two more. FOLDER holds CIFAR-10 as Parquet files. Where pyarrow is absent,
give an .npz file instead, which `--make-images` wrote on another machine; without `--images`, the
images are noise. The machine with the GPU needs no network. The part `sweep` needs all packages of
prune-sweep, the others need torch, torchvision, numpy and prune_core alone. A seventh part,
`baseline`, trains until a goal accuracy, for at most 150 s.

    python tests/benchmarks/gpu.py --device cpu --quick

runs all parts on a CPU with tiny sizes, to check that they work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import gpu_images
import torch
from gpu_baseline import baseline
from gpu_bench import FULL, QUICK, Bench
from gpu_report import Report, publish_all
from gpu_sharing import processes, together
from gpu_speeds import compiled, scoring, training
from gpu_sweep import DIGITS_CUT, Ask, missing, ran, thesis
from measuring import begin, options

from prune_core.precision import best_device


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables of all parts; see the docstring of the module for the steps."""
    parser = options(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: the GPU if there is one"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="see above")
    parser.add_argument("--images", type=Path, help="a folder of Parquet files or an .npz file")
    parser.add_argument("--out", type=Path, help="also write the output to this file")
    parser.add_argument("--executor", default="ray", help="of the sweeps: ray or serial")
    parser.add_argument(
        "--publish", type=Path, nargs="+", help="put these outputs into the document"
    )
    parser.add_argument("--make-images", type=Path, help="write an .npz file from --images")
    parser.add_argument("--train-images", type=int)
    parser.add_argument("--test-images", type=int)
    given = begin(parser, arguments)
    if given.publish is not None:
        for path in given.publish:
            print(f"{path}: {', '.join(publish_all(path.read_text()))}")
        return
    few = given.quick
    counts = (
        given.train_images or (48 if few else 10_000),
        given.test_images or (32 if few else 5_000),
    )
    if given.make_images is not None:
        if given.images is None:
            parser.error("--make-images needs --images, a folder with CIFAR-10 as Parquet files")
        gpu_images.write(given.make_images, given.images, *counts)
        return
    if given.device == "cpu":
        # Also for the processes that this one starts.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no GPU that torch can use")
    folder = given.images if given.images is not None and given.images.is_dir() else None
    if given.images is None:
        split = gpu_images.made_up(*counts)
    elif folder is not None:
        split = gpu_images.of_parquet(folder, *counts)
    else:
        split = gpu_images.read(given.images)
    device = best_device()
    report = Report(device, given.seconds, given.out)
    sets = split.train.to(device), split.test.to(device)
    sizes = QUICK if few else FULL
    known = given.images is not None
    bench = Bench(report, sizes, split, *sets, known, folder, given.executor)
    for part in given.parts:
        with report.section(f"gpu_{part}"):
            PARTS[part](bench)


def sweep(bench: Bench) -> None:
    """Sweeps with Ray on this machine."""
    if absent := missing():
        bench.report.say(f"Not measured: this machine has no {', '.join(absent)}.\n")
        return
    quick = bench.sizes.quick
    cut = thesis(bench.folder, *bench.sizes.cut, quick)
    if not bench.on_gpu:
        asks = [Ask("digits", DIGITS_CUT if quick else ()), Ask("thesis", cut)]
    else:
        asks = [Ask("digits", gpus=0.25), Ask("thesis", cut, 0.25), Ask("digits", gpus=1.0)]
        asks += [Ask("thesis", cut, 1.0)]
    columns = ["sweep", "cells", "wall, s", "slots", "of the slots' time in cells, %", "not ok"]

    def run(ask: Ask) -> list[str]:
        return ran(ask, max(60.0, min(bench.report.left, 240.0)), bench.executor)

    bench.report.rows(columns, ((ask.name, partial(run, ask)) for ask in asks))
    source = "CIFAR-10" if bench.folder else "the digits"
    bench.report.say(
        f"From the command to its end, the start of Ray included; executor {bench.executor}. The "
        f"cut of `thesis` is on {source}, with few metrics, ratios and epochs. The slots' time "
        "counts from the start of the first cell to the end of the last.\n"
    )


def trained(bench: Bench) -> None:
    """Seconds until a baseline reaches its goal accuracy."""
    variant, recipe, most = bench.sizes.baseline
    most = min(most, bench.report.left)
    if most <= 0:
        bench.report.say("Not measured: the time was over.\n")
        return
    text = baseline(variant, recipe, most, bench.train, bench.test, bench.known)
    bench.report.say(f"{text}\n")


PARTS: dict[str, Callable[[Bench], None]] = {
    "training": training,
    "scoring": scoring,
    "processes": processes,
    "together": together,
    "sweep": sweep,
    "compiled": compiled,
    "baseline": trained,
}


if __name__ == "__main__":
    main()
