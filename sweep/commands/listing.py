"""`prune-sweep metrics` and `prune-sweep datasets`: the names that a spec can use."""

from __future__ import annotations

from rich.console import Console

from prune_core.images import SOURCES
from prune_core.metrics import METRICS, Choice, Metric, MetricError
from prune_core.normalisation import NORMALISATIONS, check_normalisation


def metrics(console: Console) -> None:
    """Prints every metric with its options, inputs and source, and every normalisation."""
    for name in sorted(METRICS):
        found = METRICS[name]
        _entry(
            console,
            f"{name}({_options(found)})" if _options(found) else name,
            found.summary,
            f"reads {_reads(found)}; {found.source}",
        )
    console.print("normalisations for the global scope:", style="bold")
    for name, normalisation in NORMALISATIONS.items():
        usable = [metric for metric in sorted(METRICS) if _usable(name, metric)]
        which = "every metric" if len(usable) == len(METRICS) else ", ".join(usable)
        _entry(console, name, normalisation.summary, f"for {which}")


def datasets(console: Console) -> None:
    """Prints every source of images."""
    for source in SOURCES.values():
        mirrored = "mirrored images keep their label" if source.flip_keeps_label else "not mirrored"
        _entry(console, source.pattern, source.summary, f"{mirrored}; {source.citation}")


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


def _options(metric: Metric) -> str:
    options = [f"{name}={parameter.default}" for name, parameter in metric.options.items()]
    if metric.reads_images:
        options.append(f"images={metric.images or 'all'}")
    return ", ".join(options)


def _reads(metric: Metric) -> str:
    if not metric.reads_images:
        return "no images"
    defaults = {name: parameter.default for name, parameter in metric.options.items()}
    names = sorted(type(request).__name__ for request in metric.needs(**defaults))
    return f"feature maps ({', '.join(names)})"
