"""The registry of budget rules: each turns a ratio into widths and kept channels.

Two decorators cover most rules. `layerwise` registers a function from an architecture, a ratio
and a floor to widths; the channels with the highest scores of each layer stay. `ranking` registers
a function from scores that are comparable between layers to the kept channels. The keyword-only
parameters of these functions are the options of the rule.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor

from prune_core.budgets.channels import check_scores, top
from prune_core.budgets.floor import BudgetError, Floor, check_range, check_ratio
from prune_core.networks import Architecture
from prune_core.options import checked_options, option_defaults
from prune_core.registering import Provider, check_new, explaining, provider

BUDGET_VERSION = 1
"""Of the rules of this package together: raised when their widths or channels change."""

Scope = Literal["local", "global", "widths_of", "unpruned"]
RatioOf = Literal["parameters", "macs", "channels"]
Widths = tuple[int, ...]
Scores = Sequence[Tensor]
"""For each layer the scores of its channels, [C], higher = keep."""
Loss = Callable[[list[Tensor]], float]
"""The loss in nats of the network that has only the channels given for each layer."""


@dataclass(frozen=True)
class Importances:
    """Channel importance as a budget rule reads it.

    Attributes
    ----------
    scores : by the metric that chooses the channels of a layer; None for a network that is
        trained from scratch, where no channel is chosen.
    comparable : normalised between layers, by the metric that sets the widths: the same metric,
        or the reference of `widths_of`. None for rules that read no scores to set widths.
    loss : of the network with fewer channels; None for rules that do not read it. See
        `prune_core.budgets.sensitivity.held_out_loss`.
    """

    scores: Scores | None = None
    comparable: Scores | None = None
    loss: Loss | None = None


@dataclass(frozen=True)
class BudgetRule(ABC):
    """A way from a ratio to kept channels.

    Attributes
    ----------
    name : what a spec calls it.
    scope : `local`, scores are compared only within a layer, if at all; `global`, widths from one
        ranking of all channels; `widths_of`, widths from the global ranking of another metric;
        `unpruned`, all channels, for a control.
    summary : one sentence on what it does.
    ratio_of : what the ratio counts, unless the rule has an option `of`; see `counted`.
    version : raised when the numbers of this rule change; part of a cell's key.
    provider : the plug-in or package that it comes from; None for this package.
    """

    name: str
    scope: Scope
    summary: str
    ratio_of: RatioOf = "parameters"
    version: int = 1
    provider: Provider | None = field(default_factory=provider, kw_only=True)

    @property
    def ranks(self) -> bool:
        """Whether it reads comparable scores to set widths."""
        return self.scope != "local"

    @property
    def reads_loss(self) -> bool:
        """Whether it reads the loss of smaller networks to set widths."""
        return False

    @property
    def fixes_ratio(self) -> bool:
        """Whether the options alone decide the ratio; see `fixed_ratio`."""
        return False

    @property
    def function(self) -> Callable[..., object]:
        """Its keyword-only parameters are the options of the rule; by default there are none."""
        return _without_options

    def filled(self, options: Mapping[str, object]) -> dict[str, Any]:
        """All options, checked: those given, else the defaults.

        Raises
        ------
        BudgetError
            Naming the option, its value and what is allowed.
        """
        return checked_options(self.function, options, f"budget '{self.name}'", BudgetError)

    def counted(self, **options: Any) -> RatioOf:
        """What the ratio counts with these options."""
        found = {**option_defaults(self.function), **options}.get("of", self.ratio_of)
        return cast(RatioOf, found)

    def resolved(self, base: Path, **options: Any) -> dict[str, Any]:
        """The options with what the files hold that they name, relative to a folder."""
        return options

    def fixed_ratio(self, architecture: Architecture, **options: Any) -> float | None:
        """The ratio that the options alone decide; None if it can be chosen."""
        return None

    def loss_images(self, **options: Any) -> int:
        """The number of images that the loss is computed on; 0 if it is not read."""
        return 0

    def evaluations(
        self, architecture: Architecture, ratio: float, floor: Floor, **options: Any
    ) -> int:
        """About how often the loss is computed."""
        return 0

    @abstractmethod
    def widths(
        self,
        architecture: Architecture,
        ratio: float,
        floor: Floor,
        importances: Importances,
        **options: Any,
    ) -> Widths:
        """The number of channels that each layer keeps."""

    def check(self, architecture: Architecture, ratio: float, floor: Floor, **options: Any) -> None:
        """Refuses a ratio that no widths of this rule can have.

        Raises
        ------
        BudgetError
            For a ratio outside (0, 1], or a ratio of a cost below what the floor allows; see
            `check_ratio`. A ratio of channels has no such limit: layers stay at the floor.
        """
        of = self.counted(**options)
        if of == "channels":
            check_range(ratio)
        else:
            check_ratio(architecture, ratio, floor, of)

    def kept(
        self,
        architecture: Architecture,
        ratio: float,
        floor: Floor,
        importances: Importances,
        **options: Any,
    ) -> list[Tensor]:
        """For each layer the kept channels, int64 ascending: by default the best of each layer."""
        assert importances.scores is not None
        check_scores(importances.scores, architecture)
        widths = self.widths(architecture, ratio, floor, importances, **options)
        return top(importances.scores, widths)

    def likely_widths(
        self, architecture: Architecture, ratio: float, floor: Floor, **options: Any
    ) -> Widths:
        """Widths to estimate time with, before any score is known: by default all shrunk alike."""
        uniform = BUDGETS[f"uniform_{self.counted(**options)}"]
        return uniform.likely_widths(architecture, ratio, floor)


BUDGETS: dict[str, BudgetRule] = {}
"""Every rule by its name."""


@dataclass(frozen=True, kw_only=True)
class Layerwise(BudgetRule):
    """Widths by a function of the architecture, the ratio and the floor."""

    rule: Callable[..., Widths]

    @property
    def function(self) -> Callable[..., object]:
        """See `BudgetRule`."""
        return self.rule

    def check(self, architecture: Architecture, ratio: float, floor: Floor, **options: Any) -> None:
        """See `BudgetRule`; also refuses a rule that gives no widths for the ratio."""
        super().check(architecture, ratio, floor, **options)
        self.likely_widths(architecture, ratio, floor, **options)

    def widths(
        self,
        architecture: Architecture,
        ratio: float,
        floor: Floor,
        importances: Importances,
        **options: Any,
    ) -> Widths:
        """See `BudgetRule`."""
        return self.likely_widths(architecture, ratio, floor, **options)

    def likely_widths(
        self, architecture: Architecture, ratio: float, floor: Floor, **options: Any
    ) -> Widths:
        """See `BudgetRule`: the widths themselves."""
        with explaining(f"budget '{self.name}'", self.provider, BudgetError):
            found = tuple(map(index, self.rule(architecture, ratio, floor, **options)))
        full = architecture.widths
        if len(found) != len(full) or not all(
            1 <= one <= most for one, most in zip(found, full, strict=False)
        ):
            raise BudgetError(
                f"budget '{self.name}' gave the widths {found} for the ratio {ratio}; it must give "
                f"{len(full)} whole numbers, from 1 to the widths of the groups, {full}"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class Ranking(BudgetRule):
    """Channels by a function of comparable scores, the architecture, the ratio and the floor."""

    rule: Callable[..., list[Tensor]]

    @property
    def function(self) -> Callable[..., object]:
        """See `BudgetRule`."""
        return self.rule

    def widths(
        self,
        architecture: Architecture,
        ratio: float,
        floor: Floor,
        importances: Importances,
        **options: Any,
    ) -> Widths:
        """See `BudgetRule`."""
        return lengths(self.kept(architecture, ratio, floor, importances, **options))

    def kept(
        self,
        architecture: Architecture,
        ratio: float,
        floor: Floor,
        importances: Importances,
        **options: Any,
    ) -> list[Tensor]:
        """See `BudgetRule`."""
        assert importances.comparable is not None
        with explaining(f"budget '{self.name}'", self.provider, BudgetError):
            return self.rule(importances.comparable, architecture, ratio, floor, **options)


@dataclass(frozen=True, kw_only=True)
class Borrowed(BudgetRule):
    """The best channels of each layer, at the widths that another rule's ranking leaves."""

    lender: str

    @property
    def function(self) -> Callable[..., object]:
        """See `BudgetRule`: the options are the lender's."""
        return BUDGETS[self.lender].function

    def widths(
        self,
        architecture: Architecture,
        ratio: float,
        floor: Floor,
        importances: Importances,
        **options: Any,
    ) -> Widths:
        """See `BudgetRule`."""
        lender = BUDGETS[self.lender]
        return lender.widths(architecture, ratio, floor, importances, **options)


def layerwise(
    ratio_of: RatioOf = "parameters", version: int = 1
) -> Callable[[Callable[..., Widths]], Callable[..., Widths]]:
    """Registers a function (architecture, ratio, floor) -> widths as a local rule by its own name.

    Of each layer, the channels with the highest scores stay. Keyword-only parameters are options.

    Parameters
    ----------
    ratio_of : what the ratio counts, if the function has no option `of` that says it.
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

    Keyword-only parameters are options; `of` says what the ratio counts.

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
    check_new(rule.name, BUDGETS, "budget rule", BudgetError)
    BUDGETS[rule.name] = rule


def _without_options() -> None:
    """The options of a rule that has none."""


def lengths(kept: Sequence[Tensor]) -> Widths:
    """The widths of kept channels."""
    return tuple(len(channels) for channels in kept)


def rules_of(scope: Scope) -> list[str]:
    """The names of the rules of a scope, in the order of their registration."""
    return [name for name, rule in BUDGETS.items() if rule.scope == scope]


def summary_of(function: Callable[..., object]) -> str:
    """The first paragraph of a docstring, in one line."""
    return (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
