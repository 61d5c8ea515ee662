"""A budget rule with its options, as a spec names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from prune_core.budgets.fixed import FixedWidths
from prune_core.budgets.floor import BudgetError, Floor
from prune_core.budgets.registry import (
    BUDGETS,
    BudgetRule,
    Importances,
    RatioOf,
    Scope,
    Widths,
)
from prune_core.networks import Architecture
from prune_core.options import Option, named_options, option_defaults
from prune_core.registering import plugin_identity
from prune_core.spelling import allowed


@dataclass(frozen=True)
class BudgetChoice:
    """A budget rule with its options.

    Attributes
    ----------
    name : the name of a registered rule.
    options : those that differ from their defaults, sorted by name. So an option that is set to its
        default gives the same choice as an option that is left out.

    Raises
    ------
    BudgetError
        Naming the rule, the option, its value and what is allowed.
    """

    name: str
    options: tuple[tuple[str, Option | FixedWidths], ...] = ()

    def __post_init__(self) -> None:
        if self.name not in BUDGETS:
            raise BudgetError(f"budget '{self.name}' is unknown; {allowed(self.name, BUDGETS)}")
        read = {k: v for k, v in self.options if isinstance(v, FixedWidths)}
        given = {k: str(v) if isinstance(v, FixedWidths) else v for k, v in self.options}
        filled, defaults = self.rule.filled(given), option_defaults(self.rule.function)
        changed = {k: v for k, v in filled.items() if k not in defaults or v != defaults[k]}
        object.__setattr__(self, "options", tuple(sorted({**changed, **read}.items())))

    @classmethod
    def parse(cls, value: object) -> BudgetChoice:
        """Reads a choice from an entry of a spec.

        Parameters
        ----------
        value : `global`, `global(of=macs)`, `{global: {of: macs}}` or `{name: global, of: macs}`.

        Raises
        ------
        BudgetError
            If the value has none of these forms; otherwise see the class.
        """
        name, options = named_options(value, "a budget", "global(of=macs)", BudgetError)
        given: Any = options.items()
        return cls(name, tuple(given))

    @property
    def rule(self) -> BudgetRule:
        """The registered rule of this name."""
        return BUDGETS[self.name]

    @property
    def label(self) -> str:
        """The name, with the options that differ from their defaults: `global(of=macs)`."""
        return self.label_with()

    def label_with(self, *words: str) -> str:
        """The label with other words before the options: `widths_of(output_l1, of=macs)`."""
        inside = ", ".join([*words, *(f"{name}={value}" for name, value in self.options)])
        return f"{self.name}({inside})" if inside else self.name

    def __str__(self) -> str:
        return self.label

    def identity(self) -> Any:
        """The part of a cell's key, as JSON values: the name, a version above 1, changed options.

        For a rule of a plug-in, these in a mapping with the fingerprint of the plug-in.

        Raises
        ------
        BudgetError
            If a file that an option names was not read; see `resolved`.
        """
        version = self.rule.version
        found: list[Any] = [self.name] if version == 1 else [self.name, version]
        if self.options:
            found.append(dict(map(_identified, self.options)))
        if plugin := plugin_identity(self.rule.provider):
            return {"rule": found, **plugin}
        return found if len(found) > 1 else self.name

    def resolved(self, base: Path | None = None) -> BudgetChoice:
        """The choice with what the files hold that its options name.

        It can then be used where these files are not.

        Parameters
        ----------
        base : the folder that relative paths start from; by default the current one.

        Raises
        ------
        BudgetError
            If a file cannot be read, or its content is not allowed.
        """
        found = self.rule.resolved(base or Path(), **self._bound)
        return BudgetChoice(self.name, tuple(found.items()))

    def fitted(self, architecture: Architecture) -> BudgetChoice:
        """The choice for one network: widths that a file gives become those of all its groups."""
        found = {
            name: value.fitted(architecture) if isinstance(value, FixedWidths) else value
            for name, value in self.options
        }
        return BudgetChoice(self.name, tuple(found.items()))

    @property
    def scope(self) -> Scope:
        """See `BudgetRule`."""
        return self.rule.scope

    @property
    def ratio_of(self) -> RatioOf:
        """What the ratio counts."""
        return self.rule.counted(**self._bound)

    @property
    def ranks(self) -> bool:
        """Whether it reads comparable scores to set widths."""
        return self.rule.ranks

    @property
    def fixes_ratio(self) -> bool:
        """See `BudgetRule.fixes_ratio`."""
        return self.rule.fixes_ratio

    @property
    def reads_loss(self) -> bool:
        """Whether it reads the loss of smaller networks; see `Importances`."""
        return self.rule.reads_loss

    @property
    def loss_images(self) -> int:
        """The number of first training images that the loss is computed on; 0 without a loss."""
        return self.rule.loss_images(**self._bound)

    @property
    def _bound(self) -> dict[str, Any]:
        return dict(self.options)

    def check(self, architecture: Architecture, ratio: float, floor: Floor) -> None:
        """See `BudgetRule.check`."""
        self.rule.check(architecture, ratio, floor, **self._bound)

    def widths(
        self, architecture: Architecture, ratio: float, floor: Floor, importances: Importances
    ) -> Widths:
        """See `BudgetRule.widths`."""
        return self.rule.widths(architecture, ratio, floor, importances, **self._bound)

    def kept(
        self, architecture: Architecture, ratio: float, floor: Floor, importances: Importances
    ) -> list[Tensor]:
        """See `BudgetRule.kept`."""
        return self.rule.kept(architecture, ratio, floor, importances, **self._bound)

    def likely_widths(self, architecture: Architecture, ratio: float, floor: Floor) -> Widths:
        """See `BudgetRule.likely_widths`."""
        return self.rule.likely_widths(architecture, ratio, floor, **self._bound)

    def fixed_ratio(self, architecture: Architecture) -> float | None:
        """The ratio, if the options alone decide it; None if it can be chosen."""
        return self.rule.fixed_ratio(architecture, **self._bound)

    def evaluations(self, architecture: Architecture, ratio: float, floor: Floor) -> int:
        """About how often the loss of `loss_images` images is computed."""
        return self.rule.evaluations(architecture, ratio, floor, **self._bound)


def _identified(option: tuple[str, Option | FixedWidths]) -> tuple[str, object]:
    name, value = option
    if name == "file" and not isinstance(value, FixedWidths):
        raise BudgetError(f"the file {value} was not read; call BudgetChoice.resolved first")
    return ("widths", value.identity()) if isinstance(value, FixedWidths) else (name, value)
