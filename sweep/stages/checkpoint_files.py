"""Where the checkpoints of trainings lie, and how far they have come; read without torch."""

from __future__ import annotations

from results.storage.folder import Folder
from results.storage.tensor_files import read_metadata

CHECKPOINTS = "checkpoints"
EPOCHS = "epochs"


def checkpoints_in(folder: Folder) -> Folder:
    """Their folder within a results folder."""
    return folder / "artifacts" / CHECKPOINTS


def epochs_done(folder: Folder, key: str) -> int | None:
    """The epochs that a training had done at its last checkpoint; None if that is not known.

    Parameters
    ----------
    folder : the results folder.
    key : of the baseline that is trained.
    """
    try:
        return int(read_metadata(checkpoints_in(folder), key)[EPOCHS])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
