"""Turns a spec into the cells of its grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from prune_core.budgets import BudgetChoice, BudgetError, Floor, rules_of
from prune_core.compensation import NO_COMPENSATION
from prune_core.images import ImagesError, load
from prune_core.images.sources import parse_source
from prune_core.metrics import Choice
from prune_core.networks import ArchitectureError
from prune_core.spelling import allowed
from results.storage.plan_file import Comparison
from results.storage.schema import SCRATCH, UNPRUNED
from sweep.errors import SpecError
from sweep.planning.baselines import Baseline, Dataset
from sweep.planning.cells import Budget, Cell
from sweep.planning.comparisons import comparisons_of
from sweep.planning.network import Network, network_of
from sweep.planning.notes import without_effect
from sweep.planning.scores import Importance
from sweep.spec.conditions import spelled
from sweep.spec.datasets import DatasetSpec
from sweep.spec.fields import Spec


@dataclass(frozen=True)
class Plan:
    """The cells of a spec, its name, notes about spec and images, and its main comparisons."""

    name: str
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    def only(self, keys: Iterable[str]) -> Plan:
        """The plan restricted to the cells with these keys or beginnings of keys.

        Raises
        ------
        SpecError
            If a key matches no cell or several cells.
        """
        chosen: dict[str, Cell] = {}
        for key in keys:
            named = [cell for cell in self.cells if key and cell.key.startswith(key)]
            if len(named) != 1:
                raise SpecError(
                    f"--cell {key} matches {len(named) or 'none'} of the {len(self.cells)} cells "
                    f"of {self.name}; give a row's `key`, or enough digits to match one cell only"
                )
            chosen[named[0].key] = named[0]
        return replace(self, cells=tuple(chosen.values()))

    def where(self, conditions: Mapping[str, Sequence[object]]) -> Plan:
        """The plan restricted to the cells that have one of the values given on each axis.

        Parameters
        ----------
        conditions : values by the name of an axis, as `Cell.axes` has them; None where the axis
            does not apply. Spaces and the order of options do not count.

        Raises
        ------
        SpecError
            If an axis or a value is not in the plan, or no cell has them all.
        """
        if not conditions:
            return self
        axes = [cell.axes for cell in self.cells]
        chosen = set(range(len(axes)))
        for name, values in conditions.items():
            if axes and name not in axes[0]:
                raise SpecError(f"--where {name}: {allowed(name, axes[0])}")
            there = {spelled(one[name]): one[name] for one in axes}
            for value in values:
                if spelled(value) not in there:
                    known = allowed(_shown(value), map(_shown, there.values()), "there are ")
                    raise SpecError(f"--where {name}={_shown(value)}: no cell has it; {known}")
            wanted = set(map(spelled, values))
            chosen = {at for at in chosen if spelled(axes[at][name]) in wanted}
        if not chosen:
            said = [
                f"{name} {' or '.join(map(_shown, values)) or '[]'}"
                for name, values in conditions.items()
            ]
            raise SpecError(f"--where: no cell of {self.name} has {' and '.join(said)}")
        return replace(self, cells=tuple(self.cells[at] for at in sorted(chosen)))


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


def plan(spec: Spec, data: Path | None = None) -> Plan:
    """The cells of a spec.

    Reads and caches the images, because their content is part of the keys.

    Parameters
    ----------
    data : the folder of the data sets; see `prune_core.images.load`.

    Raises
    ------
    SpecError
        If data cannot be read, a ratio cannot be reached, or two entries of the spec are the
        same cell. The message names what to change.
    """
    cells: list[Cell] = []
    notes = without_effect(spec)
    for entry in spec.datasets:
        dataset, said = _dataset(entry, spec, data)
        notes += [f"{dataset.name}: {note}" for note in said]
        try:
            network = network_of(spec.network, dataset.classes, dataset.image_size)
        except ArchitectureError as error:
            words = str(error)
            what = "" if words.startswith("network ") else "network: "
            raise SpecError(f"dataset {dataset.name}: {what}{words}") from error
        _check_norms(spec, dataset, network)
        notes += [note for note in (*network.fixed, *network.notes) if note not in notes]
        of_dataset = list(_cells(spec, dataset, network))
        _check_reachable(dataset, network, of_dataset)
        cells += of_dataset
    _check_distinct(cells)
    return Plan(spec.name, tuple(cells), tuple(notes), comparisons_of(spec, cells))


def _dataset(entry: DatasetSpec, spec: Spec, data: Path | None) -> tuple[Dataset, tuple[str, ...]]:
    try:
        wanted = entry.image_size
        size = (wanted[0], wanted[1]) if wanted else None
        images = load(entry.located, image_size=size, data=data)
        cut = _effective_cut(entry.train_images, images.train_labels)
        test_cut = _effective_cut(entry.test_images, images.test_labels)
        split = images.cut(cut, test_cut).split(spec.holdout)
    except ImagesError as error:
        raise SpecError(f"dataset {entry.name}: {error}") from error
    own = images.validation_images is not None
    by = parse_source(entry.located)[0].provider
    dataset = Dataset(
        name=entry.name,
        source=entry.located,
        data=_base(entry.source, data),
        image_size=split.image_size,
        fingerprint=images.fingerprint,
        classes=split.classes,
        train_images=len(split.train),
        validation_images=len(split.validation),
        test_images=len(split.test),
        cut=cut,
        test_cut=test_cut,
        # It changes nothing where the source has validation images of its own.
        holdout=0.0 if own else spec.holdout,
        flip_keeps_label=split.flip_keeps_label if entry.flip is None else entry.flip,
        own_validation=own,
        skipped=images.skipped,
        copies=images.copies,
        plugin=by.fingerprint if by else "",
    )
    return dataset, images.notes + split.notes


def _base(source: str, data: Path | None) -> str | None:
    """The absolute base of a relative source: workers may have another current directory."""
    if data is None and parse_source(source)[0].takes_folder:
        data = Path.cwd()
    return None if data is None else str(data.resolve())


def _check_distinct(cells: list[Cell]) -> None:
    labels: dict[str, str] = {}
    for cell in cells:
        label = cell.label
        if (first := labels.setdefault(cell.key, label)) != label:
            raise SpecError(
                f"'{first}' and '{label}' are the same cell, with the same images and "
                "options; remove one of the two from the spec"
            )


def _effective_cut(wanted: int | None, images: Sized) -> int | None:
    """The cut, or None if it takes all images: such a cell is the same as one without a cut."""
    return None if wanted == len(images) else wanted


def _check_reachable(dataset: Dataset, network: Network, cells: list[Cell]) -> None:
    """Refuses ratios that the floor does not allow; a rule may count channels and allow them."""
    asked = {(cell.budget.choice, cell.ratio, cell.budget.floor): cell for cell in cells}
    try:
        for (choice, ratio, floor), cell in asked.items():
            choice.check(cell.baseline.architecture, ratio, floor)
    except BudgetError as error:
        words = "; ".join([str(error), *network.fixed])
        raise SpecError(f"dataset {dataset.name}: {words}") from error


def _check_norms(spec: Spec, dataset: Dataset, network: Network) -> None:
    """Refuses metrics of batch normalisation for a network that has none somewhere."""
    producers = network.architecture.groups.producers
    without = [producer.name for producer in producers if producer.norm is None]
    for choice in [*spec.metrics, *spec.controls.widths_of]:
        if choice.metric.reads_norm and without:
            raise SpecError(
                f"dataset {dataset.name}: metric '{choice.name}' needs a batch normalisation "
                f"behind every convolution that is pruned; {network.name} has none behind "
                f"{', '.join(without)}"
            )


def _cells(spec: Spec, dataset: Dataset, network: Network) -> Iterator[Cell]:
    for seed in spec.seeds:
        baseline = Baseline(
            dataset=dataset,
            variant=network.name,
            width=spec.network.multiplier,
            architecture=network.architecture,
            recipe=spec.recipe.recipe(),
            seed=seed,
            options=network.options,
            weights=network.weights,
        )
        metrics = [_importance(spec, network, baseline, choice) for choice in spec.metrics]
        targets = list(_targets(spec, dataset, network))
        protocols = list(_protocols(spec, baseline))
        for metric, (budget, ratio) in product(metrics, targets):
            for protocol in protocols:
                yield replace(protocol, importance=metric, budget=budget, ratio=ratio)
        yield from _controls(spec, dataset, network, baseline, metrics)


def _protocols(spec: Spec, baseline: Baseline) -> Iterator[Cell]:
    """What is done beside removing channels: the cells of the unpruned network with it.

    Weights that are rewound replace those that a compensation solved for, so these cells have none.
    """
    for compensation, schedule in product(spec.compensations, spec.schedules):
        for control in _unpruned(spec, baseline):
            if not (control.rewound and compensation != NO_COMPENSATION):
                yield replace(control, compensation=compensation, schedule=schedule)


def _unpruned(spec: Spec, baseline: Baseline) -> Iterator[Cell]:
    """The unpruned network, fine-tuned by each recipe."""
    for finetune in spec.finetune:
        rewound = None
        if finetune.rewind == "weights":
            earlier = baseline.recipe.all_but(finetune.epochs)
            rewound = replace(baseline, recipe=earlier)
        yield Cell(
            baseline,
            importance=None,
            budget=Budget(BudgetChoice(UNPRUNED), "none", Floor()),
            ratio=1.0,
            finetune=finetune.of(baseline.recipe),
            finetune_name=finetune.name,
            rewound=rewound,
            evaluated=tuple(spec.evaluate),
        )


def _controls(
    spec: Spec,
    dataset: Dataset,
    network: Network,
    baseline: Baseline,
    metrics: list[Importance],
) -> Iterator[Cell]:
    controls = spec.controls
    # In steps, the reference would rank the network that the other metric has pruned so far, and
    # the widths would not be those of its own run.
    protocols = [one for one in _protocols(spec, baseline) if one.schedule.steps == 1]
    references = [_importance(spec, network, baseline, choice) for choice in controls.widths_of]
    borrowed = [
        Budget(BudgetChoice(rule, options), normalisation, spec.floor(), reference)
        for rule in rules_of("widths_of")
        for options in _costs(spec)
        for reference in references
        for normalisation in spec.normalisations
    ]
    ratios = controls.ratios or spec.ratios_of("global")
    for ratio in ratios:
        for budget in borrowed:
            for metric in metrics:
                # With its own widths, the reference metric would repeat its global cell.
                if budget.reference is None or metric.key != budget.reference.key:
                    for protocol in protocols:
                        yield replace(protocol, importance=metric, budget=budget, ratio=ratio)
    if controls.scratch:
        targets = _targets(spec, dataset, network, controls.ratios)
        # The loss of an untrained network says nothing of its layers.
        local = [one for one in targets if one[0].scope == "local" and not one[0].choice.reads_loss]
        for budget, ratio in [*local, *product(borrowed, ratios)]:
            yield Cell(baseline, None, budget, ratio, baseline.recipe, finetune_name=SCRATCH)
    if controls.unpruned:
        yield from (cell for cell in _unpruned(spec, baseline) if cell.finetune.epochs)


def _importance(spec: Spec, network: Network, baseline: Baseline, choice: Choice) -> Importance:
    available = baseline.dataset.train_images
    wanted = choice.images or spec.statistics_images or available
    # The scores of a metric that reads no images do not depend on their number.
    images = min(wanted, available) if choice.metric.reads_images else 0
    return Importance(baseline, choice, images, network.combine)


def _targets(
    spec: Spec, dataset: Dataset, network: Network, only: Sequence[float] | None = None
) -> Iterator[tuple[Budget, float]]:
    """Every budget with the ratios that it can have; those of its scope if none are given."""
    for budget in _budgets(spec):
        try:
            choice = budget.choice.resolved().fitted(network.architecture)
            fixed = choice.fixed_ratio(network.architecture)
        except BudgetError as error:
            raise SpecError(f"dataset {dataset.name}: {error}") from error
        ratios = only or spec.ratios_of(budget.scope)
        for ratio in ratios if fixed is None else [fixed]:
            yield replace(budget, choice=choice), ratio


def _costs(spec: Spec) -> Iterator[tuple[tuple[str, str], ...]]:
    """The options of `widths_of`: the costs that the spec's own budgets count."""
    scope = "global" if "global" in spec.scopes else "local"
    counted = {budget.ratio_of for budget in _budgets(spec) if budget.scope == scope}
    if counted - {"macs"}:
        yield ()
    if "macs" in counted:
        yield (("of", "macs"),)


def _budgets(spec: Spec) -> Iterator[Budget]:
    floor = spec.floor()
    for scope in spec.scopes:
        if scope == "local":
            for rule in spec.local_budgets:
                # A normalisation does not change the ranking within a layer.
                yield Budget(rule, "none", floor)
        else:
            for rule in spec.global_budgets:
                for normalisation in spec.normalisations:
                    yield Budget(rule, normalisation, floor)
