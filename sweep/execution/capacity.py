"""How many tasks a cluster can run at once while nodes join and leave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from sweep.errors import ClusterError
from sweep.execution.resources import Resources, StageResources, slots, unplaceable

# Nodes join and leave within minutes, and each query is a call to the head node.
LOOK_EVERY_S = 5.0

Bundles = list[dict[str, float]]


class Capacity:
    """Follows the nodes of a cluster while a sweep runs on it.

    Parameters
    ----------
    resources : the resources of a trial of each stage.
    nodes : returns the resources of all living nodes.
    patience : seconds to wait for a node on which a waiting task can run; then the sweep ends.
    scale_to : the number of parallel trials to request nodes for on an autoscaling cluster; None
        for a cluster of fixed size.
    ask : requests nodes for these bundles from the cluster and replaces earlier requests.
    now : returns the time in seconds.
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
        """Refuses a sweep with a stage that no node can run.

        On an autoscaling cluster, every sweep is accepted, because larger nodes may join.

        Raises
        ------
        ClusterError
            Naming the stage, the resources that it needs and the largest node.
        """
        if self.scale_to is None and (why := unplaceable(self.resources, kinds, self._nodes())):
            raise ClusterError(
                f"{why}; lower `resources` in the spec, or set `resources.scale_to` if the "
                "cluster has autoscaling"
            )

    @property
    def trials_at_once(self) -> int:
        """The largest number of parallel trials, including nodes that may still join."""
        return max(1, self.scale_to or 0, *self.slots.values())

    def look(self, running: int, open_kinds: Callable[[], Iterable[str]]) -> bool:
        """Updates the slots from the nodes, at most every `LOOK_EVERY_S` seconds.

        Parameters
        ----------
        running : number of trials that run now.
        open_kinds : returns the stages of the tasks that are running or ready, in their order.

        Returns
        -------
        Whether the slots were updated.

        Raises
        ------
        ClusterError
            If for longer than `patience` no trial was running and no node could run any of the
            ready tasks.
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
                f"{why}, and no such node joined within {self.patience:g} s (wait_for_nodes_s); "
                "finished cells are kept; run again to continue"
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
