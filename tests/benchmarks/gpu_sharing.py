"""Several trials on one GPU: processes beside one another, and networks trained as one."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import mps
from gpu_bench import NOT_ON_A_CPU, SMALL, Bench, turns
from gpu_forms import alone
from gpu_together import Together, siblings
from made_up import network
from measuring import Spread, in_turns, speed_ratio
from packed import RATIO, Work, side_by_side
from torch import nn
from training import ours

from prune_core.evaluation import evaluate
from prune_core.precision import resolve
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.training import Recipe, recalibrate, train


def processes(bench: Bench) -> None:
    """Trials per hour for each number of processes that share the device."""
    sizes, report = bench.sizes, bench.report
    work = Work(
        network(SMALL).architecture,
        bench.split.train,
        bench.split.test,
        sizes.finetune,
        sizes.trials,
    )
    hours: dict[tuple[str, int], float] = {}

    def packed(kind: str, count: int) -> list[str]:
        found = side_by_side(work, count, most_seconds=max(60.0, min(report.left, 240.0)))
        hours[kind, count] = found.trials_per_hour
        one = hours.get((kind, 1)) or hours.get(("none", 1))
        ratio = f"{found.trials_per_hour / one:.2f}" if one else "-"
        spread = Spread.of(found.trial_seconds)
        return [f"{found.trials_per_hour:,.0f}", ratio, spread.text(2)]

    columns = ["processes", "trials an hour", "times one process", "seconds a trial"]
    report.rows(columns, ((str(n), partial(packed, "none", n)) for n in sizes.processes))
    report.say("With CUDA's Multi-Process Service (MPS):\n")
    if not bench.on_gpu:
        report.say(f"MPS is {NOT_ON_A_CPU}.\n")
    else:
        try:
            with mps.service():
                report.rows(columns, ((str(n), partial(packed, "mps", n)) for n in sizes.processes))
        except mps.NoService as error:
            report.say(f"MPS could not be used: {error}.\n")
    report.say(
        f"`{SMALL}` pruned to {RATIO}, {len(work.images):,} training images, "
        f"{sizes.finetune.epochs} epochs of fine-tuning, {len(work.test):,} test images three "
        "times; each process has one thread.\n"
    )


def together(bench: Bench) -> None:
    """Networks of equal widths trained as one: speed, and accuracies next to single trainings."""
    sizes, report = bench.sizes, bench.report
    columns = ["networks", "together, images/s x networks", "times one as trained"]
    columns += ["together in a CUDA graph, images/s x networks", "times one as trained"]
    columns += ["times one in a CUDA graph"]
    for variant in (SMALL,) if sizes.quick else (SMALL, "simplenet_5m", "resnet56"):
        report.say(f"`{variant}` at {RATIO}:\n")
        report.rows(
            columns, ((str(n), partial(_stacked, bench, variant, n)) for n in sizes.together)
        )
    report.say(f"{turns(bench)} training in {resolve('auto', bench.device)}.\n")
    count, recipe = sizes.compared
    if report.left > 0:
        _compare(bench, count, recipe)


def _stacked(bench: Bench, variant: str, count: int) -> list[str]:
    nets = [network(variant, RATIO).to(bench.device) for _ in range(count)]
    images = bench.train.first(bench.sizes.stacked)
    recipe = replace(bench.recipe, batch_size=min(bench.recipe.batch_size, len(images)))
    forms = [ours(network(variant, RATIO).to(bench.device), images, recipe)]
    forms.append(Together(nets).steps(images, recipe).load(count))
    if bench.on_gpu:
        graph = alone(network(variant, RATIO).to(bench.device), images, recipe)
        forms.append(graph.capture().load())
        forms.append(Together(nets).steps(images, recipe).capture().load(count))
    one, stacked, *graphs = in_turns(*forms, repeats=bench.sizes.repeats)
    cells = [stacked.rate.text(0), speed_ratio(stacked, one).text(2)]
    if not graphs:
        return [*cells, NOT_ON_A_CPU]
    single, whole = graphs
    ratios = [speed_ratio(whole, other).text(2) for other in (one, single)]
    return [*cells, whole.rate.text(0), *ratios]


def _compare(bench: Bench, count: int, recipe: Recipe) -> None:
    """Test accuracies of networks that were trained alone and of the same, trained together."""
    scaling = Preprocessing.of(bench.split.train)
    full = network(SMALL).to(bench.device)
    train(full, bench.train, scaling, recipe, 0, flip_keeps_label=True)
    finetune = bench.sizes.finetune
    nets = siblings(full, RATIO, count)
    both = Together([copy.deepcopy(net) for net in nets])
    both.steps(bench.train, finetune, scaling.on(bench.device)).train(seed=0)
    both.give_back()

    def accuracy(net: nn.Module) -> float:
        return 100 * evaluate(net, bench.test, scaling).top1

    differences = []

    def compared(index: int) -> list[str]:
        train(nets[index], bench.train, scaling, finetune, 0, flip_keeps_label=True)
        end = derive(0, "end")
        recalibrate(both.nets[index], bench.train, scaling, finetune, end, True)
        found = accuracy(nets[index]), accuracy(both.nets[index])
        differences.append(found[1] - found[0])
        return [f"{found[0]:.2f}", f"{found[1]:.2f}", f"{differences[-1]:+.2f}"]

    bench.report.say(f"Test accuracy of networks that were pruned from one `{SMALL}`:\n")
    columns = ["network", "trained alone, %", "together, %", "difference, points"]
    bench.report.rows(columns, ((str(i), partial(compared, i)) for i in range(count)))
    if differences:
        noise = "" if bench.known else " The images are noise: the accuracy is that of guessing."
        bench.report.say(
            f"Mean difference {sum(differences) / len(differences):+.2f} points; same seed, order "
            f"and crops; {len(bench.train):,} training images, {finetune.epochs} epochs.{noise}\n"
        )
