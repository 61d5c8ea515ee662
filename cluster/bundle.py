"""The files that a job takes to the cluster: the spec, its network, and this installation's code.

The sweep runs with the code that submitted it, not with the code installed on the cluster. So the
version and commit in its results are known.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from results.storage.locations import folder_of
from sweep.errors import SpecError
from sweep.plan.network import own_network
from sweep.spec.networks import NetworkSpec
from sweep.spec.packaged import packaged
from sweep.spec.parsing import STANDARD_INPUT, read
from sweep.spec.writing import resolved
from sweep.stages.rows import git_revision
from sweep.stages.sources import write_files

PACKAGES = ("prune_core", "results", "sweep", "cluster")
DISTRIBUTION = "prune-sweep"
NETWORK = "network"
"""The folder of a person's own network and weights, in the folder of the job."""


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


def bundle(spec: str, folder: Path, overrides: Sequence[str] = ()) -> Bundle:
    """Copies a spec, the files that it names and the four packages into an empty folder.

    A spec that names a network file or weights, or that has overrides or comes from standard input,
    is written with all its fields, and with the names that these files have in the folder.

    Parameters
    ----------
    spec : a file, `-` for standard input, or the name of a packaged spec.
    overrides : fields in place of the spec's, such as `recipe.epochs=3`.

    Raises
    ------
    SpecError
        If the spec is invalid, see `sweep.spec.parsing.read`, or a file of its network cannot be
        read.
    """
    wanted = read(spec, overrides)
    there = f"{wanted.name}.yaml"
    network = _take(wanted.network, folder)
    if network != wanted.network or overrides or spec == STANDARD_INPUT:
        text = resolved(wanted.model_copy(update={"network": network}))
        (folder / there).write_text(text, encoding="utf-8")
    elif spec in packaged():
        there = spec
    else:
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


def _take(network: NetworkSpec, folder: Path) -> NetworkSpec:
    """Copies the files that a network needs; returns the network with their new names."""
    names: dict[str, str] = {}
    try:
        own = own_network(network)
    except ValueError as error:
        raise SpecError(f"network.source is {network.source!r}; {error}") from error
    if own is not None:
        write_files(folder_of(folder / NETWORK), own.source)
        names["source"] = f"{NETWORK}/{own.source.name}"
    if network.weights is not None:
        weights = Path(network.weights).expanduser()
        (folder / NETWORK).mkdir(exist_ok=True)
        try:
            shutil.copyfile(weights, folder / NETWORK / weights.name)
        except OSError as error:
            raise SpecError(
                f"network.weights is {network.weights!r}; it cannot be read: {error.strerror}"
            ) from error
        names["weights"] = f"{NETWORK}/{weights.name}"
    return network.model_copy(update=names)


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
