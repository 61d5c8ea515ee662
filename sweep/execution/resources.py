"""CPUs and GPUs: the share of a task of each stage, and how many tasks nodes can run at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch

from prune_core.cpus import usable_cpus
from sweep.execution.tasks import KINDS
from sweep.spec.resources import ResourcesSpec

# Ray counts resources in ten-thousandths.
UNIT = 1e-4


@dataclass(frozen=True)
class Resources:
    """CPUs and GPUs of a trial or of a node."""

    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Threads of a trial: its number of whole CPUs, at least one."""
        return max(1, int(self.cpus + UNIT))

    @property
    def bundle(self) -> dict[str, float]:
        """The resources as a bundle of a Ray placement group."""
        return {"CPU": self.cpus, "GPU": self.gpus} if self.gpus else {"CPU": self.cpus}

    def __str__(self) -> str:
        words = [f"{self.cpus:g} CPU{'' if self.cpus == 1 else 's'}"]
        words.append(f"{self.gpus:g} GPU{'' if self.gpus == 1 else 's'}")
        return " and ".join(words)

    def times_on(self, node: Resources) -> int:
        """How many trials with these resources a node can run at once.

        A fraction of a GPU is a fraction of one GPU: halves of two GPUs cannot be combined.
        """
        times = _whole(node.cpus / self.cpus)
        if 0 < self.gpus < 1:
            return min(times, int(node.gpus) * _whole(1 / self.gpus))
        return min(times, _whole(node.gpus / self.gpus)) if self.gpus else times


StageResources = Mapping[str, Resources]


def resources_of(spec: ResourcesSpec, nodes: Collection[Resources]) -> StageResources:
    """The resources of a trial of each stage.

    Parameters
    ----------
    nodes : the nodes of the cluster. If the spec does not set `gpus`, a trial gets one GPU where
        any node has a GPU, and none otherwise.
    """
    gpus_if_any = 1.0 if any(node.gpus >= 1 for node in nodes) else 0.0
    found = {}
    for kind in KINDS:
        cpus, gpus = spec.of(kind)
        found[kind] = Resources(cpus, gpus_if_any if gpus is None else gpus)
    return found


def slots(wanted: StageResources, nodes: Iterable[Resources]) -> dict[str, int]:
    """For each stage, how many trials the nodes can run at once if nothing else runs."""
    nodes = list(nodes)
    return {kind: sum(one.times_on(node) for node in nodes) for kind, one in wanted.items()}


def unplaceable(
    wanted: StageResources, kinds: Iterable[str], nodes: Collection[Resources]
) -> str | None:
    """Why a stage of `kinds` fits on no node, or None if each stage fits on some node.

    The text names the stage, the resources that it needs and the largest node.
    """
    at_once = slots(wanted, nodes)
    for kind in KINDS:
        if kind in kinds and at_once[kind] == 0:
            asked = wanted[kind]
            return f"stage {kind} asks for {asked}, which no node has: {_largest(asked, nodes)}"
    return None


def this_machine() -> Resources:
    """The CPUs and GPUs of this machine that this process may use."""
    return Resources(float(usable_cpus()), float(torch.cuda.device_count()))


def use_allowed_cpus() -> None:
    """Gives torch no more threads than CPUs that this process may use.

    By itself, torch counts the CPUs of the machine and ignores the quota of a container.
    """
    torch.set_num_threads(min(torch.get_num_threads(), usable_cpus()))


def _largest(asked: Resources, nodes: Collection[Resources]) -> str:
    if not nodes:
        return "there are no nodes"
    most = max(nodes, key=lambda node: (node.gpus if asked.gpus else 0, node.cpus))
    return f"the largest of {len(nodes)} has {most}" if len(nodes) > 1 else f"it has {most}"


def _whole(ratio: float) -> int:
    # In floating point, 0.3 / 0.1 is slightly less than 3.
    return math.floor(ratio + UNIT)
