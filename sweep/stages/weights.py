"""The weights that baselines start from, in FOLDER/artifacts/weights/<fingerprint>.

The machine that starts a sweep copies the file into the results folder, where all workers find it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from prune_core.networks import ArchitectureError
from prune_core.networks.weights import read_weights, weights_fingerprint
from sweep.errors import SpecError
from sweep.planning.baselines import Weights
from sweep.planning.cells import Cell
from sweep.stages.artifacts import DamagedArtifactWarning
from sweep.stages.workspace import Workspace

FOLDER, TENSORS = "weights", "weights.safetensors"


def store_weights(workspace: Workspace, cells: Iterable[Cell]) -> None:
    """Copies the files of weights that cells start from into the results folder.

    A damaged copy is replaced, with a warning.

    Raises
    ------
    SpecError
        If a file cannot be read any more, or has changed since the sweep was planned.
    StoreError
        If a file cannot be written.
    """
    for weights in {cell.baseline.weights for cell in cells}:
        if weights is None or _stored(workspace, weights) is not None:
            continue
        try:
            tensors = _own(weights)
        except ArchitectureError as error:
            raise SpecError(str(error)) from error

        def fill(folder: Path, tensors: dict[str, Tensor] = tensors) -> None:
            # Tensors of a checkpoint may share memory, which safetensors refuses.
            apart = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
            save_file(apart, folder / TENSORS)

        workspace.artifacts.remove_files(FOLDER, weights.fingerprint, TENSORS)
        workspace.artifacts.put_files(FOLDER, weights.fingerprint, TENSORS, fill)


def weights_of(workspace: Workspace, wanted: Weights) -> dict[str, Tensor]:
    """The tensors that a baseline starts from: the stored copy, or else those of the file.

    Raises
    ------
    ArchitectureError
        If the results folder has no intact copy, and the file is absent, damaged or has changed
        since the sweep was planned.
    """
    if (found := _stored(workspace, wanted)) is not None:
        return found
    try:
        return _own(wanted)
    except ArchitectureError as error:
        raise ArchitectureError(
            f"{error}; {workspace.artifacts.folder / FOLDER} has no intact copy"
        ) from error


def _stored(workspace: Workspace, wanted: Weights) -> dict[str, Tensor] | None:
    """The stored tensors; None if they are absent or, with a warning, if they are damaged."""
    with workspace.artifacts.files(FOLDER, wanted.fingerprint, TENSORS) as folder:
        if folder is None:
            return None
        try:
            tensors = load((folder / TENSORS).read_bytes())
            if weights_fingerprint(tensors) == wanted.fingerprint:
                return tensors
            reason = "its tensors have changed"
        except (FileNotFoundError, ValueError, SafetensorError) as error:
            reason = str(error)
    where = workspace.artifacts.folder / FOLDER / wanted.fingerprint / TENSORS
    warnings.warn(
        f"{where} is damaged, and {wanted.path} is read again ({reason})",
        DamagedArtifactWarning,
        stacklevel=3,
    )
    return None


def _own(wanted: Weights) -> dict[str, Tensor]:
    """The tensors of the person's own file.

    Raises
    ------
    ArchitectureError
        If they cannot be read, or are others than when the sweep was planned.
    """
    tensors = read_weights(Path(wanted.path))
    if (found := weights_fingerprint(tensors)) != wanted.fingerprint:
        raise ArchitectureError(
            f"weights {wanted.path} have changed since the sweep was planned: fingerprint "
            f"{found}, planned {wanted.fingerprint}; run the spec again"
        )
    return tensors
