"""Trials that request too much, nodes with different resources, and the loss of a node."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from faults.disturbance import Sweep, table

import results

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(sys.platform != "linux", reason="several raylets on one machine need Linux"),
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A head node without CPUs, to which a test adds nodes."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    # Detect a lost node after one second instead of half a minute.
    soon = {"health_check_period_ms": 500, "health_check_failure_threshold": 2}
    head = {"num_cpus": 0, "_system_config": soon}
    made = Cluster(initialize_head=True, connect=False, head_node_args=head)
    yield made
    made.shutdown()


@pytest.fixture
def asking(spec: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the small spec with other resources and another waiting time for nodes."""

    def write(resources: dict[str, object], patience: float = 600) -> Path:
        content = yaml.safe_load(spec.read_text())
        content |= {"resources": resources, "wait_for_nodes_s": patience}
        path = tmp_path / "asking.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def test_stages_run_on_different_nodes_until_the_last_one_that_fits_is_lost(
    cluster, asking, start: Callable[..., Sweep], tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    # The GPU exists only for the Ray scheduler: PyTorch finds none and uses the CPU.
    cluster.add_node(num_cpus=1, num_gpus=1)
    last = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    folder, address = tmp_path / "runs", {"RAY_ADDRESS": cluster.address}
    greedy = asking({"cpus": 1.0, "gpus": 0.0, "baseline": {"cpus": 1.0, "gpus": 2.0}})
    code, out = start(greedy, **address).end()
    assert code == 2, out
    assert (
        "stage baseline asks for 1 CPU and 2 GPUs, which no node has: "
        "the largest of 3 has 1 CPU and 1 GPU" in out
    )
    assert not list((folder / "cells").glob("*.parquet"))
    # The baseline fits only on the node with the GPU, cells fit only on the other node.
    apart = asking({"cpus": 2.0, "gpus": 0.0, "baseline": {"cpus": 1.0, "gpus": 1.0}}, patience=6)
    sweep = start(apart, **address)
    sweep.until_cells(2)
    cluster.remove_node(last, allow_graceful=False)
    code, out = sweep.end()
    assert code == 2, out
    assert "stage cell asks for 2 CPUs and 0 GPUs" in out
    assert "wait_for_nodes_s" in out
    kept = results.load(folder)
    assert 2 <= len(kept) < len(undisturbed)
    assert set(kept["threads"]) == {2}
    assert set(kept["status"]) == {"ok"}
    names = ["key", "status", "widths"]
    same = undisturbed[undisturbed["key"].isin(kept["key"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(table(folder)[names], same[names])
