"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.spec.packaged import packaged

SpecArgument = Annotated[
    str,
    typer.Argument(
        help=f"A YAML file, - for standard input, or a packaged spec: {', '.join(packaged())}."
    ),
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FIELD=VALUE]...",
        help="Fields in place of the spec's, such as recipe.epochs=3 or 'ratios=[0.3, 0.5]'.",
        show_default=False,
    ),
]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="A Python file with metrics, budgets, normalisations, image sources or networks of "
        "yours; it is run. May be repeated.",
        show_default=False,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the images: relative folders in the spec start here."),
]
OutOption = Annotated[
    str | None,
    typer.Option(help="Results folder, a path or URI. Default: runs/NAME.", show_default=False),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="AXIS=VALUE",
        help="Only the cells with this value, such as ratio=0.3 or 'metric=\\[random, taylor]'; "
        "the others stay planned. May be repeated for several axes.",
        show_default=False,
    ),
]
# A string, because pathlib would replace the two slashes of a URI by one.
FolderArgument = Annotated[
    str, typer.Argument(help="Results folder, such as runs/digits or s3://bucket/runs/digits.")
]
