"""The registry of budget rules: each turns a ratio into widths and kept channels.

Two decorators cover most rules. `layerwise` registers a function from an architecture, a ratio
and a floor to widths; the channels with the highest scores of each layer stay. `ranking` registers
a function from scores that are comparable between layers to the kept channels.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from prune_core.budgets.channels import check_scores, top
from prune_core.budgets.floor import BudgetError, Floor, check_range, check_ratio
from prune_core.networks import Architecture

BUDGET_VERSION = 1
"""Of the rules of this package together: raised when their widths or channels change."""

Scope = Literal["local", "global", "widths_of", "unpruned"]
RatioOf = Literal["parameters", "channels"]
Widths = tuple[int, ...]
Scores = Sequence[Tensor]
"""For each layer the scores of its channels, [C], higher = keep."""


@dataclass(frozen=True)
class Importances:
    """Channel importance as a budget rule reads it.

    Attributes
    ----------
    scores : by the metric that chooses the channels of a layer; None for a network that is
        trained from scratch, where no channel is chosen.
    comparable : normalised between layers, by the metric that sets the widths: the same metric,
        or the reference of `widths_of`. None for rules that read no scores to set widths.
    """

    scores: Scores | None = None
    comparable: Scores | None = None


@dataclass(frozen=True)
class BudgetRule(ABC):
    """A way from a ratio to kept channels.

    Attributes
    ----------
    name : what a spec calls it.
    scope : `local`, widths from the architecture alone; `global`, widths from one ranking of all
        channels; `widths_of`, widths from the global ranking of another metric; `unpruned`, all
        channels, for a control.
    summary : one sentence on what it does.
    ratio_of : what the ratio counts.
    version : raised when the numbers of this rule change; part of a cell's key.
    """

    name: str
    scope: Scope
    summary: str
    ratio_of: RatioOf = "parameters"
    version: int = 1

    @property
    def ranks(self) -> bool:
        """Whether it reads comparable scores to set widths."""
        return self.scope != "local"

    @abstractmethod
    def widths(
        self, architecture: Architecture, ratio: float, floor: Floor, importances: Importances
    ) -> Widths:
        """The number of channels that each layer keeps."""

    def check(self, architecture: Architecture, ratio: float, floor: Floor) -> None:
        """Refuses a ratio that no widths of this rule can have.

        Raises
        ------
        BudgetError
            For a ratio outside (0, 1], or a ratio of parameters below what the floor allows; see
            `check_ratio`. A ratio of channels has no such limit: layers stay at the floor.
        """
        if self.ratio_of == "channels":
            check_range(ratio)
        else:
            check_ratio(architecture, ratio, floor)

    def kept(
        self, architecture: Architecture, ratio: float, floor: Floor, importances: Importances
    ) -> list[Tensor]:
        """For each layer the kept channels, int64 ascending: by default the best of each layer."""
        assert importances.scores is not None
        check_scores(importances.scores, architecture)
        return top(importances.scores, self.widths(architecture, ratio, floor, importances))

    def likely_widths(self, architecture: Architecture, ratio: float, floor: Floor) -> Widths:
        """Widths to estimate time with, before any score is known: by default all shrunk alike."""
        return BUDGETS["uniform_parameters"].likely_widths(architecture, ratio, floor)


BUDGETS: dict[str, BudgetRule] = {}
"""Every rule by its name."""


@dataclass(frozen=True, kw_only=True)
class Layerwise(BudgetRule):
    """Widths by a function of the architecture, the ratio and the floor."""

    rule: Callable[[Architecture, float, Floor], Widths]

    def widths(
        self, architecture: Architecture, ratio: float, floor: Floor, importances: Importances
    ) -> Widths:
        """See `BudgetRule`."""
        return self.rule(architecture, ratio, floor)

    def likely_widths(self, architecture: Architecture, ratio: float, floor: Floor) -> Widths:
        """See `BudgetRule`: the widths themselves."""
        return self.rule(architecture, ratio, floor)


@dataclass(frozen=True, kw_only=True)
class Ranking(BudgetRule):
    """Channels by a function of comparable scores, the architecture, the ratio and the floor."""

    rule: Callable[[Scores, Architecture, float, Floor], list[Tensor]]

    def widths(
        self, architecture: Architecture, ratio: float, floor: Floor, importances: Importances
    ) -> Widths:
        """See `BudgetRule`."""
        return lengths(self.kept(architecture, ratio, floor, importances))

    def kept(
        self, architecture: Architecture, ratio: float, floor: Floor, importances: Importances
    ) -> list[Tensor]:
        """See `BudgetRule`."""
        assert importances.comparable is not None
        return self.rule(importances.comparable, architecture, ratio, floor)


@dataclass(frozen=True, kw_only=True)
class Borrowed(BudgetRule):
    """The best channels of each layer, at the widths that another rule's ranking leaves."""

    lender: str

    def widths(
        self, architecture: Architecture, ratio: float, floor: Floor, importances: Importances
    ) -> Widths:
        """See `BudgetRule`."""
        return BUDGETS[self.lender].widths(architecture, ratio, floor, importances)


def layerwise(
    ratio_of: RatioOf = "parameters", version: int = 1
) -> Callable[[Callable[..., Widths]], Callable[..., Widths]]:
    """Registers a function (architecture, ratio, floor) -> widths as a local rule by its own name.

    Of each layer, the channels with the highest scores stay.

    Parameters
    ----------
    ratio_of : what the ratio counts.
    version : raise it when the widths change.
    """

    def decorate(rule: Callable[..., Widths]) -> Callable[..., Widths]:
        name, summary = rule.__name__, summary_of(rule)
        register(Layerwise(name, "local", summary, ratio_of, version, rule=rule))
        return rule

    return decorate


def ranking(
    name: str, version: int = 1
) -> Callable[[Callable[..., list[Tensor]]], Callable[..., list[Tensor]]]:
    """Registers a function (scores, architecture, ratio, floor) -> channels as a global rule.

    Parameters
    ----------
    name : what a spec calls it.
    version : raise it when the kept channels change.
    """

    def decorate(rule: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
        register(Ranking(name, "global", summary_of(rule), version=version, rule=rule))
        return rule

    return decorate


def register(rule: BudgetRule) -> None:
    """Adds a rule to `BUDGETS`.

    Raises
    ------
    BudgetError
        If there is one of that name.
    """
    if rule.name in BUDGETS:
        raise BudgetError(f"budget rule '{rule.name}' is already registered")
    BUDGETS[rule.name] = rule


def lengths(kept: Sequence[Tensor]) -> Widths:
    """The widths of kept channels."""
    return tuple(len(channels) for channels in kept)


def rules_of(scope: Scope) -> list[str]:
    """The names of the rules of a scope, in the order of their registration."""
    return [name for name, rule in BUDGETS.items() if rule.scope == scope]


def summary_of(function: Callable[..., object]) -> str:
    """The first paragraph of a docstring, in one line."""
    return (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
