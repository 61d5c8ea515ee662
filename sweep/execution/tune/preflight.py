"""Checks before the first trial that every node of a cluster sees the same results folder.

A path may mean another disk on another node, and the results would be scattered.
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

# A node may have to start a process and to install what it needs first.
ANSWER_SECONDS = 300.0
# A network folder may show what another node wrote with a delay.
_LOOKS, _BETWEEN_LOOKS_SECONDS = 12, 0.5


def check_workspace(workspace: Workspace, answer_seconds: float = ANSWER_SECONDS) -> None:
    """Writes, reads and deletes a file in the results folder from every living node.

    Nodes that join later are not looked at.

    Raises
    ------
    ClusterError
        Naming the nodes that cannot use the folder, or that have another one of that name.
    OSError
        If this process cannot use it.
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
            "name one with --out that all nodes see, such as a network folder or s3://..."
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
    # A node that was lost meanwhile is no reason to give up the others.
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    return [
        f"node {nodes[node_id]['NodeManagerAddress']} ({node_id}): {problem}"
        for node_id, problem in found.items()
        if node_id in alive
    ]


def probe(folder: Folder, theirs: str, word: str) -> str | None:
    """What is wrong with the folder as this process sees it, or None.

    Parameters
    ----------
    theirs : a file that another process wrote into it, with `word` as its content.
    """
    mine = f".probe.{secrets.token_hex(8)}"
    try:
        if not folder.exists():
            return "it has no such folder"
        if not _appears(folder, theirs, word):
            return "it has another folder of that name, which lacks what was just written here"
        folder.write(mine, word.encode())
        try:
            if folder.read(mine).decode() != word:
                return "it reads something else than it wrote"
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
