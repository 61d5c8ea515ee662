"""What all tests share: an image cache of their own, so that none reads or writes the user's."""

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
    """An S3 server of this process, and its credentials in the environment."""
    pytest.importorskip("moto", reason="moto is absent, and with it the S3 server of these tests")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setitem(os.environ, name, value)
        with serving() as store:
            yield store
