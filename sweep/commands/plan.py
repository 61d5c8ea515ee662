"""`prune-sweep plan`: the cells, sizes and time of a sweep before it runs."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prune_core.compensation import NO_COMPENSATION
from prune_core.cost import multiply_accumulates, parameters
from prune_core.schedule import ALL_AT_ONCE
from results.formatting import rough_duration, several
from results.storage.schema import FINETUNE
from sweep.api import Sweep
from sweep.execution.estimate import Estimate
from sweep.execution.messages import note
from sweep.execution.resources import resources_of, slots, this_machine, unplaceable
from sweep.execution.tasks import Task, missing_tasks
from sweep.planning.grid import Plan
from sweep.spec.fields import Spec
from sweep.stages.workspace import Workspace

COUNTED = {"parameters": "parameters", "macs": "multiply-accumulates", "channels": "channels"}
"""What the ratio of a budget counts, in words."""


def describe(console: Console, sweep: Sweep, part: Plan) -> None:
    """Prints the grid, how many cells are done, network sizes and the time for the rest.

    Parameters
    ----------
    part : the cells whose number and time are asked for; the plan of the sweep for all.
    """
    spec, planned, store = sweep.spec, sweep.planned, sweep.store
    statuses = store.statuses()
    missing = [cell for cell in part.cells if cell.key not in statuses]
    bad = sum(statuses.get(cell.key, "ok") != "ok" for cell in part.cells)
    partly = len(part.cells) < len(planned.cells)
    for text in planned.notes:
        note(text)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in (
        ("sweep", spec.name),
        ("results", str(store.folder)),
        *(("plug-in", f"{one.entry}, fingerprint {one.fingerprint}") for one in spec.plugins),
        ("cells", f"{len(planned.cells)}: {_grid(spec, planned)}"),
        ("metrics", ", ".join(choice.label for choice in spec.metrics)),
        ("ratios", _ratios(spec)),
        ("budgets", ", ".join(name for scope in spec.scopes for name in _budgets(spec, scope))),
        *_losses(planned),
        *_protocols(spec),
        *([("this part", several(len(part.cells), "cell"))] if partly else []),
        ("done", f"{len(part.cells) - len(missing)}" + (f", {bad} of them not ok" * (bad > 0))),
        ("to run", str(len(missing))),
    ):
        table.add_row(name, Text(text))
    console.print(table, highlight=False)
    for line in _networks(planned):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if missing:
        tasks = missing_tasks(Workspace(store.folder.absolute(), spec.name), missing)
        with console.status("measuring a few steps"):
            words = _time(spec, tasks)
        console.print(words, highlight=False, soft_wrap=True)


def _time(spec: Spec, tasks: list[Task]) -> str:
    here = [this_machine()]
    trial = resources_of(spec.resources, here)
    if why := unplaceable(trial, {task.kind for task in tasks}, here):
        return f"no time estimate: this machine cannot run the sweep, because {why}"
    at_once = slots(trial, here)
    seconds = Estimate(trial).seconds(tasks, at_once)
    total = seconds.total
    parts = {
        "training baselines": seconds.baselines,
        "statistics": seconds.statistics,
        "fine-tuning and controls": seconds.training,
        "evaluation": seconds.evaluation,
    }
    shares = ", ".join(f"{name} {100 * part / total:.0f} %" for name, part in parts.items() if part)
    return (
        f"about {rough_duration(total)} on this machine, {at_once['cell']} at a time, estimated "
        f"from a few measured steps: {shares}; starting Ray takes additional time"
    )


def _losses(planned: Plan) -> list[tuple[str, str]]:
    """What budgets cost that compute a loss, for the cell that computes it most often."""
    most: dict[str, tuple[int, int]] = {}
    for cell in planned.cells:
        choice, full = cell.budget.choice, cell.baseline.architecture
        if choice.reads_loss:
            times = choice.evaluations(full, cell.ratio, cell.budget.floor) * cell.schedule.steps
            images = min(choice.loss_images, cell.baseline.dataset.train_images)
            most[choice.label] = max(most.get(choice.label, (0, 0)), (times, images))
    return [
        ("losses", f"{label}: up to about {times:,} of {images:,} images in a cell")
        for label, (times, images) in most.items()
    ]


def _protocols(spec: Spec) -> list[tuple[str, str]]:
    """What is done beside removing channels, where a spec asks for more than the usual."""
    axes = {
        "compensations": [each.label for each in spec.compensations],
        "schedules": [each.label for each in spec.schedules],
        "fine-tuning": [each.name for each in spec.finetune],
    }
    usual = ([NO_COMPENSATION.label], [ALL_AT_ONCE.label], [FINETUNE])
    return [(name, ", ".join(labels)) for name, labels in axes.items() if labels not in usual]


def _ratios(spec: Spec) -> str:
    """The ratios, and what they count: parameters, or channels for some rules."""
    listed = [", ".join(f"{ratio:g}" for ratio in spec.ratios_of(scope)) for scope in spec.scopes]
    ratios = listed[0]
    if len(set(listed)) > 1:
        ratios = "; ".join(f"{scope} {one}" for scope, one in zip(spec.scopes, listed, strict=True))
    rules = spec.local_budgets * ("local" in spec.scopes)
    rules = rules + spec.global_budgets * ("global" in spec.scopes)
    counted: dict[str, list[str]] = {}
    for rule in rules:
        counted.setdefault(rule.ratio_of, []).append(rule.label)
    first, *others = (of for of in COUNTED if of in counted)
    words = [f"of the {COUNTED[of]} for {', '.join(counted[of])}" for of in others]
    return f"{ratios} of the {COUNTED[first]}{', but ' * bool(words)}{' and '.join(words)}"


def _budgets(spec: Spec, scope: str) -> list[str]:
    if scope == "local":
        return [f"local {rule.label}" for rule in spec.local_budgets]
    return [
        rule.label + f" by {normalisation}" * (normalisation != "none")
        for rule in spec.global_budgets
        for normalisation in spec.normalisations
    ]


def _budgets_by_ratios(spec: Spec) -> str:
    """How many budgets and ratios there are: one product, or one for each scope."""
    counts = {
        scope: (len(_budgets(spec, scope)), tuple(spec.ratios_of(scope))) for scope in spec.scopes
    }
    ratios, *others = {ratios for _, ratios in counts.values()}
    if not others:
        budgets = sum(count for count, _ in counts.values())
        return f"{several(budgets, 'budget')} x {several(len(ratios), 'ratio')}"
    parts = [
        f"{several(count, f'{scope} budget')} x {several(len(ratios), 'ratio')}"
        for scope, (count, ratios) in counts.items()
    ]
    return f"({' + '.join(parts)})"


def _grid(spec: Spec, planned: Plan) -> str:
    axes = [
        (len(spec.datasets), "dataset"),
        (len(spec.seeds), "seed"),
        (len(spec.metrics), "metric"),
    ]
    protocols = [
        (len(spec.compensations), "compensation"),
        (len(spec.schedules), "schedule"),
        (len(spec.finetune), "recipe"),
    ]
    parts = [several(count, name) for count, name in axes]
    parts.append(_budgets_by_ratios(spec))
    parts += [several(count, name) for count, name in protocols if count > 1]
    grid = " x ".join(parts)
    rewound = sum(one.rewind == "weights" for one in spec.finetune)
    compensated = len(spec.compensations) - (NO_COMPENSATION in spec.compensations)
    if rewound and compensated:
        grid += " (no compensation where weights are rewound)"
    controls = sum(
        cell.importance is None or cell.budget.reference is not None for cell in planned.cells
    )
    return f"{grid} + {several(controls, 'control')}" if controls else grid


def _networks(planned: Plan) -> list[str]:
    lines = []
    baselines = {cell.baseline.dataset.name: cell.baseline for cell in planned.cells}
    for baseline in baselines.values():
        dataset, architecture = baseline.dataset, baseline.architecture
        width = f" with widths x {baseline.width:g}" if baseline.width != 1 else ""
        lines.append(
            f"{dataset.name}: {dataset.train_images:,} training images, "
            f"{dataset.validation_images:,} held out, {dataset.test_images:,} test images, "
            f"{dataset.classes} classes; {baseline.variant}{width}: "
            f"{parameters(architecture):,} parameters, "
            f"{multiply_accumulates(architecture) / 1e6:.1f} M multiply-accumulates per image"
        )
    return lines
