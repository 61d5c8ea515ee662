"""Fixtures of all tests: an image cache that is not the user's, and an S3 server."""

import os
from collections.abc import Iterator
from pathlib import Path

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


# First, since pytest-xdist reads the groups in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts all tests that start a Ray into one process, where they come first.

    Two Rays on one machine can find each other. Other tests of one file share a process, and with
    it the fixtures of their module.
    """
    for item in items:
        group = "ray" if _in_ray_group(item) else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: not _in_ray_group(item))


def _in_ray_group(item: pytest.Item) -> bool:
    # Tests of full disks share the undisturbed sweep of their folder.
    return item.get_closest_marker("ray") is not None or "tests/faults" in item.nodeid
