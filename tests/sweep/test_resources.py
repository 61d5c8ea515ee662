"""How many trials a node has room for, by hand, and what is said where there is none."""

import pytest

from sweep.execution.resources import Resources, resources_of, slots, unplaceable
from sweep.spec.resources import ResourcesSpec

LAPTOP, SERVER = Resources(4, 0), Resources(32, 4)


@pytest.mark.parametrize(
    ("trial", "node", "times"),
    [
        (Resources(1, 0), Resources(4, 0), 4),
        (Resources(3, 0), Resources(4, 0), 1),
        (Resources(5, 0), Resources(4, 0), 0),
        (Resources(0.1, 0), Resources(1, 0), 10),
        (Resources(0.1, 0), Resources(0.3, 0), 3),
        (Resources(1, 1), Resources(32, 4), 4),
        (Resources(1, 2), Resources(32, 5), 2),
        (Resources(16, 1), Resources(32, 4), 2),
        (Resources(1, 1), Resources(4, 0), 0),
        (Resources(1, 0.25), Resources(32, 4), 16),
        (Resources(4, 0.25), Resources(32, 4), 8),
        # Two trials of 0.4 fit on one GPU; the fifths that are left over are of two GPUs.
        (Resources(1, 0.4), Resources(32, 2), 4),
        (Resources(1, 0.1), Resources(32, 1), 10),
        (Resources(1, 1 / 3), Resources(32, 1), 3),
        (Resources(1, 0.6), Resources(32, 3), 3),
    ],
    ids=str,
)
def test_how_often_a_trial_fits_on_a_node(trial, node, times):
    assert trial.times_on(node) == times


def test_no_trial_spans_two_nodes():
    wanted = resources_of(ResourcesSpec(cpus=3, gpus=0), [LAPTOP])
    assert slots(wanted, [LAPTOP, LAPTOP, Resources(32, 0)])["cell"] == 1 + 1 + 10


def test_a_stage_has_what_it_says_and_else_what_every_trial_has():
    resources = ResourcesSpec.model_validate(
        {"cpus": 2.0, "gpus": 0.25, "baseline": {"gpus": 1.0}, "statistics": {"cpus": 4.0}}
    )
    found = resources_of(resources, [SERVER])
    assert found == {
        "baseline": Resources(2, 1),
        "statistics": Resources(4, 0.25),
        "cell": Resources(2, 0.25),
    }
    assert slots(found, [LAPTOP, SERVER]) == {"baseline": 4, "statistics": 8, "cell": 16}
    assert [share.threads for share in found.values()] == [2, 4, 2]


def test_a_gpu_that_the_spec_leaves_open_is_given_where_there_is_one():
    resources = ResourcesSpec.model_validate({"cell": {"gpus": 0.5}})
    assert {
        kind: share.gpus for kind, share in resources_of(resources, [LAPTOP, SERVER]).items()
    } == {
        "baseline": 1,
        "statistics": 1,
        "cell": 0.5,
    }
    assert resources_of(ResourcesSpec(), [LAPTOP])["cell"].gpus == 0


def test_a_trial_of_less_than_one_processor_has_one_thread():
    assert Resources(0.25, 0).threads == 1
    assert Resources(2.9999999, 0).threads == 3


def test_a_stage_without_room_is_named_with_what_it_asks_for_and_the_largest_node():
    resources = ResourcesSpec.model_validate({"baseline": {"cpus": 64.0, "gpus": 1.0}, "gpus": 0.0})
    wanted = resources_of(resources, [LAPTOP, SERVER])
    assert unplaceable(wanted, ["statistics", "cell"], [LAPTOP]) is None
    assert unplaceable(wanted, ["cell", "baseline"], [LAPTOP, SERVER]) == (
        "stage baseline asks for 64 CPUs and 1 GPU, which no node has: "
        "the largest of 2 has 32 CPUs and 4 GPUs"
    )
    assert unplaceable(wanted, ["cell"], []) == (
        "stage cell asks for 1 CPU and 0 GPUs, which no node has: there are no nodes"
    )


def test_the_largest_node_is_the_one_with_the_most_of_what_is_asked_for():
    many_cpus, one_gpu = Resources(64, 0), Resources(8, 1)
    cpus = resources_of(ResourcesSpec(cpus=65, gpus=0), [])
    assert "64 CPUs and 0 GPUs" in str(unplaceable(cpus, ["cell"], [one_gpu, many_cpus]))
    gpus = resources_of(ResourcesSpec(gpus=2), [])
    assert "8 CPUs and 1 GPU" in str(unplaceable(gpus, ["cell"], [one_gpu, many_cpus]))


def test_the_plan_of_what_this_machine_cannot_run_tells_no_time(write_spec, invoke, tmp_path):
    path = write_spec({"resources": {"cell": {"cpus": 100_000}, "gpus": 0}})
    done = invoke("plan", path, "--out", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    last = done.stdout.splitlines()[-1]
    assert last.startswith(
        "no time estimate: this machine cannot run the sweep, because stage cell asks"
    )
