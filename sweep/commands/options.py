"""Options of `prune-sweep prune`, in two groups of its help."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

_PRUNING, _CHECKPOINT = "How to prune, as in a spec", "The network of a checkpoint file"

Metric = Annotated[
    str | None,
    typer.Option(
        help="Ranks the channels; `prune-sweep metrics` lists them. Default: surgeon, in a global "
        "ranking per what the ratio counts.",
        rich_help_panel=_PRUNING,
    ),
]
Compensation = Annotated[
    str,
    typer.Option(
        help="none, least_squares, or least_squares_sequential: slower, and more accurate.",
        rich_help_panel=_PRUNING,
    ),
]
Scope = Annotated[
    Literal["global", "local"] | None,
    typer.Option(
        help="global: one ranking of all channels (the default); local: all layers alike.",
        rich_help_panel=_PRUNING,
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(help="Another budget rule, such as uniform_channels.", rich_help_panel=_PRUNING),
]
Normalisation = Annotated[
    str, typer.Option(help="Of the scores in a global ranking.", rich_help_panel=_PRUNING)
]
MinChannels = Annotated[
    int, typer.Option(help="The fewest channels of a layer.", rich_help_panel=_PRUNING)
]
MinFraction = Annotated[
    float,
    typer.Option(help="The same as a fraction of the layer's width.", rich_help_panel=_PRUNING),
]
RoundTo = Annotated[
    int, typer.Option(help="Pruned widths are multiples of this.", rich_help_panel=_PRUNING)
]
Combine = Annotated[
    Literal["mean", "sum", "max"],
    typer.Option(
        help="How the scores of layers that a shortcut adds become one.", rich_help_panel=_PRUNING
    ),
]
Seed = Annotated[
    int, typer.Option(help="Of metrics that draw random numbers.", rich_help_panel=_PRUNING)
]

Variant = Annotated[
    str | None,
    typer.Option(
        help="A name that `prune-sweep networks` lists; or give --source.",
        rich_help_panel=_CHECKPOINT,
    ),
]
Width = Annotated[
    float | None,
    typer.Option(help="Multiplies the widths of the variant.", rich_help_panel=_CHECKPOINT),
]
Option = Annotated[
    list[str] | None,
    typer.Option(
        help="An option of the network, such as shortcut=B. May be repeated.",
        rich_help_panel=_CHECKPOINT,
    ),
]
Groups = Annotated[
    Literal["all", "inner"] | None,
    typer.Option(
        help="inner: keep the channels that a shortcut joins.", rich_help_panel=_CHECKPOINT
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Of the colours when it was trained, from 0 to 1, such as 0.49,0.48,0.45.",
        rich_help_panel=_CHECKPOINT,
    ),
]
Deviation = Annotated[
    str | None, typer.Option(help="Of the colours, likewise.", rich_help_panel=_CHECKPOINT)
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Side of its images in pixels.", min=8, max=1024, rich_help_panel=_CHECKPOINT
    ),
]
