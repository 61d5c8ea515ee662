"""Widths that a file gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prune_core.budgets.floor import BudgetError, Floor
from prune_core.budgets.registry import BudgetRule, Importances, Widths, register
from prune_core.cost import parameters
from prune_core.networks import Architecture
from prune_core.spelling import allowed

TOLERANCE = 0.005
"""How far a ratio that is asked for may be from that of the widths: it is written with few digits.
"""


@dataclass(frozen=True)
class FixedWidths:
    """The widths in a file; the file is not needed any more.

    Attributes
    ----------
    entries : a width for each group, in their order; or pairs of a group's name and its width,
        sorted by name, where other groups keep their width.
    file : for messages.
    """

    entries: tuple[int, ...] | tuple[tuple[str, int], ...]
    file: str = field(compare=False)

    @classmethod
    def read(cls, base: Path, *, file: str) -> FixedWidths:
        """Reads a list of widths, or a mapping from names of groups to widths, in YAML or JSON.

        Parameters
        ----------
        base : the folder that a relative path starts from.
        file : its path; the option of the rule.

        Raises
        ------
        BudgetError
            If the file cannot be read, or holds something else.
        """
        found = _content(base / Path(file).expanduser(), file)
        if isinstance(found, list) and found:
            named = {f"the width at place {at}": width for at, width in enumerate(found, start=1)}
        elif isinstance(found, dict) and found and all(isinstance(name, str) for name in found):
            named = {f"the width of group '{name}'": width for name, width in found.items()}
        else:
            raise BudgetError(
                f"{file} must hold a list of widths, or a mapping from names of groups to widths"
            )
        for which, width in named.items():
            if type(width) is not int or width < 1:
                raise BudgetError(
                    f"{file}: {which} is {width!r}; it must be a whole number, 1 or more"
                )
        entries = tuple(found) if isinstance(found, list) else tuple(sorted(found.items()))
        return cls(entries, file)

    def __str__(self) -> str:
        return self.file

    def fitted(self, architecture: Architecture) -> FixedWidths:
        """The same widths of a network as a list, so that one set of widths has one identity."""
        return FixedWidths(self.of(architecture, Floor()), self.file)

    def identity(self) -> list[int] | dict[str, int]:
        """What changes the widths, as JSON values: not where the file lies."""
        return self._named() or [width for width in self.entries if isinstance(width, int)]

    def of(self, architecture: Architecture, floor: Floor) -> Widths:
        """The widths of a network.

        Raises
        ------
        BudgetError
            If they do not fit the groups of the network or the floor; names the file, the group,
            its width and what is allowed.
        """
        names, full = architecture.groups.names, architecture.widths
        named = self._named()
        if not named and len(self.entries) != len(names):
            raise BudgetError(
                f"{self.file} has {len(self.entries)} widths, but the network has {len(names)} "
                f"groups: {', '.join(names)}"
            )
        for name in named:
            if name not in names:
                raise BudgetError(f"{self.file}: group '{name}' is unknown; {allowed(name, names)}")
        found = []
        for at, (name, most, least) in enumerate(zip(names, full, floor.of(full), strict=True)):
            given = named.get(name, most) if named else self.entries[at]
            assert isinstance(given, int)
            fits = least <= given <= most
            if not fits or (given < most and given % floor.round_to):
                steps = f" in multiples of {floor.round_to}" if floor.round_to > 1 else ""
                raise BudgetError(
                    f"{self.file}: group '{name}' has width {given}; allowed with the floor of "
                    f"{floor}: {least} to {most}{steps}"
                )
            found.append(given)
        return tuple(found)

    def _named(self) -> dict[str, int]:
        """The widths by name; empty for a list."""
        return dict(pair for pair in self.entries if isinstance(pair, tuple))


@dataclass(frozen=True, kw_only=True)
class FromFile(BudgetRule):
    """The best channels of each layer, at the widths that a file gives."""

    @property
    def fixes_ratio(self) -> bool:
        """See `BudgetRule`."""
        return True

    @property
    def function(self) -> Callable[..., object]:
        """See `BudgetRule`."""
        return FixedWidths.read

    def resolved(self, base: Path, **options: Any) -> dict[str, Any]:
        """See `BudgetRule`: the file's place is taken by the widths in it."""
        file = options["file"]
        read = file if isinstance(file, FixedWidths) else FixedWidths.read(base, file=file)
        return {"file": read}

    def fixed_ratio(self, architecture: Architecture, **options: Any) -> float:
        """See `BudgetRule`: the ratio of the parameters at the widths in the file."""
        widths = _held(options).of(architecture, Floor())
        return parameters(architecture, widths) / parameters(architecture)

    def check(self, architecture: Architecture, ratio: float, floor: Floor, **options: Any) -> None:
        """See `BudgetRule`: widths that do not fit, and a ratio that is not theirs."""
        found = _held(options)
        found.of(architecture, floor)
        fixed = self.fixed_ratio(architecture, **options)
        if not abs(ratio - fixed) <= TOLERANCE:
            raise BudgetError(
                f"the widths in {found} leave {fixed:.4f} of the parameters; give this ratio, not "
                f"{ratio}"
            )

    def widths(
        self,
        architecture: Architecture,
        ratio: float,
        floor: Floor,
        importances: Importances,
        **options: Any,
    ) -> Widths:
        """See `BudgetRule`."""
        return _held(options).of(architecture, floor)

    def likely_widths(
        self, architecture: Architecture, ratio: float, floor: Floor, **options: Any
    ) -> Widths:
        """See `BudgetRule`: the widths themselves."""
        return _held(options).of(architecture, floor)


def _held(options: Mapping[str, Any]) -> FixedWidths:
    found = options.get("file")
    if not isinstance(found, FixedWidths):
        raise BudgetError(
            "budget 'widths' has no widths: its option 'file' must be given, and read by "
            "BudgetChoice.resolved"
        )
    return found


def _content(path: Path, file: str) -> object:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_once)
        # Imported here, because a machine that runs cells needs torch alone.
        import yaml

        class Loader(yaml.SafeLoader):
            """Refuses a name that is given twice."""

        def mapping(loader: Loader, node: yaml.MappingNode) -> dict[Any, Any]:
            build = loader.construct_object
            return _once([(build(key), build(value)) for key, value in node.value])

        Loader.add_constructor("tag:yaml.org,2002:map", mapping)
        try:
            return yaml.load(text, Loader)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BudgetError(f"{file} cannot be read: {error}") from error


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A mapping, whose names must differ."""
    found: dict[Any, Any] = {}
    for name, value in pairs:
        if isinstance(name, str | int) and name in found:
            raise ValueError(f"'{name}' is given twice")
        found[name] = value
    return found


register(
    FromFile("widths", "local", "The best channels of each layer, at the widths that a file gives.")
)
