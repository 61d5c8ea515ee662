"""Before the first trial every node must see the results folder, and the same one."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import ObjectStore

from results.storage.locations import folder_of
from sweep.errors import ClusterError
from sweep.execution.tune.preflight import check_workspace, probe
from sweep.stages.workspace import Workspace


def test_a_folder_that_shows_what_was_written_is_good_and_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("word")
    assert probe(folder_of(tmp_path), "theirs", "word") is None
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_another_folder_of_the_same_name_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.execution.tune.preflight._BETWEEN_LOOKS_SECONDS", 0.0)
    problem = probe(folder_of(tmp_path), "theirs", "word")
    assert problem is not None
    assert "a different folder" in problem
    (tmp_path / "theirs").write_text("something else")
    assert probe(folder_of(tmp_path), "theirs", "word") == problem
    assert (
        probe(folder_of(tmp_path / "none"), "theirs", "word") == "the folder does not exist there"
    )


def test_what_a_network_folder_shows_late_is_waited_for(tmp_path: Path) -> None:
    late = threading.Timer(1.0, (tmp_path / "theirs").write_text, ["word"])
    late.start()
    assert probe(folder_of(tmp_path), "theirs", "word") is None
    late.join()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_folder_that_takes_no_files_is_told() -> None:
    content = Path("/proc/version").read_text()
    problem = probe(folder_of("/proc"), "version", content)
    assert problem is not None
    assert ".probe." in problem


@pytest.fixture
def astray(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray of two nodes, the second of which looks for object stores where there is none."""
    if sys.platform != "linux":
        pytest.skip("several raylets on one machine need Linux")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{object_store.port}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    import ray
    from ray.cluster_utils import Cluster

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        second = cluster.add_node(num_cpus=1, env_vars=nowhere)
        cluster.wait_for_nodes()
        ray.init(cluster.address, log_to_driver=False)
        yield second.node_id
        ray.shutdown()
        cluster.shutdown()


def test_nodes_of_a_cluster_are_asked_and_named(
    astray: str, object_store: ObjectStore, tmp_path: Path
) -> None:
    check_workspace(Workspace(tmp_path, "sweep"))
    assert list(tmp_path.iterdir()) == []

    where = object_store.new_prefix().partition("?")[0]
    with pytest.raises(ClusterError) as caught:
        check_workspace(Workspace(where, "sweep"))
    text = str(caught.value)
    assert text.count("node ") == 1, text
    for words in (f"({astray})", where, "cannot be reached", "--out"):
        assert words in text
    assert folder_of(where).entries() == []

    with pytest.raises(ClusterError, match="it did not answer within 0 s"):
        check_workspace(Workspace(tmp_path, "sweep"), answer_seconds=0)
