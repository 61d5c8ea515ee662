"""The stages of a sweep: each returns the stored result, or makes and stores it.

They run wherever a task is sent, know nothing of Ray, and depend on their arguments alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from prune_core.budgets import collapsed, global_, top, uniform_channels, uniform_widths
from prune_core.evaluation import Score, evaluate
from prune_core.images import Images, Split, class_names, load
from prune_core.layer import LayerView, views
from prune_core.network import Architecture, SimpleNet
from prune_core.normalisation import normalise
from prune_core.precision import best_device
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.statistics import Answer, Request, collect
from prune_core.surgery import prune
from prune_core.training import recalibrate, train
from results import Store
from results.places import Where, folder_of
from sweep.artifacts import Artifacts, TrainedBaseline
from sweep.cells import Baseline, Cell, Dataset, Scoring, Statistics
from sweep.costs import latencies, size
from sweep.listener import SILENT, Listener
from sweep.networks import Networks
from sweep.rows import Row, score_columns


class DataChanged(ValueError):
    """The images are no longer those that the sweep was planned with."""


@dataclass(frozen=True)
class Place:
    """Where a sweep's results and artifacts lie, and its name.

    Attributes
    ----------
    folder : means the same folder in every process and on every node; see `results.places`.
    keeps_networks : whether cells that end well store their network.
    """

    folder: Where
    sweep: str
    keeps_networks: bool = False

    @property
    def store(self) -> Store:
        """The results."""
        return Store(self.folder)

    @property
    def artifacts(self) -> Artifacts:
        """The shared baselines and statistics."""
        return Artifacts(folder_of(self.folder) / "artifacts")


def baseline(place: Place, wanted: Baseline, listener: Listener = SILENT) -> TrainedBaseline:
    """Trains the unpruned network, or returns the stored one."""
    if (found := place.artifacts.baseline(wanted.key)) is not None:
        return found
    started = time.perf_counter()
    split = split_of(wanted.dataset)
    preprocessing = Preprocessing.of(split.train.images)
    net = _new(wanted.architecture, derive(wanted.seed, "weights"))
    history = train(
        net,
        split.train,
        preprocessing,
        wanted.recipe,
        derive(wanted.seed, "baseline"),
        wanted.dataset.flip_keeps_label,
        partial(listener.epoch, "baseline"),
    )
    seconds = time.perf_counter() - started
    validation, test = _scores(net, split, preprocessing)
    place.artifacts.put_baseline(
        wanted.key,
        TrainedBaseline(net.cpu(), preprocessing, validation, test, tuple(history), seconds),
    )
    # What is read back is what every later cell reads, so the first one gets nothing else.
    stored = place.artifacts.baseline(wanted.key)
    assert stored is not None
    return stored


def statistics(
    place: Place, wanted: Statistics, trained: TrainedBaseline
) -> list[dict[Request, Answer]]:
    """Collects the channel statistics that are not stored yet, and returns them all by layer.

    Parameters
    ----------
    trained : the baseline that `wanted` names, as it is stored.
    """
    artifacts = place.artifacts
    found = {
        request: artifacts.statistic(wanted.key(request), trained.checksum)
        for request in wanted.requests
    }
    missing = [request for request, answers in found.items() if answers is None]
    if missing:
        collected = collect(
            trained.net.to(best_device()),
            split_of(wanted.baseline.dataset).train.first(wanted.images),
            trained.preprocessing,
            sorted(missing, key=repr),
        )
        for request in missing:
            answers = [layer[request] for layer in collected]
            artifacts.put_statistic(wanted.key(request), trained.checksum, answers)
            found[request] = answers
    layers = len(wanted.baseline.architecture.widths)
    return [
        {request: answers[layer] for request, answers in found.items() if answers is not None}
        for layer in range(layers)
    ]


def cell(place: Place, wanted: Cell, row: Row, listener: Listener = SILENT) -> None:
    """Scores, prunes, recalibrates and fine-tunes; puts each figure into the row as it is known.

    So the row of a cell that fails later still holds what came before. A cell without a score
    is trained from new weights: it is never `pruned` nor `recalibrated`.

    Raises
    ------
    Diverged, MetricError, BudgetError, ...
        Whatever went wrong.
    """
    trained = baseline(place, wanted.baseline, listener)
    row |= score_columns("baseline", trained.validation, trained.test)
    row["seconds_baseline"] = trained.seconds
    row["baseline_history"] = [vars(epoch) for epoch in trained.history]
    scored = {score: _scored(place, trained, score) for score in wanted.scores}
    split, preprocessing = split_of(wanted.baseline.dataset), trained.preprocessing
    seed, clock, started = wanted.baseline.seed, Clock(row), time.perf_counter()

    def evaluated(stage: str) -> None:
        with clock("evaluate"):
            row.update(score_columns(stage, *_scores(net, split, preprocessing)))

    if wanted.score is None:
        widths = _widths(wanted, scored)
        net = _new(wanted.baseline.architecture.with_widths(widths), derive(seed, "scratch"))
        row |= _costs(wanted, net)
    else:
        with clock("prune"):
            kept = _kept(wanted, scored)
            net = prune(trained.net.to(best_device()), kept)
        row |= _costs(wanted, net) | {"kept": [channels.tolist() for channels in kept]}
        _store_scores(place, wanted.score, scored[wanted.score])
        evaluated("pruned")
        with clock("recalibrate"):
            recalibrate(net, split.train, preprocessing)
        evaluated("recalibrated")
    with clock("finetune"):
        recipe, flip = wanted.finetune, wanted.baseline.dataset.flip_keeps_label
        heard = partial(listener.epoch, "finetune")
        order = derive(seed, "finetune")
        history = train(net, split.train, preprocessing, recipe, order, flip, heard)
    row["history"] = [vars(epoch) for epoch in history]
    evaluated("finetuned")
    row["seconds"] = time.perf_counter() - started
    if place.keeps_networks:
        names = _class_names(wanted.baseline.dataset)
        Networks(place.folder).put(wanted.key, net, preprocessing, names, row)


@dataclass(frozen=True)
class Scored:
    """The layers that a metric saw, and its scores of their channels."""

    layers: list[LayerView]
    scores: list[Tensor]


def _scored(place: Place, trained: TrainedBaseline, score: Scoring) -> Scored:
    answers = statistics(place, score.statistics, trained) if score.statistics else None
    layers = views(trained.net, answers, derive(score.baseline.seed, "metric"))
    return Scored(layers, score.choice(layers))


def _kept(wanted: Cell, scored: dict[Scoring, Scored]) -> list[Tensor]:
    assert wanted.score is not None
    if wanted.budget.rule == "global":
        return _ranked(wanted, wanted.score, scored)
    return top(scored[wanted.score].scores, _widths(wanted, scored))


def _widths(wanted: Cell, scored: dict[Scoring, Scored]) -> tuple[int, ...]:
    budget, architecture = wanted.budget, wanted.baseline.architecture
    if budget.reference is not None:
        return tuple(len(kept) for kept in _ranked(wanted, budget.reference, scored))
    rules = {"uniform_parameters": uniform_widths, "uniform_channels": uniform_channels}
    return rules[budget.rule](architecture, wanted.ratio, budget.floor)


def _ranked(wanted: Cell, score: Scoring, scored: dict[Scoring, Scored]) -> list[Tensor]:
    """What one ranking of all channels keeps."""
    budget, found = wanted.budget, scored[score]
    comparable = normalise(budget.normalisation, score.choice, found.scores, found.layers)
    return global_(comparable, wanted.baseline.architecture, wanted.ratio, budget.floor)


def _costs(wanted: Cell, net: SimpleNet) -> Row:
    full = wanted.baseline.architecture
    at_floor = collapsed(full, net.architecture.widths, wanted.budget.floor)
    return size(full, net) | latencies(full, net) | {"collapsed": at_floor}


def _store_scores(place: Place, score: Scoring, scored: Scored) -> None:
    of = {
        "baseline_key": score.baseline.key,
        "dataset": score.baseline.dataset.name,
        "seed": score.baseline.seed,
        "metric": score.choice.label,
    }
    place.store.write_scores(score.key, of, [layer.tolist() for layer in scored.scores])


def _new(architecture: Architecture, seed: int) -> SimpleNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SimpleNet(architecture).to(best_device())


class Clock:
    """Writes the wall-clock seconds of each stage into a row, each the sum of its spells."""

    def __init__(self, row: Row) -> None:
        self.row = row

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Adds the time spent inside to the stage."""
        began = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        column = f"seconds_{stage}"
        self.row[column] = self.row.get(column, 0.0) + time.perf_counter() - began


def split_of(dataset: Dataset) -> Split:
    """The training, validation and test images of a data set, kept for the next task.

    Raises
    ------
    DataChanged
        If the images are no longer those of the plan.
    """
    return _split(dataset)


@lru_cache(maxsize=2)
def _split(dataset: Dataset) -> Split:
    images: Images = load(dataset.source, data=Path(dataset.data) if dataset.data else None)
    if images.fingerprint != dataset.fingerprint:
        raise DataChanged(
            f"dataset {dataset.name} ({dataset.source}) has changed since the sweep was planned: "
            f"fingerprint {images.fingerprint}, planned {dataset.fingerprint}; run the spec again"
        )
    return images.cut(dataset.cut, dataset.test_cut).split(dataset.holdout)


def _class_names(dataset: Dataset) -> tuple[str, ...] | None:
    names = class_names(dataset.source, Path(dataset.data) if dataset.data else None)
    return names if names and len(names) == dataset.classes else None


def _scores(net: SimpleNet, split: Split, preprocessing: Preprocessing) -> tuple[Score, Score]:
    return (
        evaluate(net, split.validation, preprocessing),
        evaluate(net, split.test, preprocessing),
    )
