"""The stage that computes a row: score, prune, compensate, recalibrate and fine-tune."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from prune_core.budgets import (
    BudgetChoice,
    Importances,
    collapsed,
    held_out_loss,
    lowest_ratio,
    top,
)
from prune_core.compensation import NO_COMPENSATION, compensated
from prune_core.cost import cost, count_multiply_accumulates, count_parameters
from prune_core.evaluation import Evaluation
from prune_core.images import Split
from prune_core.networks import Architecture, architecture_of, device_of
from prune_core.networks.groups import Cost
from prune_core.precision import best_device
from prune_core.schedule import floor_of
from prune_core.seeds import derive
from prune_core.statistics import InputMoments, moments_of
from prune_core.surgery import prune
from prune_core.training import recalibrate, train
from results.storage.schema import SCRATCH, STAGES
from sweep.planning.cells import Cell
from sweep.planning.scores import Importance
from sweep.stages import steps
from sweep.stages.artifacts import TrainedBaseline
from sweep.stages.baseline import baseline, evaluated, new_network
from sweep.stages.costs import latencies, size
from sweep.stages.data import class_names_of, split_of
from sweep.stages.importance import (
    ChannelImportance,
    importance,
    importance_anew,
    store_importance,
)
from sweep.stages.kept_networks import KeptNetworks
from sweep.stages.observer import SILENT, Observer
from sweep.stages.rows import Row, evaluation_columns
from sweep.stages.statistics import statistics
from sweep.stages.workspace import Workspace

_AFTER_PRUNING = tuple(f"{stage}_" for stage in STAGES[1:])
"""How the columns of the stages begin that each step has."""


def cell(workspace: Workspace, wanted: Cell, row: Row, observer: Observer = SILENT) -> None:
    """Scores, prunes, compensates, recalibrates and fine-tunes, once or in several steps.

    Each figure is added to `row` as soon as it is known, so a cell that fails keeps its earlier
    figures. Controls have no figures of the stages between `baseline` and `finetuned`: one is
    trained from new weights, the other is the unpruned network, fine-tuned. With several steps,
    the figures of a stage are those of the last step. A cell that was interrupted goes on after
    the last step that ended, and its fine-tuning after the last checkpoint.

    Raises
    ------
    Diverged, MetricError, BudgetError, ...
        The error of the step that failed.
    """
    trained = baseline(workspace, wanted.baseline, observer)
    row |= evaluation_columns("baseline", trained.validation, trained.test)
    row["baseline_checksum"] = trained.weights_checksum
    row["seconds_baseline"] = trained.seconds
    row["baseline_history"] = [vars(epoch) for epoch in trained.history]
    run = _Run(workspace, wanted, trained, row, observer)
    if wanted.metric == SCRATCH:
        net = run.scratch()
    elif wanted.importance is None:
        net = run.unpruned()
    else:
        net = run.pruned()
    if workspace.keeps_networks:
        names = class_names_of(wanted.baseline.dataset)
        KeptNetworks(workspace.folder).put(wanted.key, net, trained.preprocessing, names, row)


Found = Mapping[Importance, ChannelImportance]
Evaluations = tuple[Evaluation, Evaluation]
"""On the validation images and on the test images."""


@dataclass
class _Run:
    """One run of a cell.

    Attributes
    ----------
    started : when the clock of the column `seconds` began, on that of `time.perf_counter`.
    earlier_s : seconds of interrupted trainings that this run went on after.
    """

    workspace: Workspace
    wanted: Cell
    trained: TrainedBaseline
    row: Row
    observer: Observer
    started: float = field(default_factory=time.perf_counter)
    earlier_s: float = 0.0

    @cached_property
    def split(self) -> Split:
        """The images."""
        return split_of(self.wanted.baseline.dataset)

    @cached_property
    def clock(self) -> Clock:
        """Of the stages' seconds."""
        return Clock(self.row)

    @property
    def full(self) -> Architecture:
        """The architecture of the unpruned network."""
        return self.wanted.baseline.architecture

    @property
    def rule(self) -> BudgetChoice:
        """The budget's rule with its options."""
        return self.wanted.budget.choice

    @property
    def flip(self) -> bool:
        """Whether mirrored images keep their label."""
        return self.wanted.baseline.dataset.flip_keeps_label

    def scratch(self) -> nn.Module:
        """Trains a network of the cell's widths from new weights."""
        found = self._importances()
        comparable = self._comparable(found)
        widths = self.rule.widths(
            self.full, self.wanted.ratio, self.wanted.budget.floor, Importances(None, comparable)
        )
        seed = derive(self.wanted.baseline.seed, "scratch")
        net = new_network(self.full.with_widths(widths), seed)
        self._sized(net)
        self._finetune(net, 1)
        self.row["seconds"] = self._seconds()
        return net

    def unpruned(self) -> nn.Module:
        """Fine-tunes the unpruned network."""
        everything = [torch.arange(width) for width in self.full.widths]
        with self.clock("prune"):
            net = prune(self.trained.net.to(best_device()), everything)
        self._sized(net)
        net = self._rewound(net, everything)
        self._finetune(net, 1)
        self.row["seconds"] = self._seconds()
        return net

    def pruned(self) -> nn.Module:
        """Prunes the baseline in the steps of the schedule."""
        wanted, row, schedule = self.wanted, self.row, self.wanted.schedule
        net = self.trained.net.to(best_device())
        kept = [torch.arange(width) for width in self.full.widths]
        last = steps.stored(self.workspace, wanted, row["baseline_checksum"])
        if last is not None:
            net, kept = last.net, last.kept
            row |= last.row
        done, spent = (last.number, row["seconds"]) if last else (0, 0.0)
        for number in range(done + 1, schedule.steps + 1):
            net, kept = self._step(number, net, kept)
            row["seconds"] = spent + self._seconds()
            if number < schedule.steps:
                ended = steps.Step(number, net, kept, row)
                net = steps.store(self.workspace, wanted, ended, self.trained.preprocessing).net
        return net

    def _seconds(self) -> float:
        return self.earlier_s + time.perf_counter() - self.started

    def _step(
        self, number: int, net: nn.Module, kept: Sequence[Tensor]
    ) -> tuple[nn.Module, list[Tensor]]:
        """One step; the network and the baseline's channels that are left."""
        wanted, row, images = self.wanted, self.row, self.split.train
        # The figures of an earlier step are not those of a stage that this one does not reach.
        for name in [name for name in row if name.startswith(_AFTER_PRUNING)]:
            del row[name]
        scaling, schedule = self.trained.preprocessing, self.wanted.schedule
        began, earlier_s = time.perf_counter(), self.earlier_s
        found = self._importances() if number == 1 else self._importances_of(net, number)
        target = schedule.ratios(wanted.ratio)[number - 1]
        with self.clock("prune"):
            chosen = self._chosen(number, target, net, found)
            smaller = prune(net, chosen)
        kept = [before[channels] for before, channels in zip(kept, chosen, strict=True)]
        row["kept"] = [channels.tolist() for channels in kept]
        if number == schedule.steps:
            self._sized(smaller)
        assert wanted.importance is not None
        for column, spent in found[wanted.importance].costs.items():
            row[column] = spent if number == 1 or column not in row else row[column] + spent
        if number == 1:
            store_importance(self.workspace, found[wanted.importance])
        del found  # the statistics of wide layers take much memory
        pruned = self._evaluate_early("pruned", smaller)
        if wanted.compensation != NO_COMPENSATION:
            moments = self._moments() if number == 1 else None
            with self.clock("compensate"):
                smaller = compensated(net, chosen, wanted.compensation, images, scaling, moments)
            self._evaluate_early("compensated", smaller)
        with self.clock("recalibrate"):
            # The weights were trained on images that were shifted as the baseline's recipe says.
            drawn = self._seed("recalibrated", number)
            recalibrate(smaller, images, scaling, wanted.baseline.recipe, drawn, self.flip)
        recalibrated = self._evaluate_early("recalibrated", smaller)
        smaller = self._rewound(smaller, kept)
        finetuned = self._finetune(smaller, number, recalibrated)
        if schedule.steps > 1:
            row.setdefault("steps", []).append(
                {
                    "step": number,
                    "ratio": target,
                    "parameters": count_parameters(smaller),
                    "macs": count_multiply_accumulates(smaller, self.full.image_size),
                    **(_accuracies("pruned", pruned) if pruned else {}),
                    **_accuracies("finetuned", finetuned),
                    "seconds": time.perf_counter() - began + self.earlier_s - earlier_s,
                }
            )
        return smaller, kept

    def _seed(self, purpose: str, step: int) -> int:
        """A seed for a step; the first step has that of a cell with one."""
        later = [step] if step > 1 else []
        return derive(self.wanted.baseline.seed, purpose, *later)

    def _importances(self) -> Found:
        """The scores of the baseline's channels; the clock starts anew, since cells share them."""
        found = {
            needed: importance(self.workspace, needed, self.trained)
            for needed in self.wanted.importances
        }
        self.started = time.perf_counter()
        return found

    def _importances_of(self, net: nn.Module, step: int) -> Found:
        """The scores of a pruned network's channels."""
        images, scaling = self.split.train, self.trained.preprocessing
        drawn = self._seed("metric", step)
        return {
            needed: importance_anew(needed, net, images, scaling, drawn)
            for needed in self.wanted.importances
        }

    def _comparable(self, found: Found) -> list[Tensor] | None:
        """The scores that set widths, comparable between layers; None if the rule reads none."""
        setter = self.wanted.budget.reference or self.wanted.importance
        if setter is None or not self.rule.ranks:
            return None
        return found[setter].comparable(self.wanted.budget.normalisation)

    def _chosen(self, step: int, target: float, net: nn.Module, found: Found) -> list[Tensor]:
        """The network's channels that stay in a step.

        Parameters
        ----------
        target : the ratio after the step, relative to the unpruned network.
        """
        wanted, floor, full = self.wanted, self.wanted.budget.floor, self.full
        assert wanted.importance is not None
        scores = found[wanted.importance].scores
        loss = None
        if self.rule.reads_loss:
            images = self.split.train.first(self.rule.loss_images)
            scale = self.trained.preprocessing.on(device_of(net))
            loss = held_out_loss(net, images, scale)
        importances = Importances(scores, self._comparable(found), loss)
        if not self.rule.ranks and not self.rule.reads_loss:
            # These widths do not depend on scores: the last step has those of a single one.
            last = self.rule.widths(full, wanted.ratio, floor, importances)
            return top(scores, wanted.schedule.widths(full.widths, last)[step - 1])
        now = full.with_widths(architecture_of(net).widths)
        left = target
        if step > 1:
            of: Cost = "macs" if self.rule.ratio_of == "macs" else "parameters"
            # A ratio at the lowest reachable one must stay so after rounding.
            lowest = lowest_ratio(now, floor_of(floor, full.widths), of)
            left = min(1.0, max(lowest, target * cost(full, of) / cost(now, of)))
        return self.rule.kept(now, left, floor_of(floor, full.widths), importances)

    def _moments(self) -> dict[str, InputMoments] | None:
        """The second moments of the baseline that the compensation reads, if any."""
        request, wanted = self.wanted.compensation.request, self.wanted.moments
        if wanted is None or request is None:
            return None
        found = statistics(self.workspace, wanted, self.trained)
        self.row["seconds_moments"] = found.seconds
        return moments_of(found.layers, request)

    def _rewound(self, net: nn.Module, kept: Sequence[Tensor]) -> nn.Module:
        """The network that is fine-tuned: with its own weights, or with earlier ones."""
        if self.wanted.rewound is None:
            return net
        earlier = baseline(self.workspace, self.wanted.rewound, self.observer)
        return prune(earlier.net.to(best_device()), kept)

    def _finetune(
        self, net: nn.Module, step: int, before: Evaluations | None = None
    ) -> Evaluations:
        """Fine-tunes a network, whose accuracies before may be known, and evaluates it."""
        recipe, heard = self.wanted.finetune, partial(self.observer.epoch, "finetune")
        order, scaling = self._seed("finetune", step), self.trained.preprocessing
        kept = steps.checkpoints(self.workspace, self.wanted, step)
        with self.clock("finetune"):
            history = train(net, self.split.train, scaling, recipe, order, self.flip, heard, kept)
        if kept is not None:
            self.earlier_s += kept.earlier_s
            self.row["seconds_finetune"] += kept.earlier_s
        of_step = {"step": step} if self.wanted.schedule.steps > 1 else {}
        epochs = [{**vars(epoch), **of_step} for epoch in history]
        self.row["history"] = [*self.row.get("history", []), *epochs]
        known = before if recipe.epochs == 0 else None
        return self._evaluate("finetuned", net, known)

    def _evaluate_early(self, stage: str, net: nn.Module) -> Evaluations | None:
        """Evaluates a network before fine-tuning, if the cell asks for this stage."""
        return self._evaluate(stage, net) if stage in self.wanted.evaluated else None

    def _evaluate(
        self, stage: str, net: nn.Module, known: Evaluations | None = None
    ) -> Evaluations:
        with self.clock("evaluate"):
            found = known or evaluated(net, self.split, self.trained.preprocessing)
        self.row |= evaluation_columns(stage, *found)
        return found

    def _sized(self, net: nn.Module) -> None:
        """Adds the columns of size and latency."""
        at_floor = collapsed(self.full, architecture_of(net).widths, self.wanted.budget.floor)
        self.row |= size(self.full, net) | latencies(self.full, net) | {"collapsed": at_floor}


def _accuracies(stage: str, found: Evaluations) -> Row:
    validation, test = found
    return {f"{stage}_validation_top1": validation.top1, f"{stage}_test_top1": test.top1}


class Clock:
    """Adds up the wall-clock seconds of each stage in a row."""

    def __init__(self, row: Row) -> None:
        self.row = row

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Adds the time spent in the block to the stage."""
        began = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        column = f"seconds_{stage}"
        self.row[column] = self.row.get(column, 0.0) + time.perf_counter() - began
