"""`prune-sweep export`: one cell's network for use elsewhere, with all that is known of it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
from rich.console import Console

from prune_core.classifier import Classifier, load
from prune_core.network_files import DESCRIPTION, TENSORS, NetworkFileError
from prune_core.programs import ExportError, export_onnx, export_program
from results import Store
from results.storage.locations import Where
from sweep.commands.model_card import CARD, ONNX, PROGRAM, card
from sweep.errors import UserError
from sweep.stages.kept_networks import RECORD, KeptNetworks, figures_of
from sweep.stages.rows import Row

_LISTED = 5


def export(where: Where, prefix: str, to: Path, console: Console) -> None:
    """Writes a cell's network with its scaling, as programs for others, and a card.

    Parameters
    ----------
    where : the results folder.
    prefix : the cell's key, or its beginning.
    to : a folder that is empty or not there yet; when all is checked, all files appear in it.

    Raises
    ------
    UserError
        If there is no such cell, its network was not kept or is damaged, or `to` has files.
    """
    store = Store(where)
    row = _row_of(store, prefix)
    _check_empty(to)
    with KeptNetworks(where).open(row["key"]) as folder:
        if folder is None:
            raise UserError(_not_kept(store, row))
        _check_record(folder, row)
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=to) as staging:
            notes = _write(folder, Path(staging), row)
            written = sorted(Path(staging).iterdir())
            for path in written:
                path.replace(to / path.name)
    console.print(f"{to}: {', '.join(path.name for path in written)}")
    for note in notes:
        console.print(note)


def _write(folder: Path, to: Path, row: Row) -> list[str]:
    """Fills an empty folder; returns what a person should know of it."""
    for name in (DESCRIPTION, TENSORS):
        shutil.copyfile(folder / name, to / name)
    try:
        net = load(to)
    except NetworkFileError as error:
        raise UserError(
            f"the network of cell {row['key']} in {folder} is damaged: {error.__cause__}"
        ) from error
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
            notes.append(
                f"{name} was left out: {error}; install it with pip install 'prune-sweep[onnx]'"
            )
    (to / CARD).write_text(card(row, net, differences), encoding="utf-8")
    return notes


def _row_of(store: Store, prefix: str) -> Row:
    """The row of the one cell whose key begins like this, if it is ok."""
    if not re.fullmatch(r"[0-9a-f]{1,16}", prefix):
        raise UserError(
            f"cell {prefix!r} is no key nor the beginning of one: 1 to 16 of the digits 0-9, a-f"
        )
    rows = store.read()
    found = rows.filter(pc.starts_with(rows["key"], prefix)).to_pylist()
    if not found:
        raise UserError(
            f"{store.folder} has no cell whose key begins with {prefix}; "
            "results.load(FOLDER)['key'] lists them"
        )
    if len(found) > 1:
        keys = ", ".join(row["key"] for row in found[:_LISTED])
        more = ", ..." if len(found) > _LISTED else ""
        raise UserError(f"{len(found)} cells begin with {prefix}: {keys}{more}; name more of it")
    (row,) = found
    if row["status"] != "ok":
        raise UserError(f"cell {row['key']} is {row['status']}: {row['error']}")
    return row


def _check_empty(to: Path) -> None:
    if to.is_dir() and not any(to.iterdir()):
        return
    if to.exists():
        raise UserError(f"{to} is there and not an empty folder; name another with --to")


def _not_kept(store: Store, row: Row) -> str:
    """Why a network is not there, and how to get it: networks cannot be made from rows."""
    kept = sorted(KeptNetworks(store.folder).keys())
    others = f"; networks are kept of {len(kept)} cells, such as {kept[0]}" if kept else ""
    return (
        f"the network of cell {row['key']} (seed {row['seed']}) was not kept{others}. The spec's "
        "`keep` says which are: by default of all seeds the best one. To have it, set `keep: all` "
        "in a spec that names little more than this cell, and run it into the same folder with "
        "--retry ok"
    )


def _check_record(folder: Path, row: Row) -> None:
    """A network and a row of two runs of one cell do not belong together."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"the network of cell {row['key']} in {folder} is damaged: {error}"
        ) from error
    if record != {"key": row["key"], **figures_of(row)}:
        raise UserError(
            f"the network of cell {row['key']} in {folder} is of another run than its row, with "
            "other accuracies; run the cell again with --retry ok"
        )
