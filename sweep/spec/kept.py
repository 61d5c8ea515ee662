"""The spec of each run, kept in its results folder."""

from __future__ import annotations

from results.storage.folder import Folder
from sweep.spec.fields import Spec
from sweep.spec.writing import resolved

SPEC = "spec.yaml"


def keep_spec(folder: Folder, spec: Spec, made_by: str) -> None:
    """Stores the spec with all its fields as `spec.yaml`; an earlier other one gets a number.

    The first spec of a folder that was replaced is `spec-1.yaml`, the next `spec-2.yaml`, and so
    on, so no spec is lost by which some rows were made.

    Parameters
    ----------
    made_by : the version of prune-sweep, with its --data, for the first line.
    """
    content = f"# {made_by}\n{resolved(spec)}".encode(errors="surrogateescape")
    try:
        before = folder.read(SPEC)
    except FileNotFoundError:
        before = content
    if before != content:
        number = 1
        while folder.has(f"spec-{number}.yaml"):
            number += 1
        folder.write(f"spec-{number}.yaml", before)
    folder.write(SPEC, content)
