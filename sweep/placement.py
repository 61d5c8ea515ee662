"""What a trial of each stage gets of a node, and how many trials nodes have room for."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch

from sweep.spec import ResourcesSpec
from sweep.tasks import KINDS

# Ray counts resources in ten-thousandths.
UNIT = 1e-4


@dataclass(frozen=True)
class Share:
    """Processors and GPUs, of a trial or of a node."""

    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Threads of a trial: as many as it has whole processors, at least one."""
        return max(1, int(self.cpus + UNIT))

    @property
    def bundle(self) -> dict[str, float]:
        """The same in Ray's words."""
        return {"CPU": self.cpus, "GPU": self.gpus} if self.gpus else {"CPU": self.cpus}

    def __str__(self) -> str:
        words = [f"{self.cpus:g} CPU{'' if self.cpus == 1 else 's'}"]
        words.append(f"{self.gpus:g} GPU{'' if self.gpus == 1 else 's'}")
        return " and ".join(words)

    def times_on(self, node: Share) -> int:
        """How many trials of this share a node can run at once.

        A fraction of a GPU is of one GPU: two halves of different GPUs serve nobody.
        """
        times = _whole(node.cpus / self.cpus)
        if 0 < self.gpus < 1:
            return min(times, int(node.gpus) * _whole(1 / self.gpus))
        return min(times, _whole(node.gpus / self.gpus)) if self.gpus else times


Shares = Mapping[str, Share]


def shares(resources: ResourcesSpec, nodes: Collection[Share]) -> Shares:
    """What a trial of each stage gets: as the spec says, and one GPU if it does not say.

    Parameters
    ----------
    nodes : of the cluster, since GPUs that the spec leaves open are given where there are any.
    """
    gpus_if_any = 1.0 if any(node.gpus >= 1 for node in nodes) else 0.0
    found = {}
    for kind in KINDS:
        cpus, gpus = resources.of(kind)
        found[kind] = Share(cpus, gpus_if_any if gpus is None else gpus)
    return found


def slots(wanted: Shares, nodes: Iterable[Share]) -> dict[str, int]:
    """For each stage, how many of its trials the nodes can run at once if nothing else runs."""
    nodes = list(nodes)
    return {kind: sum(share.times_on(node) for node in nodes) for kind, share in wanted.items()}


def misfit(wanted: Shares, kinds: Iterable[str], nodes: Collection[Share]) -> str | None:
    """Why a stage of `kinds` can never run on these nodes, or None if all can.

    The text names the stage, what it asks for and the largest node.
    """
    room = slots(wanted, nodes)
    for kind in KINDS:
        if kind in kinds and room[kind] == 0:
            share = wanted[kind]
            return f"stage {kind} asks for {share}, which no node has: {_largest(share, nodes)}"
    return None


def this_machine() -> Share:
    """The processors and GPUs of this machine."""
    return Share(float(os.cpu_count() or 1), float(torch.cuda.device_count()))


def _largest(asked: Share, nodes: Collection[Share]) -> str:
    if not nodes:
        return "there is none"
    most = max(nodes, key=lambda node: (node.gpus if asked.gpus else 0, node.cpus))
    return f"the largest of {len(nodes)} has {most}" if len(nodes) > 1 else f"it has {most}"


def _whole(ratio: float) -> int:
    # 1 / 0.1 is a little more than ten, 0.3 / 0.1 a little less than three.
    return math.floor(ratio + UNIT)
