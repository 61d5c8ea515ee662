"""The command line: all commands that need no cluster.

Each command imports what it needs when it runs, because importing torch takes seconds and most
commands do not need it.
"""

from __future__ import annotations

import functools
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from results import Store
from sweep.commands import options
from sweep.commands.arguments import (
    DataOption,
    FolderArgument,
    OutOption,
    OverridesArgument,
    PluginOption,
    SpecArgument,
    WhereOption,
)
from sweep.commands.exits import guarded
from sweep.execution.terminal import Terminal

app = typer.Typer(
    name="prune-sweep",
    help="Sweeps of channel pruning: which channels of a convolutional network can be removed?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT_SPEC = "digits"


@app.command()
@guarded
def plan(
    spec: SpecArgument,
    overrides: OverridesArgument = None,
    plugin: PluginOption = None,
    data: DataOption = None,
    out: OutOption = None,
    where: WhereOption = None,
) -> bool:
    """Show the cells of a spec, the network sizes and a time estimate. Runs nothing."""
    from sweep.api import plan as make_plan
    from sweep.commands.plan import describe
    from sweep.spec.conditions import conditions_of

    conditions = conditions_of(where or ())
    described = make_plan(spec, overrides or (), plugins=plugin or (), data=data, out=out)
    describe(Terminal(), described, described.planned.where(conditions))
    return True


@app.command()
@functools.partial(guarded, interrupted="interrupted; finished cells are kept, rerun to continue")
def run(
    spec: SpecArgument = DEFAULT_SPEC,
    overrides: OverridesArgument = None,
    plugin: PluginOption = None,
    data: DataOption = None,
    out: OutOption = None,
    executor: Annotated[
        str,
        typer.Option(
            help="ray: this machine, or the cluster at RAY_ADDRESS; serial: one process, no Ray; "
            "slurm: jobs of Slurm, no Ray."
        ),
    ] = "ray",
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="What a job asks of Slurm, such as partition=gpu: options of sbatch, and "
            "parameters of submitit. May be repeated.",
            show_default=False,
        ),
    ] = None,
    retry: Annotated[
        str | None,
        typer.Option(help="Run the cells with these statuses again, such as failed,diverged."),
    ] = None,
    cell: Annotated[
        list[str] | None,
        typer.Option(help="Run this cell only: a row's key or its first digits. May be repeated."),
    ] = None,
    where: WhereOption = None,
    pdb: Annotated[
        bool,
        typer.Option("--pdb", help="Open the debugger where a task fails; needs serial."),
    ] = False,
) -> bool:
    """Run the cells of a spec that have no result yet. Ctrl-C keeps all finished cells."""
    from sweep.api import run as run_sweep
    from sweep.commands.summary import conclude

    signal.signal(signal.SIGTERM, _interrupt)
    fields = overrides or []
    if "=" in spec and not Path(spec).exists():
        spec, fields = DEFAULT_SPEC, [spec, *fields]
    # While Ray runs, standard output is redirected to its log; keep the real one for messages.
    console = Terminal(file=sys.stdout, goes_on=True)
    done = run_sweep(
        spec,
        fields,
        plugins=plugin or (),
        data=data,
        out=out,
        executor=executor,
        retry=[name.strip() for name in (retry or "").split(",") if name.strip()],
        only=cell or (),
        where=where or (),
        slurm=slurm or (),
        debugger=pdb,
        console=console,
    )
    return conclude(console, done)


@app.command()
@guarded
def status(folder: FolderArgument) -> bool:
    """Show how many cells are done, running, failed and left. Exit code 1 unless all are ok."""
    from sweep.commands.status import show

    return show(Terminal(), folder)


@app.command()
@guarded
def compact(folder: FolderArgument) -> bool:
    """Merge the many small files of a results folder into one. The rows stay the same."""
    console = Terminal()
    cells = Store(folder).compact(
        lambda holder: console.print(f"waiting for {holder}", markup=False)
    )
    console.print(f"{cells} cells in one file", markup=False)
    return True


@app.command()
@guarded
def report(
    folders: Annotated[
        list[str], typer.Argument(help="Results folders, such as runs/digits, or URIs.")
    ],
    form: Annotated[
        Literal["html", "md"],
        typer.Option("--format", help="html: one file; md: Markdown with separate PNG files."),
    ] = "html",
    to: Annotated[
        Path | None,
        typer.Option(
            help="The file. Default: report.FORMAT in the folder, or here for several folders.",
            show_default=False,
        ),
    ] = None,
) -> bool:
    """Write a report on sweeps as one HTML file that works offline, or as Markdown."""
    from results.report import write

    Terminal().print(str(write(folders, form, to)), markup=False, highlight=False, soft_wrap=True)
    return True


@app.command()
@guarded
def compare(
    folders: Annotated[
        list[str], typer.Argument(help="Two or more results folders; the first with each other.")
    ],
    form: Annotated[
        Literal["text", "json"], typer.Option("--format", help="text: tables; json: one list.")
    ] = "text",
) -> bool:
    """Compare sweeps: cells in both, recipes, differences. Exit code 1 if shared cells differ."""
    from sweep.commands.compare import compare as compare_sweeps

    return compare_sweeps(folders, Terminal(), form)


SourceOption = Annotated[
    str | None,
    typer.Option(
        help="File and function of your own network, such as my_net.py:build.", show_default=False
    ),
]


@app.command()
@guarded
def export(
    folder: FolderArgument,
    cell: Annotated[str, typer.Argument(help="The cell's key or its first digits.")],
    to: Annotated[Path, typer.Option(help="A new or empty folder.")],
    source: SourceOption = None,
    plugin: PluginOption = None,
) -> bool:
    """Write a cell's network for other programs: safetensors, torch.export, ONNX and a README."""
    from sweep.commands.export import export as write_export
    from sweep.execution.resources import use_allowed_cpus
    from sweep.spec.plugin_files import load

    use_allowed_cpus()
    load(plugin or ())
    write_export(folder, cell, to, Terminal(), source)
    return True


@app.command()
@functools.partial(guarded, interrupted="interrupted; nothing was written")
def prune(
    network: Annotated[
        Path,
        typer.Argument(
            help="A folder that `export` or `prune` wrote or a sweep kept, or a checkpoint file."
        ),
    ],
    dataset: Annotated[
        str,
        typer.Option(help="Its images, such as cifar10; `prune-sweep datasets` lists the sources."),
    ],
    ratio: Annotated[float, typer.Option(help="The fraction of its parameters to keep.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the images: a relative dataset starts here.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="A new or empty folder. Default: NAME-RATIO.", show_default=False),
    ] = None,
    test_images: Annotated[
        int | None,
        typer.Option(help="Measure accuracy on the first test images only.", min=1),
    ] = None,
    source: SourceOption = None,
    plugin: PluginOption = None,
    metric: options.Metric = None,
    compensation: options.Compensation = "least_squares",
    scope: options.Scope = None,
    budget: options.Budget = None,
    normalisation: options.Normalisation = "none",
    min_channels: options.MinChannels = 1,
    min_fraction: options.MinFraction = 0.0,
    round_to: options.RoundTo = 1,
    combine: options.Combine = "mean",
    seed: options.Seed = 0,
    variant: options.Variant = None,
    width: options.Width = None,
    option: options.Option = None,
    groups: options.Groups = None,
    mean: options.Mean = None,
    deviation: options.Deviation = None,
    image_size: options.ImageSize = None,
) -> bool:
    """Make a trained network smaller: remove channels and compensate, without training.

    Channels are chosen, and weights changed, on training images.

    Writes the same files as `export`.
    """
    from sweep.commands.prune import Source, Wishes
    from sweep.commands.prune import prune as prune_network
    from sweep.commands.trained import Origin
    from sweep.execution.resources import use_allowed_cpus
    from sweep.spec.plugin_files import load

    use_allowed_cpus()
    signal.signal(signal.SIGTERM, _interrupt)
    load(plugin or ())
    side = None if image_size is None else (image_size, image_size)
    origin = Origin(
        network, source, variant, width, tuple(option or ()), groups, mean, deviation, side
    )
    wishes = Wishes(
        ratio=ratio,
        metric=metric,
        compensation=compensation,
        scope=scope,
        budget=budget,
        normalisation=normalisation,
        min_channels=min_channels,
        min_fraction=min_fraction,
        round_to=round_to,
        combine=combine,
        seed=seed,
    )
    prune_network(origin, Source(dataset, data, test_images), wishes, to, Terminal())
    return True


@app.command()
@guarded
def predict(
    network: Annotated[Path, typer.Argument(help="A folder written by `export`.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, of any size and format.")],
    source: SourceOption = None,
    plugin: PluginOption = None,
    form: Annotated[
        Literal["text", "json"],
        typer.Option("--format", help="text: a line for each image; json: one list."),
    ] = "text",
    bits: Annotated[
        int,
        typer.Option(
            help="How many bits 16-bit grey images fill: `bits` of the training images.",
            min=8,
            max=16,
        ),
    ] = 16,
) -> bool:
    """Show the class that an exported network predicts for each image, and its probability.

    Exit code 1 if an image cannot be read; the others are answered.
    """
    from sweep.commands.predict import predict as show_classes
    from sweep.execution.resources import use_allowed_cpus
    from sweep.spec.plugin_files import load

    use_allowed_cpus()
    load(plugin or ())
    return show_classes(network, images, Terminal(), Terminal(stderr=True), source, form, bits)


@app.command()
@guarded
def metrics(plugin: PluginOption = None) -> bool:
    """List the metrics, budget rules, normalisations and compensations that a spec can name."""
    from sweep.commands import listing
    from sweep.spec.plugin_files import load

    load(plugin or ())
    listing.metrics(Terminal())
    return True


@app.command()
@guarded
def networks(plugin: PluginOption = None) -> bool:
    """List the networks that a spec can name, with their sizes and published accuracies."""
    from sweep.commands import listing
    from sweep.spec.plugin_files import load

    load(plugin or ())
    listing.networks(Terminal())
    return True


@app.command()
@guarded
def datasets(plugin: PluginOption = None) -> bool:
    """List the sources of images that a spec can name."""
    from sweep.commands import listing
    from sweep.spec.plugin_files import load

    load(plugin or ())
    listing.datasets(Terminal())
    return True


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
