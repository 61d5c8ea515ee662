"""The part of a spec that names the network."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from prune_core.layer import Combine
from prune_core.networks import NETWORKS, ArchitectureError, Grouping, Registered
from prune_core.spelling import allowed
from sweep.spec.base import Number, Strict

DEFAULT_NETWORK = "simplenet_5m"

Colours = Annotated[list[Annotated[Number, Field(ge=0, le=1)]], Field(min_length=3, max_length=3)]


def _options(given: dict[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if not isinstance(value, int | float | str | bool | None):
            raise ValueError(
                f"option '{name}' is {value!r}; it must be a number, a text, true, false or null"
            )
    return given


class NetworkSpec(Strict):
    """The network to prune: a registered one, or a person's own.

    `variant` names a registered network (`prune-sweep networks` lists them), `source` a function
    of a Python file, such as my_net.py:build. `width` multiplies the widths of a registered one.
    Other fields are options of the network, such as `shortcut: B`, that is, keyword arguments of
    the function. `groups` says which channels can be pruned: in a
    residual network, `all` makes channels that a shortcut joins one group, and `inner` prunes only
    channels inside a block. `combine` says how the scores of a group's producers become one.
    `weights` is a file with trained weights, from which the baseline starts; `mean` and
    `deviation` of its training images' colours, in units of 0 to 1, are those of the data set
    unless they are given.
    """

    variant: str | None = None
    source: str | None = None
    width: Annotated[Number, Field(gt=0, le=16)] | None = None
    options: Annotated[dict[str, Any], AfterValidator(_options)] = {}
    groups: Grouping = "all"
    combine: Combine = "mean"
    weights: str | None = None
    mean: Colours | None = None
    deviation: Colours | None = None

    @property
    def multiplier(self) -> float:
        """What the widths of a registered network are multiplied by."""
        return 1.0 if self.width is None else self.width

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, value: Any) -> Any:
        if isinstance(value, str):
            field = "source" if ":" in value else "variant"
            raise ValueError(f"is a text; write network: {{{field}: {value}}}")
        if not isinstance(value, dict):
            return value
        options = {k: v for k, v in value.items() if k not in cls.model_fields}
        rest = {k: v for k, v in value.items() if k in cls.model_fields}
        if rest.get("source") is None:
            defaults = {"variant": DEFAULT_NETWORK, "width": 1.0}
            rest |= {k: v for k, v in defaults.items() if rest.get(k) is None}
        elif isinstance(width := rest.get("width"), int | float):
            # In a person's own function it may be a number of channels.
            rest["width"], options["width"] = None, width
        given = rest.get("options", {})
        if options and isinstance(given, dict):
            rest["options"] = {**given, **options}
        return rest

    @model_validator(mode="after")
    def _known(self) -> NetworkSpec:
        if self.variant is not None and self.source is not None:
            raise ValueError(
                "has both a variant and a source; give one of the two; "
                "in place of a whole network write 'network={source: my_net.py:build}'"
            )
        if (self.mean is None) != (self.deviation is None):
            raise ValueError("needs both mean and deviation, or none of them")
        if self.deviation is not None and min(self.deviation) <= 0:
            raise ValueError(f"deviation is {self.deviation}; each must be above 0")
        if self.mean is not None and self.weights is None:
            raise ValueError("mean and deviation belong to `weights`, which is not given")
        if self.variant is None:
            return self
        if self.variant not in NETWORKS:
            raise ValueError(
                f"variant '{self.variant}' is unknown; {allowed(self.variant, NETWORKS)}"
            )
        try:
            Registered.of(self.variant, self.multiplier, self.options)
        except ArchitectureError as error:
            fields = ", ".join(name for name in type(self).model_fields if name != "options")
            raise ValueError(f"{error}; fields of every network are {fields}") from error
        return self
