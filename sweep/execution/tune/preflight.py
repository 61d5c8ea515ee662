"""Checks before the first trial that all nodes of a cluster use the same results folder.

The same path may be on a local disk of each node, and then the results would be scattered.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress

import sweep.execution.tune.ray_cluster  # noqa: F401  sets what Ray reads when it is imported

# isort: split
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from results.storage.locations import Folder, folder_of
from sweep.errors import ClusterError
from sweep.stages.workspace import Workspace

# A node may first have to start a process and install packages.
ANSWER_SECONDS = 300.0
# On a network folder, a file of another node may appear with a delay.
_LOOKS, _BETWEEN_LOOKS_SECONDS = 12, 0.5


def check_workspace(workspace: Workspace, answer_seconds: float = ANSWER_SECONDS) -> None:
    """Writes, reads and deletes a file in the results folder from every living node.

    Nodes that join later are not checked.

    Raises
    ------
    ClusterError
        Naming the nodes that cannot use the folder, or that see a different folder.
    OSError
        If this process cannot use the folder.
    """
    folder, word = folder_of(workspace.folder), secrets.token_hex(8)
    here = f".probe.{word}"
    folder.write(here, word.encode())
    try:
        problems = _ask_nodes(folder, here, word, answer_seconds)
    finally:
        folder.delete(here)
    if problems:
        raise ClusterError(
            f"the results folder {folder} cannot be used by every node: {'; '.join(problems)}; "
            "set --out to a folder that all nodes share, such as a network folder or s3://..."
        )


def _ask_nodes(folder: Folder, here: str, word: str, seconds: float) -> list[str]:
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    answers = {}
    for node_id in nodes:
        there = NodeAffinitySchedulingStrategy(node_id, soft=False)
        task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(probe)
        answers[task.remote(folder, here, word)] = node_id
    ready, late = ray.wait(list(answers), num_returns=len(answers), timeout=seconds)
    found = {answers[task]: f"it did not answer within {seconds:g} s" for task in late}
    for task in ready:
        try:
            problem = ray.get(task)
        except RayError as error:
            problem = " ".join(str(error).split())[-300:]
        if problem is not None:
            found[answers[task]] = problem
    # Ignore nodes that were lost in the meantime; the others can still run the sweep.
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    return [
        f"node {nodes[node_id]['NodeManagerAddress']} ({node_id}): {problem}"
        for node_id, problem in found.items()
        if node_id in alive
    ]


def probe(folder: Folder, theirs: str, word: str) -> str | None:
    """Checks the folder from this process; returns the problem, or None.

    Parameters
    ----------
    theirs : a file that another process wrote into the folder; its content is `word`.
    """
    mine = f".probe.{secrets.token_hex(8)}"
    try:
        if not folder.exists():
            return "the folder does not exist there"
        if not _appears(folder, theirs, word):
            return "it sees a different folder, without the file that was just written here"
        folder.write(mine, word.encode())
        try:
            if folder.read(mine).decode() != word:
                return "the file that it read differs from the file that it wrote"
        finally:
            folder.delete(mine)
    except OSError as error:
        return str(error)
    return None


def _appears(folder: Folder, name: str, word: str) -> bool:
    for look in range(_LOOKS):
        with suppress(FileNotFoundError):
            return folder.read(name).decode() == word
        if look < _LOOKS - 1:
            time.sleep(_BETWEEN_LOOKS_SECONDS)
    return False
