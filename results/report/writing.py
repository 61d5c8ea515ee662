"""Writes a report as one HTML file, or as Markdown with its figures beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from results.analysis.comparison import REFERENCE
from results.analysis.identities import Difference
from results.analysis.study import UnlikeCells
from results.analysis.sweep_tables import SweepTables, read_tables
from results.figures import save
from results.figures.registry import ReportFigure, in_order
from results.figures.style import looks, said
from results.report.cell_table import packed
from results.report.content import Content, content
from results.report.inline import PAGE_COLOURS, data, script_hash, svg
from results.storage.locations import DiskFolder, folder_of
from results.storage.schema import UNPRUNED

Format = Literal["html", "md"]
FORMATS: tuple[Format, ...] = ("html", "md")


def write(
    folders: Sequence[str | Path], form: Format = "html", to: str | Path | None = None
) -> Path:
    """Writes the report of one or more results folders.

    Parameters
    ----------
    folders : what sweeps wrote; paths, or URIs of object stores.
    form : html, one file with all figures in it that asks nothing of the network; or md, with
        the figures as PNG files in a folder beside it, named after it.
    to : the file; if not given, `report.html` or `report.md` in the folder, and in the current
        one where there are several folders or an object store.

    Returns
    -------
    The file.

    Raises
    ------
    results.StoreError, results.SchemaError
        If a folder cannot be read.
    OSError
        If the report cannot be written.
    """
    names = [str(folder) for folder in folders]
    path = Path(to) if to is not None else _place(names) / f"report.{form}"
    tables = read_tables(names)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _html(tables) if form == "html" else _markdown(tables, path)
    DiskFolder(path.parent).write(path.name, text.encode(errors="surrogateescape"))
    return path


def _place(folders: list[str]) -> Path:
    if len(folders) == 1 and isinstance(found := folder_of(folders[0]), DiskFolder):
        return found.path
    return Path()


def _html(tables: SweepTables) -> str:
    templates = resources.files("results.report") / "templates"
    script = (templates / "report.js").read_text(encoding="utf-8")
    frame = tables.frame
    # The control without pruning is in no figure; figures number the metrics that they draw.
    drawn = frame[(frame["status"] == "ok") & (frame["metric"] != UNPRUNED)]
    report = content(tables)
    figures = _drawn(tables, report.refusal)
    return _render(
        "report.html.j2",
        report,
        figures=[(one, svg(figure, one.name, one.title)) for one, figure in figures],
        metrics=[
            (name, PAGE_COLOURS.get(look.colour, look.colour))
            for name, look in looks(drawn["metric"].dropna()).items()
        ],
        cells=data(packed(frame)),
        style=(templates / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=script_hash(script),
    )


def _markdown(tables: SweepTables, path: Path) -> str:
    folder = path.with_name(f"{path.stem}-figures")
    report = content(tables)
    written = []
    for one, figure in _drawn(tables, report.refusal):
        png, _ = save(figure, folder / one.name)
        written.append((one, f"{folder.name}/{png.name}"))
    return _render("report.md.j2", report, figures=written)


def _drawn(
    tables: SweepTables, refusal: Difference | None
) -> Iterator[tuple[ReportFigure, Figure]]:
    """The figures that the sweep has; one that cannot be drawn says why.

    Figures that are refused for the reason at the top of the report are left out.
    """
    for one in in_order():
        try:
            figure = one.draw(tables)
        except UnlikeCells as error:
            figure = None if error.difference == refusal else said(str(error))
        except ValueError as error:
            figure = said(str(error))
        if figure is not None:
            yield one, figure


def _render(template: str, report: Content, **names: Any) -> str:
    environment = Environment(
        loader=PackageLoader("results.report"),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _in_table, "indented": _code}
    text = environment.get_template(template).render(report=report, reference=REFERENCE, **names)
    return text if environment.autoescape else re.sub(r"\n{3,}", "\n\n", text)


def _in_table(text: str) -> str:
    """Text that ends neither its cell of a Markdown table nor the table."""
    for letter in "\\`*[]<|":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())


def _code(text: str) -> str:
    """Text that Markdown shows as it is, whatever is in it."""
    return "\n".join(f"    {line}" for line in text.splitlines())
