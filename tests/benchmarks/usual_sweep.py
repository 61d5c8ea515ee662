"""The usual sweep: a simple Tune grid in which every trial does all the work.

Each trial trains the baseline again with the usual loop, scores, prunes and fine-tunes. The rest
uses our code and is as fast as ours: images, metrics, budgets, removal, evaluation.

python tests/benchmarks/usual_sweep.py SPEC OUT [--cells 0,5,9] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# isort: split
import ray
import torch
from ray import tune
from usual_loop import WORKERS, usual_train

from prune_core.budgets import global_, local
from prune_core.evaluation import evaluate
from prune_core.images import load
from prune_core.layer import views
from prune_core.networks import SimpleNet
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.statistics import collect
from prune_core.surgery import prune
from prune_core.training import recalibrate
from sweep.planning.cells import Cell
from sweep.planning.grid import plan
from sweep.spec.parsing import read

REPORTED = ("seconds", "accuracy")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs cells of a spec as a Tune grid and writes each trial's seconds and accuracy as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec")
    parser.add_argument("out", type=Path)
    parser.add_argument("--cells", help="numbers of cells in the plan; all if not given")
    parser.add_argument("--workers", type=int, default=WORKERS, help="workers of each DataLoader")
    given = parser.parse_args(arguments)
    cells = plan(read(given.spec)).cells
    chosen = [int(number) for number in given.cells.split(",")] if given.cells else None
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as storage:
        grid = tune.Tuner(
            tune.with_parameters(trial, cells=cells, workers=given.workers),
            param_space={"cell": tune.grid_search(chosen or list(range(len(cells))))},
            run_config=tune.RunConfig(storage_path=storage, verbose=0),
        ).fit()
    if grid.errors:
        raise grid.errors[0]
    rows = [
        {"cell": result.config["cell"], **{name: result.metrics[name] for name in REPORTED}}
        for result in grid
    ]
    given.out.write_text(json.dumps(rows))


def trial(config: dict[str, Any], cells: Sequence[Cell], workers: int) -> None:
    """Runs one cell, from training the baseline to the final accuracy."""
    started = time.perf_counter()
    cell = cells[config["cell"]]
    baseline, importance, seed = cell.baseline, cell.importance, cell.baseline.seed
    assert importance is not None
    split = load(baseline.dataset.source).split(baseline.dataset.holdout)
    preprocessing = Preprocessing.of(split.train.images)
    flip = baseline.dataset.flip_keeps_label
    torch.manual_seed(derive(seed, "weights"))
    net = SimpleNet(baseline.architecture)

    def train(net: SimpleNet, stage: str) -> None:
        recipe = baseline.recipe if stage == "baseline" else cell.finetune
        of = derive(seed, stage)
        usual_train(net, split.train, preprocessing, recipe, of, flip, workers)
        recalibrate(net, split.train, preprocessing, recipe, of, flip)

    def accuracy(net: SimpleNet) -> float:
        evaluate(net, split.validation, preprocessing)
        return evaluate(net, split.test, preprocessing).top1

    train(net, "baseline")
    accuracy(net)
    used = split.train.first(importance.images)
    requests = importance.choice.needs()
    layers = views(net, collect(net, used, preprocessing, requests) if requests else None)
    scores = importance.choice(layers)
    budget = global_ if cell.budget.scope == "global" else local
    net = prune(net, budget(scores, baseline.architecture, cell.ratio, cell.budget.floor))
    accuracy(net)
    recalibrate(net, split.train, preprocessing, baseline.recipe, derive(seed, "cell"), flip)
    accuracy(net)
    train(net, "finetune")
    tune.report({"accuracy": accuracy(net), "seconds": time.perf_counter() - started})


if __name__ == "__main__":
    main()
