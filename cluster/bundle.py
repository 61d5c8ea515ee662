"""The files that a job takes to the cluster: the spec and the code of this installation.

The sweep runs with the code that submitted it, not with the code installed on the cluster. So the
version and commit in its results are known.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sweep.spec.packaged import packaged
from sweep.spec.parsing import read
from sweep.stages.rows import git_revision

PACKAGES = ("prune_core", "results", "sweep", "cluster")
DISTRIBUTION = "prune-sweep"


@dataclass(frozen=True)
class Bundle:
    """A folder that becomes the working directory of a job.

    Attributes
    ----------
    folder : its path on this machine.
    name : the name of the sweep.
    spec : the spec to run on the cluster: a file in the folder, or the name of a packaged spec.
    revision : the commit of the code, or None if unknown.
    size : total size of the files in bytes.
    """

    folder: Path
    name: str
    spec: str
    revision: str | None
    size: int


def bundle(spec: str, folder: Path) -> Bundle:
    """Copies a spec and the four packages into an empty folder.

    Parameters
    ----------
    spec : a file, or the name of a packaged spec.

    Raises
    ------
    SpecError
        If the spec is invalid; see `sweep.spec.parsing.read`.
    """
    wanted = read(spec)
    there = spec
    if spec not in packaged():
        there = f"{wanted.name}.yaml"
        shutil.copyfile(spec, folder / there)
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        assert found is not None
        assert found.origin is not None
        shutil.copytree(
            Path(found.origin).parent,
            folder / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    revision = git_revision()
    _describe(folder, revision)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Bundle(folder, wanted.name, there, revision, size)


def _describe(folder: Path, revision: str | None) -> None:
    """Writes package metadata, so that rows record version and commit."""
    try:
        number = version(DISTRIBUTION)
    except PackageNotFoundError:
        return
    beside = folder / f"{DISTRIBUTION.replace('-', '_')}-{number}.dist-info"
    beside.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {number}\n"
    (beside / "METADATA").write_text(metadata)
    if revision is not None:
        origin = {"url": "file:///", "vcs_info": {"vcs": "git", "commit_id": revision}}
        (beside / "direct_url.json").write_text(json.dumps(origin))
