"""The weights that baselines start from, in FOLDER/artifacts/weights/<fingerprint>.

The machine that starts a sweep copies the file into the results folder, where all workers find it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from prune_core.networks import ArchitectureError
from prune_core.networks.weights import read_weights, weights_fingerprint
from sweep.planning.baselines import Weights
from sweep.planning.cells import Cell
from sweep.stages.workspace import Workspace

FOLDER, TENSORS = "weights", "weights.safetensors"


def store_weights(workspace: Workspace, cells: Iterable[Cell]) -> None:
    """Copies the files of weights that cells start from into the results folder.

    Raises
    ------
    StoreError
        If a file cannot be written.
    """
    for weights in {cell.baseline.weights for cell in cells}:
        if weights is None:
            continue
        if workspace.artifacts.has_files(FOLDER, weights.fingerprint, TENSORS):
            continue
        tensors = read_weights(Path(weights.path))

        def fill(folder: Path, tensors: dict[str, Tensor] = tensors) -> None:
            # Tensors of a checkpoint may share memory, which safetensors refuses.
            apart = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
            save_file(apart, folder / TENSORS)

        workspace.artifacts.put_files(FOLDER, weights.fingerprint, TENSORS, fill)


def weights_of(workspace: Workspace, wanted: Weights) -> dict[str, Tensor]:
    """The tensors that a baseline starts from.

    Raises
    ------
    ArchitectureError
        If they are not in the results folder, or are others than when the sweep was planned.
    """
    with workspace.artifacts.files(FOLDER, wanted.fingerprint, TENSORS) as folder:
        path = Path(wanted.path) if folder is None else folder / TENSORS
        tensors = read_weights(path)
    if (found := weights_fingerprint(tensors)) != wanted.fingerprint:
        raise ArchitectureError(
            f"weights {wanted.path} have changed since the sweep was planned: fingerprint "
            f"{found}, planned {wanted.fingerprint}; run the spec again"
        )
    return tensors
