"""Fixtures of all tests: an image cache that is not the user's, and an S3 server."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from object_store import CREDENTIALS, ObjectStore, serving

from prune_core.images.cache import CACHE_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Images are decoded once per run of the suite, for subprocesses too."""
    folder = tmp_path_factory.mktemp("image-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An S3 server in this process, with its credentials in the environment."""
    pytest.importorskip("moto", reason="moto is not installed; it is the S3 server of these tests")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setitem(os.environ, name, value)
        with serving() as store:
            yield store


# Tests that start a Ray, and those that share fixtures with them.
RAY = (
    "tests/faults/",
    "tests/cluster/test_machines.py",
    "tests/cluster/test_submit.py",
    "tests/sweep/test_interrupt.py",
    "tests/sweep/test_live.py",
    "tests/sweep/test_preflight.py::test_nodes_of_a_cluster",
    "tests/sweep/test_run.py::test_ray_gives",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that start a Ray, and puts them first, since they take longest."""
    for item in items:
        if item.nodeid.startswith(RAY):
            item.add_marker(pytest.mark.ray)
    items.sort(key=lambda item: not item.nodeid.startswith(RAY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives all tests that start a Ray to one process: two Rays on one machine can find each other.

    Other tests of one file share a process, and with it the fixtures of their module.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "ray" if nodeid.startswith(RAY) else nodeid.partition("::")[0]

    return ByFile(config, log)
