"""The packaged digits sweep compared with the usual sweep, each as a whole process.

python tests/benchmarks/sweep_rival.py [--sample 4] [--quick]

The usual sweep would take an hour, so in each turn it runs a random sample of the cells, and its
time is scaled up. See `usual_sweep.py` for what it does.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from hardware import cores
from measuring import Spread, begin, finish, options, section, table

import results
from sweep.planning.grid import plan
from sweep.spec.parsing import read

HERE = Path(__file__).resolve().parent
TINY = """
name: tiny
datasets: [{source: digits, train_images: 300}]
network: {variant: simplenet_310k, width: 0.1}
recipe: {epochs: 1, batch_size: 64}
finetune: {epochs: 1, batch_size: 64, learning_rate: 0.05}
controls: {unpruned: false}
metrics: [input_l1, entropy_gaussian]
ratios: [0.5, 0.7]
"""


@dataclass(frozen=True)
class Sampled:
    """Seconds of a sample of the usual sweep's cells, run on `slots` slots."""

    wall: float
    trials: tuple[float, ...]
    slots: int

    @property
    def overhead(self) -> float:
        """Seconds outside the trials."""
        return max(0.0, self.wall - sum(self.trials) / self.slots)

    def of(self, cells: int) -> float:
        """Estimated seconds of a sweep: all trials at the mean length, and the overhead once.

        The overhead of starting further trials is left out, which favours the usual sweep.
        """
        return self.overhead + cells * sum(self.trials) / len(self.trials) / self.slots


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints both times, their ratio, and the share of the slots' time inside our trials."""
    parser = options(__doc__)
    parser.add_argument("--sample", type=int, default=4, help="cells of the usual sweep in a turn")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--workers", type=int, default=2, help="DataLoader workers, usual sweep")
    given = begin(parser, arguments)
    repeats = given.repeats or (1 if given.quick else 2)
    size = 2 if given.quick else given.sample
    ours: list[float] = []
    usual: list[Sampled] = []
    busy: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder, spec = Path(name), "digits"
        if given.quick:
            spec = str(folder / "tiny.yaml")
            Path(spec).write_text(TINY)
        cells = len(plan(read(spec)).cells)
        chance = random.Random(given.seed)
        sample = chance.sample(range(cells), repeats * size)
        for turn in range(repeats):
            out = folder / f"ours-{turn}"
            command = [Path(sys.executable).with_name("prune-sweep"), "run", spec, "--out", out]
            ours.append(seconds_of(command))
            busy.append(share_inside(results.load(out), cores()))
            part = sample[turn * size : (turn + 1) * size]
            usual.append(sampled(spec, part, given.workers, folder / f"usual-{turn}.json"))
    whole = [found.of(cells) for found in usual]
    trials = Spread.of(seconds for found in usual for seconds in found.trials)
    ratio = Spread.of(theirs / mine for mine, theirs in zip(ours, whole, strict=True))
    rows = [
        ["`prune-sweep run`, s", Spread.of(ours).text(0)],
        ["usual sweep, scaled up, s", Spread.of(whole).text(0)],
        ["usual / ours", ratio.text(1)],
        ["a trial of the usual sweep, s", trials.text(1)],
        ["share of slots' time inside our cells, %", Spread.of(busy).times(100).text(0)],
    ]
    note = (
        f"Median (lowest to highest) of {repeats} turns of whole processes; {cells} cells, "
        f"{cores()} slots. The usual sweep ran {repeats} x {size} of its cells, drawn with seed "
        f"{given.seed}, with {given.workers} workers in each DataLoader; to the time beside its "
        f"trials, {Spread.of(found.overhead for found in usual).text(0)} s, come {cells} trials of "
        "a turn's mean length. Slots' time counts from the end of the first baseline to that of "
        "the last cell; trials that collect statistics lie in it and count as outside."
    )
    text = section(f"{table(['whole sweep', 'measured'], rows)}\n\n{note}")
    finish("sweep_rival", text, given.quick)


def sampled(spec: str, cells: Sequence[int], workers: int, out: Path) -> Sampled:
    """Runs these cells as the usual sweep does."""
    words = ["--cells", ",".join(map(str, cells)), "--workers", workers]
    wall = seconds_of([sys.executable, HERE / "usual_sweep.py", spec, out, *words])
    trials = tuple(row["seconds"] for row in json.loads(out.read_text()))
    return Sampled(wall, trials, min(cores(), len(cells)))


def share_inside(frame: pd.DataFrame, slots: int) -> float:
    """The share of the slots' time that was spent in cells, from the start of the first cell."""
    spent = (frame["finished_at"] - frame["started_at"]).dt.total_seconds().sum()
    window = (frame["finished_at"].max() - frame["started_at"].min()).total_seconds()
    return float(spent / (slots * window))


def seconds_of(command: Sequence[object]) -> float:
    """Seconds from the start of a process to its end; its output is shown if it fails.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    started = time.perf_counter()
    ended = subprocess.run(
        list(map(str, command)),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if ended.returncode:
        raise RuntimeError(f"{command} ended with {ended.returncode}:\n{ended.stdout[-4000:]}")
    return seconds


if __name__ == "__main__":
    main()
