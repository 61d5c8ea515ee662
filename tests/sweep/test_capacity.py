"""Nodes come and go: when a sweep asks for more, waits, and gives up."""

import pytest

from sweep.errors import ClusterError
from sweep.execution.capacity import Bundles, Capacity
from sweep.execution.resources import Resources, resources_of
from sweep.spec.resources import ResourcesSpec

SMALL, LARGE = Resources(2, 0), Resources(8, 1)
RESOURCES = ResourcesSpec.model_validate(
    {"cpus": 2.0, "gpus": 0.0, "baseline": {"cpus": 4.0, "gpus": 1.0}}
)


class Nodes:
    """A cluster whose nodes and clock a test sets, and which remembers what it was asked for."""

    def __init__(self, *nodes: Resources) -> None:
        self.living, self.clock = list(nodes), 0.0
        self.asked: list[Bundles] = []

    def capacity(self, patience: float = 600.0, scale_to: int | None = None) -> Capacity:
        return Capacity(
            resources_of(RESOURCES, self.living),
            lambda: self.living,
            patience,
            scale_to,
            self.asked.append,
            lambda: self.clock,
        )


def waiting(capacity: Capacity, *kinds: str, running: int = 0) -> bool:
    return capacity.look(running, lambda: kinds)


def test_what_no_node_has_is_refused_before_anything_runs():
    capacity = Nodes(SMALL, SMALL).capacity()
    capacity.check(["cell", "statistics"])
    with pytest.raises(ClusterError, match=r"stage baseline asks for 4 CPUs and 1 GPU"):
        capacity.check(["cell", "baseline"])


def test_a_cluster_that_grows_may_still_get_it():
    capacity = Nodes(SMALL).capacity(scale_to=3)
    capacity.check(["baseline"])
    assert capacity.trials_at_once == 3


def test_without_room_for_anything_the_sweep_ends_after_its_patience():
    nodes = Nodes(LARGE)
    capacity = nodes.capacity(patience=60)
    assert waiting(capacity, "cell")
    nodes.living = []
    for nodes.clock in (10.0, 30.0, 59.9):
        assert waiting(capacity, "cell")
    nodes.clock = 65.0
    with pytest.raises(ClusterError, match=r"no such node joined within 60 s \(wait_for_nodes_s\)"):
        waiting(capacity, "cell")


def test_a_node_that_comes_in_time_starts_the_clock_anew():
    nodes = Nodes()
    capacity = nodes.capacity(patience=60)
    for nodes.clock, living in ((50.0, []), (55.0, [SMALL]), (100.0, []), (110.0, [])):
        nodes.living = living
        waiting(capacity, "cell")
    nodes.clock = 116.0
    with pytest.raises(ClusterError):
        waiting(capacity, "cell")


@pytest.mark.parametrize(
    ("kinds", "running"), [(["baseline", "cell"], 0), (["baseline"], 1), ([], 0)], ids=str
)
def test_while_anything_can_go_on_nothing_ends(kinds, running):
    nodes = Nodes(SMALL)
    capacity = nodes.capacity(patience=60)
    for nodes.clock in (50.0, 100.0, 150.0):
        assert waiting(capacity, *kinds, running=running)


def test_it_looks_every_few_seconds_and_follows_the_slots():
    nodes = Nodes(LARGE)
    capacity = nodes.capacity()
    assert capacity.slots == {"baseline": 1, "statistics": 4, "cell": 4}
    assert waiting(capacity, "cell")
    nodes.living = [LARGE, SMALL]
    nodes.clock = 4.9
    assert not waiting(capacity, "cell")
    assert capacity.slots["cell"] == 4
    nodes.clock = 5.0
    assert waiting(capacity, "cell")
    assert capacity.slots == {"baseline": 1, "statistics": 5, "cell": 5}


def test_a_growing_cluster_is_asked_for_what_can_run_and_released_at_the_end():
    baseline, cell = {"CPU": 4.0, "GPU": 1.0}, {"CPU": 2.0}
    nodes = Nodes()
    capacity = nodes.capacity(scale_to=3)
    steps = [["baseline"], ["cell", "baseline"], ["baseline", "cell"], ["cell"] * 9, ["cell"]]
    for nodes.clock, kinds in zip(range(0, 100, 10), steps, strict=False):
        waiting(capacity, *kinds)
    assert nodes.asked == [[baseline], [baseline, cell], [cell] * 3, [cell]]
    capacity.close()
    capacity.close()
    assert nodes.asked[4:] == [[]]


def test_a_cluster_that_does_not_grow_is_asked_for_nothing():
    nodes = Nodes(LARGE)
    capacity = nodes.capacity()
    waiting(capacity, "cell")
    capacity.close()
    assert nodes.asked == []
