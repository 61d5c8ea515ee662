"""What a job takes to the cluster: the spec, and the code that read it.

Results are only worth keeping if it is known what computed them, so the code that planned a
sweep is also the code that runs it, whatever is installed on the cluster's machines.
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
    folder : where it lies on this machine.
    name : of the sweep.
    spec : what the sweep is told to run there.
    revision : the commit of the code, if it is known.
    size : bytes of all files.
    """

    folder: Path
    name: str
    spec: str
    revision: str | None
    size: int


def bundle(spec: str, folder: Path) -> Bundle:
    """Puts a spec and the four packages into an empty folder.

    Parameters
    ----------
    spec : a file, or the name of a packaged spec.

    Raises
    ------
    SpecError
        If the spec cannot be run anywhere; see `sweep.spec.parsing.read`.
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
    """Writes what an installed copy has beside it, so that rows tell version and commit."""
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
