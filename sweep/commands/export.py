"""`prune-sweep export`: one cell's network for other programs, with a model card."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow.compute as pc
from rich.console import Console

from prune_core.classifier import Classifier, load
from prune_core.network_files import DESCRIPTION, TENSORS, NetworkFileError
from prune_core.networks import ArchitectureError
from prune_core.programs import ExportError, export_onnx, export_program
from results import Store
from results.storage.locations import Where
from sweep.commands.model_card import CARD, ONNX, PROGRAM, Content, card, of_cell
from sweep.errors import UserError
from sweep.stages.kept_networks import RECORD, KeptNetworks, figures_of
from sweep.stages.rows import Row

_LISTED = 5


def export(
    where: Where, prefix: str, to: Path, console: Console, source: str | None = None
) -> None:
    """Writes a cell's network with its input scaling in several formats, and a model card.

    Parameters
    ----------
    where : the results folder.
    prefix : the cell's key or its first digits.
    to : a new or empty folder. The files are moved into it after all of them were checked.
    source : file and function of a person's own network; this code is run.

    Raises
    ------
    UserError
        If there is no such cell, if its network was not kept or is damaged, or if `to` is not
        empty.
    """
    store = Store(where)
    row = _row_of(store, prefix)
    check_empty(to)
    with KeptNetworks(where).open(row["key"]) as folder:
        if folder is None:
            raise UserError(_not_kept(store, row))
        _check_record(folder, row)
        with staging(to) as staged:
            for name in (DESCRIPTION, TENSORS):
                shutil.copyfile(folder / name, staged / name)
            notes = write_programs(_loaded(staged, folder, row, source), staged, of_cell(row))
    print_written(console, to, notes)


def check_empty(to: Path) -> None:
    """Refuses a folder that holds something, and a file."""
    if to.is_dir() and not any(to.iterdir()):
        return
    if to.exists():
        raise UserError(f"{to} exists and is not an empty folder; choose another folder with --to")


@contextmanager
def staging(to: Path) -> Iterator[Path]:
    """A folder for files that are moved into an empty or new folder once all are written.

    After an error or an interruption nothing is left of them.
    """
    made = [place for place in (to, *to.parents) if not place.exists()]
    to.mkdir(parents=True, exist_ok=True)
    moved = []
    try:
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=to) as folder:
            yield Path(folder)
            for path in sorted(Path(folder).iterdir()):
                moved.append(to / path.name)
                path.replace(moved[-1])
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            for place in made:
                place.rmdir()
        raise


def write_programs(net: Classifier, to: Path, content: Content) -> list[str]:
    """Writes programs of a network and the card into a folder; returns notes for the user.

    Raises
    ------
    UserError
        If a program gives other logits than the network.
    """
    makers: dict[str, Callable[[Classifier, Path], float]] = {
        PROGRAM: export_program,
        ONNX: export_onnx,
    }
    differences: dict[str, float] = {}
    notes = []
    for name, make in makers.items():
        try:
            differences[name] = make(net, to / name)
            notes.append(
                f"{name} gives the network's logits to within {differences[name]:.1g} of the "
                "largest"
            )
        except ExportError as error:
            raise UserError(str(error)) from error
        except ImportError as error:
            notes.append(f"{name} was not written: {error}; run pip install 'prune-sweep[onnx]'")
    (to / CARD).write_text(card(content, net, differences), encoding="utf-8")
    return notes


def print_written(console: Console, to: Path, notes: list[str]) -> None:
    """Prints the files of a folder that was written, and the notes on them."""
    console.print(f"{to}: {', '.join(sorted(path.name for path in to.iterdir()))}")
    for note in notes:
        console.print(note)


def _loaded(staged: Path, folder: Path, row: Row, source: str | None) -> Classifier:
    """The network of a cell; `folder`, where it is kept, is for errors."""
    try:
        return load(staged, source)
    except ArchitectureError as error:
        raise UserError(str(error)) from error
    except NetworkFileError as error:
        why = "cannot be built" if isinstance(error.__cause__, ArchitectureError) else "is damaged"
        raise UserError(
            f"the network of cell {row['key']} in {folder} {why}: {error.__cause__}"
        ) from error


def _row_of(store: Store, prefix: str) -> Row:
    """The row of the only cell whose key begins with `prefix`, if its status is ok."""
    if not re.fullmatch(r"[0-9a-f]{1,16}", prefix):
        raise UserError(
            f"cell {prefix!r} is not a key or its beginning: give 1 to 16 of the digits 0-9, a-f"
        )
    rows = store.read()
    found = rows.filter(pc.starts_with(rows["key"], prefix)).to_pylist()
    if not found:
        raise UserError(
            f"{store.folder} has no cell whose key begins with {prefix}; "
            "results.load(FOLDER)['key'] lists all keys"
        )
    if len(found) > 1:
        keys = ", ".join(row["key"] for row in found[:_LISTED])
        more = ", ..." if len(found) > _LISTED else ""
        raise UserError(f"{len(found)} keys begin with {prefix}: {keys}{more}; give more digits")
    (row,) = found
    if row["status"] != "ok":
        raise UserError(f"cell {row['key']} is {row['status']}: {row['error']}")
    return row


def _not_kept(store: Store, row: Row) -> str:
    """The message for a network that was not kept: why, and how to get it."""
    kept = sorted(KeptNetworks(store.folder).keys())
    others = f"; {len(kept)} networks are kept, such as that of cell {kept[0]}" if kept else ""
    return (
        f"the network of cell {row['key']} (seed {row['seed']}) was not kept{others}. The field "
        "`keep` of the spec decides which are kept; the default is that of the best seed only. To "
        f"get this one, set `keep: all` in the spec and run --cell {row['key']} --retry ok into "
        "the same folder"
    )


def _check_record(folder: Path, row: Row) -> None:
    """Refuses a network whose figures differ from the row: they come from different runs."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"the network of cell {row['key']} in {folder} is damaged: {error}"
        ) from error
    if record != {"key": row["key"], **figures_of(row)}:
        raise UserError(
            f"the network of cell {row['key']} in {folder} is from another run than its row and "
            f"has other accuracies; run it again with --cell {row['key']} --retry ok"
        )
