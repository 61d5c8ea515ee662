"""The files that a job takes to the cluster: the spec, its network, and this installation's code.

The sweep runs with the code that submitted it, not with the code installed on the cluster. So the
version and commit in its results are known.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from cluster import DISTRIBUTION
from results.storage.locations import folder_of
from sweep.errors import SpecError
from sweep.planning.network import own_network
from sweep.spec.networks import NetworkSpec
from sweep.spec.packaged import packaged
from sweep.spec.parsing import STANDARD_INPUT, read
from sweep.spec.plugin_files import load
from sweep.spec.writing import resolved
from sweep.stages.rows import git_revision
from sweep.stages.sources import with_plugins_in, with_widths_in, write_files

PACKAGES = ("prune_core", "results", "sweep", "cluster")
NETWORK, PLUGINS, WIDTHS = "network", "plugins", "widths"
"""In the folder of the job, the folders of a person's own network and weights, of plug-ins, and of
the files that `widths(file=...)` names by paths that the job's folder cannot have.
"""


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
    renamed : the labels of budgets in that spec, by those in the person's spec, where they differ.
    """

    folder: Path
    name: str
    spec: str
    revision: str | None
    size: int
    renamed: Mapping[str, str]


def bundle(
    spec: str, folder: Path, overrides: Sequence[str] = (), plugins: Sequence[Path] = ()
) -> Bundle:
    """Copies a spec, the files that it names and the four packages into an empty folder.

    A spec that names a network file, weights or plug-ins, or files of widths elsewhere than below
    the current folder, or that has overrides or comes from standard input, is written with all its
    fields, and with the names that these files have in the folder.

    Parameters
    ----------
    spec : a file, `-` for standard input, or the name of a packaged spec.
    overrides : fields in place of the spec's, such as `recipe.epochs=3`.
    plugins : files of plug-ins, in addition to those of the spec.

    Raises
    ------
    SpecError, UserError
        If the spec is invalid, see `sweep.spec.parsing.read`, or a file that it names cannot be
        read.
    """
    wanted = read(spec, overrides, load(plugins))
    wanted = with_plugins_in(folder_of(folder), PLUGINS, wanted)
    there = f"{wanted.name}.yaml"
    taken = {there, NETWORK, PLUGINS, WIDTHS, *PACKAGES}
    sent = with_widths_in(folder_of(folder), WIDTHS, taken, wanted)
    budgets = zip(wanted.local_budgets, sent.local_budgets, strict=True)
    renamed = {old.label: new.label for old, new in budgets if old != new}
    sent = sent.model_copy(update={"network": _take(wanted.network, folder)})
    if sent != wanted or wanted.plugins or overrides or spec == STANDARD_INPUT:
        text = resolved(sent)
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
    return Bundle(folder, wanted.name, there, revision, size, renamed)


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
    """Writes package metadata: version and commit, which rows record, and the packages needed.

    `cluster.entrypoint` checks these packages. Those of extras are left out.
    """
    try:
        here = metadata(DISTRIBUTION)
    except PackageNotFoundError:
        return
    beside = folder / f"{DISTRIBUTION.replace('-', '_')}-{here['Version']}.dist-info"
    beside.mkdir()
    lines = [
        f"{name}: {value}\n"
        for name in ("Metadata-Version", "Name", "Version", "Requires-Python", "Requires-Dist")
        for value in here.get_all(name) or ()
        if "extra ==" not in value
    ]
    (beside / "METADATA").write_text("".join(lines))
    if revision is not None:
        origin = {"url": "file:///", "vcs_info": {"vcs": "git", "commit_id": revision}}
        (beside / "direct_url.json").write_text(json.dumps(origin))
