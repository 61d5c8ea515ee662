"""How many tasks a cluster can run at once, now and while nodes come and go."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from sweep.errors import ClusterError
from sweep.execution.resources import Resources, StageResources, slots, unplaceable

# Nodes come and go within minutes; asking costs a call to the head node.
LOOK_EVERY_S = 5.0

Bundles = list[dict[str, float]]


class Capacity:
    """Follows the nodes of a cluster while a sweep runs on it.

    Parameters
    ----------
    resources : what a trial of each stage gets.
    nodes : tells what the living nodes have.
    patience : seconds without a node for anything that waits after which the sweep ends.
    scale_to : trials at once that a growing cluster is asked to make room for; None for a
        cluster of fixed size.
    ask : requests nodes for these bundles from the cluster, in place of earlier requests.
    now : seconds on a clock.
    """

    def __init__(
        self,
        resources: StageResources,
        nodes: Callable[[], Collection[Resources]],
        patience: float,
        scale_to: int | None = None,
        ask: Callable[[Bundles], None] = lambda _: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.resources, self.patience, self.scale_to = resources, patience, scale_to
        self._nodes, self._ask, self._now = nodes, ask, now
        self._looked, self._served = -math.inf, now()
        self._asked: Bundles = []
        self.slots = slots(resources, nodes())

    def check(self, kinds: Iterable[str]) -> None:
        """Refuses a sweep with stages that no node can ever run.

        Raises
        ------
        ClusterError
            Naming the stage, what it asks for and the largest node, unless nodes may still come.
        """
        if self.scale_to is None and (why := unplaceable(self.resources, kinds, self._nodes())):
            raise ClusterError(
                f"{why}; lower `resources` in the spec, or give `resources.scale_to` if the "
                "cluster grows"
            )

    @property
    def trials_at_once(self) -> int:
        """How many trials can run at once at most, counting nodes that may still come."""
        return max(1, self.scale_to or 0, *self.slots.values())

    def look(self, running: int, open_kinds: Callable[[], Iterable[str]]) -> bool:
        """Looks at the nodes, unless it did so within the last seconds; returns whether it did.

        Parameters
        ----------
        running : trials that run now.
        open_kinds : tells the stages of the tasks that run or could, in their order.

        Raises
        ------
        ClusterError
            If nothing has run for longer than `patience`, and no node has room for any task that
            could start.
        """
        now = self._now()
        if now - self._looked < LOOK_EVERY_S:
            return False
        self._looked = now
        nodes = self._nodes()
        self.slots = slots(self.resources, nodes)
        kinds = list(open_kinds())
        if running or not kinds or any(self.slots[kind] for kind in kinds):
            self._served = now
        elif now - self._served >= self.patience:
            why = unplaceable(self.resources, kinds, nodes)
            raise ClusterError(
                f"{why}, and none came within {self.patience:g} s (wait_for_nodes_s); finished "
                "cells are kept, run again to go on"
            )
        self._ask_for(kinds)
        return True

    def close(self) -> None:
        """Withdraws the request for nodes."""
        self._ask_for([])

    def _ask_for(self, kinds: Iterable[str]) -> None:
        first = sorted(islice(kinds, self.scale_to or 0))
        wanted = [self.resources[kind].bundle for kind in first]
        if wanted != self._asked:
            self._ask(wanted)
            self._asked = wanted
