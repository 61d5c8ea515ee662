"""Specs and lists in the forms in which a person gives them from Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from prune_core.images import ImagesError
from prune_core.images.sources import parse_source
from prune_core.networks import NETWORKS
from prune_core.normalisation import NORMALISATIONS
from sweep.errors import SpecError
from sweep.spec.fields import Spec
from sweep.spec.parsing import of_fields, read
from sweep.spec.plugin_files import load, plugins_of

AnySpec = Spec | Mapping[str, Any] | str | os.PathLike[str]
"""A spec: its fields, the path of its file, the name of a packaged spec, or a `Spec`."""
AnyPath = str | os.PathLike[str]
T = TypeVar("T")


def spec_of(
    spec: AnySpec,
    overrides: str | Iterable[str] | None = (),
    plugins: AnyPath | Iterable[AnyPath] | None = (),
) -> Spec:
    """Checks a spec in any of these forms, and registers what its plug-ins register.

    Parameters
    ----------
    overrides, plugins : see `sweep.plan`.

    Raises
    ------
    SpecError, UserError
        If the spec or a plug-in is wrong.
    """
    overrides, plugins = each(overrides), each(plugins)
    if not all(isinstance(one, str) for one in overrides):
        raise SpecError("overrides are texts FIELD=VALUE, such as 'recipe.epochs=3'")
    if not all(isinstance(one, str | os.PathLike) for one in plugins):
        raise SpecError("plugins are paths of Python files, such as 'my_metrics.py'")
    loaded = load(plugins)
    if isinstance(spec, Mapping):
        checked = of_fields(spec, "the spec", overrides, loaded)
    elif isinstance(spec, str | os.PathLike):
        checked = read(os.fspath(spec), overrides, loaded)
    elif not isinstance(spec, Spec):
        raise SpecError(
            "a spec is a dictionary of fields, the path of a file, the name of a packaged spec or "
            f"a sweep.Spec; this one is of the type {type(spec).__name__}"
        )
    elif overrides or loaded:
        raise SpecError("overrides and plugins need the fields or the file of a spec, not a Spec")
    else:
        checked = spec
    with plugins_of(checked):
        _check_files(checked)
    return checked


def each(values: str | os.PathLike[str] | Iterable[T] | None) -> list[T]:
    """The values; a single text or path is one value, not a list of letters, and None is none.

    Raises
    ------
    SpecError
        If it is neither a text nor a path nor several of them.
    """
    if values is None:
        return []
    if isinstance(values, str | os.PathLike):
        return [cast("T", values)]
    try:
        return list(values)
    except TypeError:
        kind = type(values).__name__
        raise SpecError(f"{values!r} is of the type {kind}; give a text or a list") from None


def _check_files(spec: Spec) -> None:
    """Refuses what the program that calls registered itself.

    Workers could not load it, and no key would say which version of it made a row.
    """
    used: dict[str, Callable[..., object]] = {}
    for choice in [*spec.metrics, *spec.controls.widths_of]:
        used[f"metric '{choice.name}'"] = choice.metric.function
    for budget in [*spec.local_budgets, *spec.global_budgets]:
        used[f"budget '{budget.name}'"] = budget.rule.function
    for name in spec.normalisations:
        used[f"normalisation '{name}'"] = NORMALISATIONS[name].apply
    for dataset in spec.datasets:
        try:
            source, _ = parse_source(dataset.located)
        except ImagesError as error:
            raise SpecError(f"dataset {dataset.name}: {error}") from error
        used[f"dataset '{dataset.name}'"] = source.find
    if spec.network.variant in NETWORKS:
        used[f"network '{spec.network.variant}'"] = NETWORKS[spec.network.variant].build
    for what, function in used.items():
        if function.__module__ == "__main__":
            raise SpecError(
                f"{what} is defined in the program that runs now; put it into a file of its own "
                "and name the file in `plugins`, so that workers can load it and a change of it "
                "makes new cells"
            )
