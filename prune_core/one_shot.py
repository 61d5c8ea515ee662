"""One-shot pruning: a trained network becomes a smaller one, and nothing is trained.

The channels are scored on training images, those with the lowest scores are removed, and the layers
that read them make up for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from torch import Tensor, nn

from prune_core.budgets import (
    BudgetChoice,
    BudgetError,
    Floor,
    Importances,
    Loss,
    held_out_loss,
    rules_of,
)
from prune_core.classifier import Classifier
from prune_core.compensation import NO_COMPENSATION, Compensation, compensated
from prune_core.images import LabelledImages
from prune_core.layer import Combine, combined, views
from prune_core.metrics import Choice
from prune_core.networks import architecture_of, device_of
from prune_core.normalisation import check_normalisation, normalise
from prune_core.preprocessing import Preprocessing
from prune_core.seeds import derive
from prune_core.statistics import InputMoments, collect, moments_of
from prune_core.surgery import prune

_PER = {"parameters": "parameter", "macs": "mac"}
"""What the surgeon's error is divided by where a ratio counts this."""

FEWEST_CHANGES = 64
"""If fewer changes of the class are expected, nothing is said of the order of images."""

Net = TypeVar("Net", bound=nn.Module)


class OneShotError(ValueError):
    """A network and images that do not fit each other, or options that exclude each other."""


@dataclass(frozen=True)
class Selection:
    """The channels that stay.

    Attributes
    ----------
    kept : for each channel group their indices, int64, ascending.
    moments : of each layer's inputs, if the metric read those that the compensation needs too.
    """

    kept: Sequence[Tensor]
    moments: Mapping[str, InputMoments] | None = None


@dataclass(frozen=True)
class OneShot:
    """How a network is pruned in one shot.

    Attributes
    ----------
    ratio : the fraction to keep, in (0, 1], of what the budget counts: parameters,
        multiply-accumulates or channels.
    budget : a rule of the local or the global scope.
    normalisation : makes the scores of layers comparable, for a global rule.
    combine : how the scores of a group's producers become one.
    seed : of metrics that draw random numbers, as in a sweep.

    Raises
    ------
    BudgetError, MetricError, OneShotError
        For a rule or a normalisation that is unknown or does not fit.
    """

    ratio: float
    metric: Choice
    compensation: Compensation
    budget: BudgetChoice = field(default_factory=lambda: BudgetChoice("global"))
    normalisation: str = "none"
    floor: Floor = field(default_factory=Floor)
    combine: Combine = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        allowed = [*rules_of("global"), *rules_of("local")]
        if self.budget.name not in allowed:
            raise BudgetError(
                f"budget '{self.budget}' cannot be used here; allowed: {', '.join(allowed)}"
            )
        check_normalisation(self.normalisation, self.metric)
        if self.normalisation != "none" and not self.budget.ranks:
            raise OneShotError(
                f"normalisation '{self.normalisation}' has no effect with the budget "
                f"'{self.budget}', which compares no scores of different layers; leave it out, or "
                f"use {' or '.join(rules_of('global'))}"
            )

    def check(self, net: nn.Module, images: LabelledImages) -> None:
        """Refuses images that do not fit the network, and a ratio that it cannot reach.

        Raises
        ------
        OneShotError, BudgetError, ArchitectureError
            Naming what to change.
        """
        architecture = architecture_of(net)
        if not isinstance(images, LabelledImages):
            raise OneShotError(
                f"images are of type {type(images).__name__}; give training images with labels, "
                "such as load_images('digits').split(holdout=0.1).train"
            )
        if len(images) == 0:
            raise OneShotError("there are no images to score channels on")
        if images.image_size != architecture.image_size:
            height, width = images.image_size
            raise OneShotError(
                f"the images have {height} x {width} pixels (height x width); load them with "
                f"image_size={architecture.image_size}, the size that the network takes"
            )
        low, high = int(images.labels.min()), int(images.labels.max())
        if low < 0 or high >= architecture.classes:
            raise OneShotError(
                f"the network has {architecture.classes} classes, but the images have labels from "
                f"{low} to {high}; give the images that it was trained on"
            )
        of_loss = min(self.budget.loss_images, len(images))
        for read in {self.images_scored(images), self.images_compensated(images), of_loss}:
            _check_order(images.labels, read)
        self.budget.check(architecture, self.ratio, self.floor)

    def select(
        self, net: nn.Module, images: LabelledImages, preprocessing: Preprocessing
    ) -> Selection:
        """Scores the channels and chooses those that stay, as a cell of a sweep does.

        Raises
        ------
        StatisticsError, MetricError, BudgetError
            If the network has diverged, or the scores give no order.
        """
        needs, read = self.metric.needs(), images.first(self.images_scored(images))
        answers = collect(net, read, preprocessing, needs) if needs else None
        layers = views(net, answers, derive(self.seed, "metric"))
        of_producers, combine = self.metric(layers), self.metric.combine(self.combine)
        importances = Importances(
            combined(of_producers, layers, combine),
            normalise(self.normalisation, self.metric, of_producers, layers, combine),
            self._loss(net, images, preprocessing),
        )
        kept = self.budget.kept(architecture_of(net), self.ratio, self.floor, importances)
        request = self.compensation.request
        if answers is None or request not in needs:
            return Selection(kept)
        if len(read) != self.images_compensated(images):
            return Selection(kept)
        return Selection(kept, moments_of(answers, request))

    def _loss(
        self, net: nn.Module, images: LabelledImages, preprocessing: Preprocessing
    ) -> Loss | None:
        if not self.budget.reads_loss:
            return None
        scale = preprocessing.on(device_of(net))
        return held_out_loss(net, images.first(self.budget.loss_images), scale)

    def images_scored(self, images: LabelledImages) -> int:
        """The number of first images that the metric reads."""
        if not self.metric.needs():
            return 0
        wanted = self.metric.images
        return len(images) if wanted is None else min(wanted, len(images))

    def images_compensated(self, images: LabelledImages) -> int:
        """The number of first images that the compensation reads."""
        wanted = 0 if self.compensation == NO_COMPENSATION else self.compensation.images
        return min(wanted, len(images))

    def smaller(
        self,
        net: Net,
        selection: Selection,
        images: LabelledImages,
        preprocessing: Preprocessing,
    ) -> Net:
        """The network with the selected channels, which makes up for the others.

        Raises
        ------
        CompensationError
            See `prune_core.compensation.compensated`.
        """
        how, kept = self.compensation, selection.kept
        if how == NO_COMPENSATION:
            return cast(Net, prune(net, kept))
        found = compensated(net, kept, how, images, preprocessing, selection.moments)
        return cast(Net, found)


def usual_metric(budget: BudgetChoice) -> Choice:
    """The surgeon's order; for a global ranking, per parameter or multiply-accumulate.

    Where the ratio counts one of these, channels that free more of it should leave first, so the
    error is divided by what leaves with a channel. Within a layer this changes nothing.
    """
    per = _PER.get(budget.ratio_of) if budget.scope == "global" else None
    return Choice.parse(f"surgeon(per={per})" if per else "surgeon")


def one_shot(
    net: Net,
    images: LabelledImages,
    ratio: float,
    *,
    preprocessing: Preprocessing | None = None,
    metric: str | Choice | None = None,
    budget: str | BudgetChoice = "global",
    normalisation: str = "none",
    floor: Floor = Floor(),
    compensation: str | Compensation = "least_squares",
    combine: Combine = "mean",
    seed: int = 0,
) -> Net:
    """A smaller network, made in one shot: nothing is trained, and `net` is not changed.

    >>> import prune_core as pc
    >>> net = pc.load("exported")  # doctest: +SKIP
    >>> images = pc.load_images("cifar10").split(holdout=0.1)  # doctest: +SKIP
    >>> smaller = pc.one_shot(net, images.train, 0.3)  # doctest: +SKIP

    Parameters
    ----------
    net : a `Classifier`, or a module with an architecture: built by one, pruned or adopted. It
        computes on the device that it is on.
    images : training images in a random order, as `Images.split` returns them: metric and
        compensation read only the first ones. Test images would make accuracy on them too high.
    ratio, normalisation, floor, combine, seed : see `OneShot`.
    preprocessing : how images were scaled when a module was trained. A `Classifier` has its own.
    metric, budget, compensation : as a spec names them, such as `surgeon(images=512)`,
        `global(of=macs)` and `none`. A budget reads its file from the current folder. The metric
        is that of `usual_metric` if None.

    Returns
    -------
    For a `Classifier` a `Classifier` with the same scaling and class names, for a module a module.

    Raises
    ------
    OneShotError, ArchitectureError, MetricError, BudgetError, CompensationError, StatisticsError
        Naming what to change; all are kinds of ValueError.
    """
    rule = budget if isinstance(budget, BudgetChoice) else BudgetChoice.parse(budget)
    if metric is None:
        metric = usual_metric(rule)
    how = OneShot(
        ratio=ratio,
        metric=metric if isinstance(metric, Choice) else Choice.parse(metric),
        compensation=(
            compensation
            if isinstance(compensation, Compensation)
            else Compensation.parse(compensation)
        ),
        budget=rule.resolved(),
        normalisation=normalisation,
        floor=floor,
        combine=combine,
        seed=seed,
    )
    if isinstance(net, Classifier):
        if preprocessing is not None:
            raise OneShotError("a Classifier has its own scaling; leave out preprocessing")
        found = _pruned(net.net, how, images, net.preprocessing)
        classifier = Classifier(found, net.preprocessing, net.class_names)
        return cast(Net, classifier.to(device_of(found)))
    if preprocessing is None:
        raise OneShotError(
            "preprocessing is missing: give the scaling with which the network was trained, such "
            "as Preprocessing.of(images)"
        )
    return _pruned(net, how, images, preprocessing)


def _pruned(net: Net, how: OneShot, images: LabelledImages, preprocessing: Preprocessing) -> Net:
    how.check(net, images)
    selection = how.select(net, images, preprocessing)
    return how.smaller(net, selection, images, preprocessing)


def _check_order(labels: Tensor, read: int) -> None:
    """Refuses images that are sorted by class, if only the first ones are read.

    In a random order, the class often changes from an image to the next. Images in such an order
    are refused with a probability below 1e-6.
    """
    if read == len(labels):
        return
    shares = labels.unique(return_counts=True)[1].double() / len(labels)
    expected = (read - 1) * (1 - float(shares.square().sum()))
    changes = int((labels[:read].diff() != 0).sum())
    if expected >= FEWEST_CHANGES and changes < expected / 4:
        raise OneShotError(
            f"the first {read:,} images, which are read, seem to be sorted by class; put the "
            "images in a random order, such as that of Images.split(holdout=0.1).train"
        )
