"""The file that marks a results folder and holds its schema version."""

from __future__ import annotations

import json

from results.storage.failure_logs import LOGS
from results.storage.locations import DiskFolder, Folder, StoreError
from results.storage.schema import SCHEMA_VERSION, SchemaError

FORMAT = "format.json"
OWN = ("cells", "scores", "artifacts", "networks", "timeouts", "lease", LOGS)
"""Names of subfolders and files in a results folder."""


def check_folder(folder: Folder) -> int | None:
    """The schema version of a results folder; None for one that has not been written to.

    Raises
    ------
    StoreError
        If the path is a file, or one of the subfolders is a symbolic link.
    SchemaError
        If its version is newer than this prune-sweep supports, or its file is unreadable.
    """
    if isinstance(folder, DiskFolder):
        _check_disk(folder)
    try:
        version = json.loads(folder.read(FORMAT))["schema"]
    except FileNotFoundError:
        return None
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SchemaError(f"{folder / FORMAT} cannot be read: {error}") from error
    if not isinstance(version, int) or version < 1:
        raise SchemaError(
            f"{folder / FORMAT} has the schema version {version!r}, but a version is a whole "
            "number of at least 1; name another results folder"
        )
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"{folder} has schema version {version}, but this prune-sweep reads and writes up to "
            f"{SCHEMA_VERSION}; install a newer prune-sweep, or name another results folder"
        )
    return version


def write_version(folder: Folder) -> None:
    """Marks the folder with the current schema version; older rows in it stay readable."""
    folder.write(FORMAT, json.dumps({"schema": SCHEMA_VERSION}).encode())


def _check_disk(folder: DiskFolder) -> None:
    if folder.path.exists() and not folder.path.is_dir():
        raise StoreError(f"{folder} is a file, not a results folder; name another")
    for name in OWN:
        if (folder.path / name).is_symlink():
            raise StoreError(
                f"{folder.path / name} is a link, but must be a folder; replace the link, or name "
                "another results folder"
            )
