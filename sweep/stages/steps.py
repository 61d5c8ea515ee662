"""What an interrupted cell goes on at: the steps that ended, and checkpoints within a step."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from prune_core.network_files import DESCRIPTION, TENSORS, NetworkFileError, load, save
from prune_core.networks import ModuleArchitecture, attach
from prune_core.precision import best_device
from prune_core.preprocessing import Preprocessing
from sweep.planning.cells import Cell
from sweep.stages.checkpoints import StoredCheckpoints
from sweep.stages.rows import Row
from sweep.stages.workspace import Workspace

STEPS = "steps"
RECORD = "step.json"


@dataclass(frozen=True)
class Step:
    """Where a step ended.

    Attributes
    ----------
    number : of the step, from 1.
    net : the network after its fine-tuning.
    kept : for each channel group, the baseline's channels that are left, int64 ascending.
    row : the columns of the cell's row that are known.
    """

    number: int
    net: nn.Module
    kept: list[Tensor]
    row: Row


def stored(workspace: Workspace, of: Cell, baseline_checksum: str) -> Step | None:
    """The last step of a cell that an earlier run stored, or None.

    None also if it began from other weights of the baseline, or if it is damaged.
    """
    for number in range(of.schedule.steps - 1, 0, -1):
        with workspace.artifacts.files(STEPS, _name(of, number), RECORD) as folder:
            found = None if folder is None else _read(folder, of, number)
        if found is not None and found.row.get("baseline_checksum") == baseline_checksum:
            return found
    return None


def store(workspace: Workspace, of: Cell, step: Step, scaling: Preprocessing) -> Step:
    """Stores a step; returns the stored one, so that an interruption changes no number.

    Raises
    ------
    StoreError
        If the files cannot be written.
    """

    def fill(folder: Path) -> None:
        save(step.net.cpu(), scaling, folder)
        kept = [channels.tolist() for channels in step.kept]
        record = json.dumps({"kept": kept, "row": step.row})
        found = {"checksum": _checksum(folder, record), "record": record}
        (folder / RECORD).write_text(json.dumps(found))

    name, artifacts = _name(of, step.number), workspace.artifacts
    artifacts.remove_files(STEPS, name, RECORD)
    artifacts.put_files(STEPS, name, RECORD, fill)
    with artifacts.files(STEPS, name, RECORD) as folder:
        found = None if folder is None else _read(folder, of, step.number)
    assert found is not None
    return found


def checkpoints(workspace: Workspace, of: Cell, number: int) -> StoredCheckpoints | None:
    """The checkpoints of the fine-tuning in a step; None if it has no epoch to go on after."""
    if of.finetune.epochs < 2:
        return None
    return StoredCheckpoints(workspace, _name(of, number))


def forget(workspace: Workspace, of: Cell) -> None:
    """Removes the steps and checkpoints of a cell whose row is stored."""
    for number in range(1, of.schedule.steps + 1):
        if number < of.schedule.steps:
            workspace.artifacts.remove_files(STEPS, _name(of, number), RECORD)
        if (kept := checkpoints(workspace, of, number)) is not None:
            kept.forget()


def _name(of: Cell, number: int) -> str:
    return f"{of.key}-{number}"


def _read(folder: Path, of: Cell, number: int) -> Step | None:
    architecture = of.baseline.architecture
    own = architecture.builder if isinstance(architecture, ModuleArchitecture) else None
    try:
        found = json.loads((folder / RECORD).read_text())
        if found["checksum"] != _checksum(folder, found["record"]):
            return None
        net, record = load(folder, own).net, json.loads(found["record"])
    except (NetworkFileError, OSError, ValueError, KeyError, TypeError):
        return None
    kept = [torch.tensor(channels, dtype=torch.int64) for channels in record["kept"]]
    # Cells that prune other channel groups load the same file.
    attach(net, architecture.with_widths([len(channels) for channels in kept]))
    return Step(number, net.to(best_device()), kept, record["row"])


def _checksum(folder: Path, record: str) -> str:
    """Of the record and of the network beside it."""
    digest = hashlib.sha256(record.encode())
    for name in (DESCRIPTION, TENSORS):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
