"""`prune-sweep metrics`, `networks` and `datasets`: the names that a spec can use."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable

from rich.console import Console

from prune_core.budgets import BUDGETS, rules_of
from prune_core.budgets.registry import Scope
from prune_core.compensation import COMPENSATIONS, Compensation
from prune_core.cost import multiply_accumulates, parameters
from prune_core.images import SOURCES
from prune_core.metrics import METRICS, Choice, Metric, MetricError
from prune_core.metrics.registry import IMAGES
from prune_core.networks import IMAGE_SIZE, NETWORKS, Architecture, ArchitectureError
from prune_core.networks.registry import WIDTH
from prune_core.normalisation import NORMALISATIONS, check_normalisation
from prune_core.options import options_of
from prune_core.registering import Provider
from prune_core.statistics import InputRequest
from sweep.errors import UserError

SCOPES: tuple[Scope, ...] = ("local", "global")


def metrics(console: Console) -> None:
    """Prints every metric with its options, inputs and source; budgets and what else a spec names.

    What a plug-in or another package registers names it.
    """
    for name in sorted(METRICS):
        found = METRICS[name]
        images = [f"{IMAGES}={_word(found.images)}"] if found.reads_images else []
        _entry(
            console,
            _called(name, found.function, *images),
            found.summary,
            f"reads {_reads(found)}; {found.source}",
            *_from(found.provider),
        )
    for scope in SCOPES:
        console.print(f"budget rules for the {scope} scope:", style="bold")
        for name in rules_of(scope):
            rule = BUDGETS[name]
            _entry(console, _called(name, rule.function), rule.summary, *_from(rule.provider))
    console.print("normalisations for the global scope:", style="bold")
    for name, normalisation in NORMALISATIONS.items():
        usable = [metric for metric in sorted(METRICS) if _usable(name, metric)]
        which = "every metric" if len(usable) == len(METRICS) else ", ".join(usable)
        _entry(
            console,
            name,
            normalisation.summary,
            f"for {which}",
            *_from(normalisation.provider),
        )
    console.print("compensations, for the field `compensations`:", style="bold")
    for name, summary in COMPENSATIONS.items():
        options = ", ".join(f"{k}={v}" for k, v in Compensation(name).options.items())
        _entry(console, f"{name}({options})" if options else name, summary)


def networks(console: Console) -> None:
    """Prints every network with its size, options, source and published accuracies.

    Raises
    ------
    UserError
        If a network of a plug-in cannot be built.
    """
    for name, family in NETWORKS.items():
        height, width = family.image_size
        # The usual data sets of these sizes: CIFAR-10 and ImageNet.
        classes = 10 if family.image_size == IMAGE_SIZE else 1000
        try:
            shape = Architecture.named(name, classes)
        except ArchitectureError as error:
            raise UserError(str(error)) from error
        options = {
            option: parameter
            for option, parameter in options_of(family.build, name).items()
            if option != WIDTH
        }
        published = [f"{data} {top1:g} %" for data, top1 in family.accuracies.items()]
        _entry(
            console,
            name,
            family.summary,
            f"{parameters(shape):,} parameters and {multiply_accumulates(shape) / 1e6:,.1f} M "
            f"multiply-accumulates for {classes} classes at {height} x {width}; "
            f"{len(shape.widths)} channel groups"
            + "".join(
                f"; {option}: {_allowed(parameter)}" for option, parameter in options.items()
            ),
            family.source + (f"; published: {', '.join(published)}" if published else ""),
            *_from(family.provider),
        )
    console.print(
        "your own: network: {source: my_net.py:build}, see docs/networks.md",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _allowed(parameter: inspect.Parameter) -> str:
    """The values of an option, its default first."""
    others = [one for one in typing.get_args(parameter.annotation) if one != parameter.default]
    return " or ".join(str(value) for value in [parameter.default, *others])


def datasets(console: Console) -> None:
    """Prints every source of images."""
    for source in SOURCES.values():
        mirrored = "mirrored images keep their label" if source.flip_keeps_label else "not mirrored"
        _entry(
            console,
            source.pattern,
            source.summary,
            f"{mirrored}; {source.citation}",
            *_from(source.provider),
        )


def _from(provider: Provider | None) -> list[str]:
    """A line that names who registered an entry; none for prune-sweep itself."""
    if provider is None:
        return []
    known = f", fingerprint {provider.fingerprint}" if provider.fingerprint else ""
    return [f"from {provider}{known}"]


def _usable(normalisation: str, metric: str) -> bool:
    try:
        check_normalisation(normalisation, Choice.of(metric))
    except MetricError:
        return False
    return True


def _entry(console: Console, name: str, *lines: str) -> None:
    console.print(name, style="bold", markup=False, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)


def _called(name: str, function: Callable[..., object], *more: str) -> str:
    """A name with the options of its function as a spec writes them; required ones as `file=...`.

    Parameters
    ----------
    more : other options.
    """
    options = [
        f"{option}={'...' if parameter.default is parameter.empty else _word(parameter.default)}"
        for option, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    options += more
    return f"{name}({', '.join(options)})" if options else name


def _word(value: object) -> str:
    return "none" if value is None else str(value)


def _reads(metric: Metric) -> str:
    if not metric.reads_images:
        return "no images"
    requests = metric.requests(metric.defaults)
    names = ", ".join(sorted(type(request).__name__ for request in requests))
    of_inputs = all(isinstance(request, InputRequest) for request in requests)
    return f"{'inputs of consumers' if of_inputs else 'feature maps'} ({names})"
