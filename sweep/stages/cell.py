"""The stage that computes a row: score, prune, compensate, recalibrate and fine-tune."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from prune_core.budgets import BUDGETS, Floor, Importances, collapsed
from prune_core.compensation import NO_COMPENSATION, compensated
from prune_core.networks import Architecture, architecture_of
from prune_core.precision import best_device
from prune_core.seeds import derive
from prune_core.statistics import InputMoments, moments_of
from prune_core.surgery import prune
from prune_core.training import recalibrate, train
from results.storage.schema import SCRATCH
from sweep.plan.cells import Cell, Importance
from sweep.stages.artifacts import TrainedBaseline
from sweep.stages.baseline import baseline, evaluated, new_network
from sweep.stages.costs import latencies, size
from sweep.stages.data import class_names_of, split_of
from sweep.stages.importance import ChannelImportance, importance, store_importance
from sweep.stages.kept_networks import KeptNetworks
from sweep.stages.observer import SILENT, Observer
from sweep.stages.rows import Row, evaluation_columns
from sweep.stages.statistics import statistics
from sweep.stages.workspace import Workspace


def cell(workspace: Workspace, wanted: Cell, row: Row, observer: Observer = SILENT) -> None:
    """Scores, prunes, compensates, recalibrates and fine-tunes.

    Each figure is added to `row` as soon as it is known, so a cell that fails keeps its earlier
    figures. Controls have no figures of the stages between `baseline` and `finetuned`: one is
    trained from new weights, the other is the unpruned network, fine-tuned.

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
    found = {needed: importance(workspace, needed, trained) for needed in wanted.importances}
    rule = BUDGETS[wanted.budget.rule]
    split, preprocessing = split_of(wanted.baseline.dataset), trained.preprocessing
    flip = wanted.baseline.dataset.flip_keeps_label
    seed, clock, started = wanted.baseline.seed, Clock(row), time.perf_counter()

    def evaluate(stage: str) -> None:
        with clock("evaluate"):
            row.update(evaluation_columns(stage, *evaluated(net, split, preprocessing)))

    if wanted.metric == SCRATCH:
        widths = rule.widths(*_demand(wanted, found))
        architecture = wanted.baseline.architecture.with_widths(widths)
        net = new_network(architecture, derive(seed, "scratch"))
        row |= _costs(wanted, net)
    else:
        with clock("prune"):
            kept = rule.kept(*_demand(wanted, found))
            net = prune(trained.net.to(best_device()), kept)
        row |= _costs(wanted, net)
    if wanted.importance is not None:
        row |= {"kept": [channels.tolist() for channels in kept]}
        row |= found[wanted.importance].costs
        store_importance(workspace, found[wanted.importance])
        found.clear()  # the statistics of wide layers take much memory
        evaluate("pruned")
        if wanted.compensation != NO_COMPENSATION:
            moments, costs = moments_for(workspace, wanted, trained)
            row |= costs
            with clock("compensate"):
                how, images = wanted.compensation, split.train
                net = compensated(trained.net, kept, how, images, preprocessing, moments)
            evaluate("compensated")
        with clock("recalibrate"):
            # The weights were trained on images that were shifted as the baseline's recipe says.
            recipe, drawn = wanted.baseline.recipe, derive(seed, "recalibrated")
            recalibrate(net, split.train, preprocessing, recipe, drawn, flip)
        evaluate("recalibrated")
    with clock("finetune"):
        recipe = wanted.finetune
        heard = partial(observer.epoch, "finetune")
        order = derive(seed, "finetune")
        history = train(net, split.train, preprocessing, recipe, order, flip, heard)
    row["history"] = [vars(epoch) for epoch in history]
    evaluate("finetuned")
    row["seconds"] = time.perf_counter() - started
    if workspace.keeps_networks:
        names = class_names_of(wanted.baseline.dataset)
        KeptNetworks(workspace.folder).put(wanted.key, net, preprocessing, names, row)


def _demand(
    wanted: Cell, found: Mapping[Importance, ChannelImportance]
) -> tuple[Architecture, float, Floor, Importances]:
    """The arguments of a budget rule, with the channel importance that it reads."""
    budget, chooser = wanted.budget, wanted.importance
    scores = found[chooser].scores if chooser else None
    setter = budget.reference or chooser
    comparable = None
    if setter and BUDGETS[budget.rule].ranks:
        comparable = found[setter].comparable(budget.normalisation)
    importances = Importances(scores, comparable)
    return wanted.baseline.architecture, wanted.ratio, budget.floor, importances


def moments_for(
    workspace: Workspace, wanted: Cell, trained: TrainedBaseline
) -> tuple[dict[str, InputMoments] | None, Row]:
    """The second moments that a cell's compensation reads, and the columns of their cost."""
    request = wanted.compensation.request
    if wanted.moments is None or request is None:
        return None, {}
    found = statistics(workspace, wanted.moments, trained)
    return moments_of(found.layers, request), {"seconds_moments": found.seconds}


def _costs(wanted: Cell, net: nn.Module) -> Row:
    full = wanted.baseline.architecture
    at_floor = collapsed(full, architecture_of(net).widths, wanted.budget.floor)
    return size(full, net) | latencies(full, net) | {"collapsed": at_floor}


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
