"""`prune-sweep prune`: a trained network becomes a smaller one, and nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from prune_core.budgets import BudgetChoice, BudgetError, Floor, rules_of
from prune_core.budgets.registry import Scope
from prune_core.classifier import Classifier
from prune_core.compensation import NO_COMPENSATION, Compensation, CompensationError
from prune_core.evaluation import evaluate
from prune_core.images import ImagesError, Split
from prune_core.layer import Combine
from prune_core.metrics import Choice, MetricError
from prune_core.network_files import NetworkFileError
from prune_core.networks import ArchitectureError, architecture_of
from prune_core.one_shot import OneShot, OneShotError, usual_metric
from prune_core.precision import best_device
from prune_core.statistics import StatisticsError
from prune_core.surgery import prune as without_compensation
from sweep.commands.before_and_after import BeforeAndAfter, content, show
from sweep.commands.export import check_empty, print_written, staging, write_programs
from sweep.commands.trained import Origin, Source, opened
from sweep.errors import UserError
from sweep.execution.messages import note
from sweep.stages.cell import Clock
from sweep.stages.costs import latencies, size
from sweep.stages.rows import Row, device_name

DEFAULT_RULES = {"global": "global", "local": "uniform_parameters"}

_REFUSALS = (
    ArchitectureError,
    BudgetError,
    CompensationError,
    ImagesError,
    MetricError,
    NetworkFileError,
    OneShotError,
    StatisticsError,
)


@dataclass(frozen=True)
class Wishes:
    """How to prune, in the words of a person; see `prune_core.one_shot.OneShot`.

    Attributes
    ----------
    metric : None for `prune_core.one_shot.usual_metric`.
    scope : the budget is the default rule of this scope unless `budget` names another one.
    """

    ratio: float
    metric: str | None
    compensation: str
    scope: Scope | None = None
    budget: str | None = None
    normalisation: str = "none"
    min_channels: int = 1
    min_fraction: float = 0.0
    round_to: int = 1
    combine: Combine = "mean"
    seed: int = 0

    def checked(self) -> OneShot:
        """The same as a value of prune_core.

        Raises
        ------
        MetricError, CompensationError, BudgetError, OneShotError
            Naming the option, its value and what is allowed.
        """
        budget = BudgetChoice.parse(self.budget or DEFAULT_RULES[self.scope or "global"]).resolved()
        if self.scope and budget.scope != self.scope:
            raise BudgetError(
                f"budget '{budget.label}' is no rule of the scope '{self.scope}'; allowed: "
                f"{', '.join(rules_of(self.scope))}"
            )
        return OneShot(
            ratio=self.ratio,
            metric=usual_metric(budget) if self.metric is None else Choice.parse(self.metric),
            compensation=Compensation.parse(self.compensation),
            budget=budget,
            normalisation=self.normalisation,
            floor=Floor(self.min_channels, self.min_fraction, self.round_to),
            combine=self.combine,
            seed=self.seed,
        )


def prune(
    origin: Origin, source: Source, wishes: Wishes, to: Path | None, console: Console
) -> None:
    """Prunes a trained network, and writes it with its accuracy before and after.

    Channels are scored, and weights changed, on training images. The test images are read for the
    reported accuracies only.

    Parameters
    ----------
    to : a new or empty folder; by default NAME-RATIO in the current folder.

    Raises
    ------
    UserError
        If the network, the images and the options do not fit together, or `to` is not empty. The
        message names what to change, and nothing was written.
    """
    try:
        how = wishes.checked()
        to = to or Path(f"{origin.name}-{wishes.ratio:g}")
        check_empty(to)
        images, split, net, notes = opened(origin, source)
        how.check(net.net, split.train)
        for text in [*images.notes, *notes]:
            note(text)
        done = _pruned(net, split, how, console)
        show(console, done, how, split)
        with staging(to) as staged, console.status("writing the files"):
            done.net.save(staged)
            card = content(done, origin, images, split, how)
            written = write_programs(done.net, staged, card)
    except _REFUSALS as error:
        raise UserError(str(error)) from error
    print_written(console, to, written)


def _pruned(net: Classifier, split: Split, how: OneShot, console: Console) -> BeforeAndAfter:
    """Prunes a network and measures it before and after."""
    device, costs = best_device(), Row()
    full, scaling, clock = net.net.to(device), net.preprocessing, Clock(costs)
    architecture = architecture_of(full)
    with console.status("scoring channels"), clock("scoring"):
        selection = how.select(full, split.train, scaling)
    with console.status("changing weights"), clock("compensate"):
        smaller = how.smaller(full, selection, split.train, scaling)
    removed = None
    with console.status("measuring accuracy and latency"), clock("evaluate"):
        before, after = (evaluate(each, split.test, scaling) for each in (full, smaller))
        if how.compensation != NO_COMPENSATION:
            removed = evaluate(without_compensation(full, selection.kept), split.test, scaling)
        costs |= size(architecture, smaller) | latencies(architecture, smaller)
    costs |= {"device": device_name(device), "threads": torch.get_num_threads()}
    floors = how.floor.of(architecture.widths)
    at_floor = tuple(
        name
        for name, width, floor, most in zip(
            costs["group_names"], costs["widths"], floors, architecture.widths, strict=True
        )
        if width <= floor < most
    )
    small = Classifier(smaller.cpu(), scaling, net.class_names)
    return BeforeAndAfter(net.cpu(), small, before, removed, after, costs, at_floor)
