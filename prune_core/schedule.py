"""Schedules: a network is pruned at once, or in several steps with training between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prune_core.budgets import Floor
from prune_core.options import checked_options, named_options
from prune_core.spelling import allowed

Spacing = Literal["geometric", "linear"]
ONE_SHOT, ITERATIVE = "one_shot", "iterative"
MOST_STEPS = 1000


class ScheduleError(ValueError):
    """A schedule or an option is unknown, or out of range."""


@dataclass(frozen=True)
class Schedule:
    """In how many steps a network is pruned to its ratio.

    Each step scores the channels of the network that the last one left, prunes it to the step's
    ratio, and fine-tunes it.

    Attributes
    ----------
    steps : their number.
    spacing : of the steps' ratios; see `ratios`.
    """

    steps: int = 1
    spacing: Spacing = "geometric"

    @classmethod
    def parse(cls, value: object) -> Schedule:
        """Reads an entry of a spec.

        Parameters
        ----------
        value : `one_shot`, `iterative(steps=3)` or `{iterative: {steps: 3, spacing: linear}}`.

        Raises
        ------
        ScheduleError
            Naming the value, the option and what is allowed.
        """
        name, given = named_options(value, "a schedule", "iterative(steps=3)", ScheduleError)
        if name not in SCHEDULES:
            raise ScheduleError(f"schedule '{name}' is unknown; {allowed(name, SCHEDULES)}")
        where = f"schedule '{name}'"
        options: dict[str, Any] = checked_options(SCHEDULES[name], given, where, ScheduleError)
        made = SCHEDULES[name](**options)
        if not 1 <= made.steps <= MOST_STEPS:
            raise ScheduleError(
                f"{where}, option 'steps' is {made.steps}; it must be in 1 to {MOST_STEPS}"
            )
        return made

    @property
    def label(self) -> str:
        """How a spec names it, without options that have their defaults."""
        if self == ALL_AT_ONCE:
            return ONE_SHOT
        spacing = "" if self.spacing == "geometric" else f", spacing={self.spacing}"
        return f"{ITERATIVE}(steps={self.steps}{spacing})"

    @property
    def options(self) -> dict[str, int | str]:
        """All options by name; `one_shot` has none."""
        return {} if self == ALL_AT_ONCE else {"steps": self.steps, "spacing": self.spacing}

    def identity(self) -> dict[str, Any]:
        """Everything that changes numbers; empty for a single step, whatever its spacing."""
        if self.steps == 1:
            return {}
        return {"name": ITERATIVE, "version": SCHEDULE_VERSION, **self.options}

    def ratios(self, target: float) -> tuple[float, ...]:
        """The ratio after each step, relative to the unpruned network; the last is the target.

        With `geometric` spacing each step keeps the same fraction of what there is, with `linear`
        each removes the same amount.
        """
        *before, _ = (self._between(1.0, target, step) for step in range(1, self.steps + 1))
        return (*before, target)

    def widths(self, full: Sequence[int], least: Sequence[int]) -> list[tuple[int, ...]]:
        """The widths after each step, where the widths after the last are known.

        Parameters
        ----------
        full, least : the widths before the first step and after the last.
        """
        return [
            tuple(
                max(low, min(high, round(self._between(high, low, step))))
                for high, low in zip(full, least, strict=True)
            )
            for step in range(1, self.steps + 1)
        ]

    def _between(self, full: float, least: float, step: int) -> float:
        share = step / self.steps
        if self.spacing == "linear":
            return full - (full - least) * share
        return full * (least / full) ** share


@dataclass(frozen=True)
class _FloorOf(Floor):
    """See `floor_of`."""

    full: tuple[int, ...] = ()

    def of(self, widths: Sequence[int]) -> tuple[int, ...]:
        """See `Floor`."""
        return tuple(map(min, widths, super().of(self.full)))


def floor_of(floor: Floor, full: Sequence[int]) -> Floor:
    """The floor of a network that is pruned already: that of its full widths."""
    return _FloorOf(floor.channels, floor.fraction, floor.round_to, tuple(full))


SCHEDULE_VERSION = 1
ALL_AT_ONCE = Schedule()


def one_shot() -> Schedule:
    """Score, prune and fine-tune once."""
    return ALL_AT_ONCE


def iterative(*, steps: int, spacing: Spacing = "geometric") -> Schedule:
    """Score, prune and fine-tune in several steps; each fine-tunes by the whole recipe."""
    return Schedule(steps, spacing)


SCHEDULES: dict[str, Callable[..., Schedule]] = {ONE_SHOT: one_shot, ITERATIVE: iterative}
"""The schedules by the names that specs use."""
