"""A cache that machines share: written once, copied once by each, whatever happens meanwhile."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from object_store import ObjectStore

from prune_core.images import ImagesError, load
from prune_core.images.cache import CACHE_VARIABLE, entry_folder

NAME = entry_folder(Path(), ["digits"]).name


@pytest.fixture(params=["file", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty shared cache, named by the environment."""
    if request.param == "file":
        uri = (tmp_path / "shared").as_uri()
    else:
        uri = request.getfixturevalue("object_store").new_prefix()
    monkeypatch.setenv(CACHE_VARIABLE, uri)
    return uri


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Goes to another machine: one with a cache of its own. Returns its entry of the digits."""

    def go(name: str) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return tmp_path / name / "prune-sweep" / "images" / NAME

    return go


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def decode() -> None:
            raise AssertionError("it was decoded again")

        monkeypatch.setattr("prune_core.images.digits.read_digits", decode)

    return forbid


def test_another_machine_copies_what_the_first_decoded(
    shared: str, machine: Callable[[str], Path], no_decoding: Callable[[], None]
) -> None:
    there = machine("first")
    first = load("digits")
    no_decoding()
    here = machine("second")
    second = load("digits")
    assert second.fingerprint == first.fingerprint
    assert torch.equal(second.train_images, first.train_images)
    assert [path.read_bytes() for path in sorted(here.iterdir())] == [
        path.read_bytes() for path in sorted(there.iterdir())
    ]
    assert [path.name for path in here.parent.iterdir()] == [NAME]


def test_what_is_on_the_machine_is_not_asked_for_again(
    object_store: ObjectStore, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, object_store.new_prefix())
    machine("first")
    load("digits")
    names = [one.path.rpartition("/")[2] for one in object_store.sent("PUT")]
    assert names[-1] == "meta.json"
    object_store.requests.clear()
    load("digits")
    assert object_store.requests == []


COPY = "from prune_core.images import load; print(load('digits').fingerprint)"


def copier() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", COPY],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_of_a_machine_copy_once_and_outlive_one_that_is_killed(
    object_store: ObjectStore, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, object_store.new_prefix())
    machine("first")
    images = load("digits")
    here = machine("second")
    object_store.requests.clear()

    copies: list[subprocess.Popen[str]] = []

    def kill_the_first(_: object) -> None:
        if copies:
            os.kill(copies.pop().pid, signal.SIGKILL)

    with object_store.refusing(kill_the_first):
        killed = copier()
        copies.append(killed)
        assert killed.wait(120) == -signal.SIGKILL
    assert not here.exists()
    object_store.requests.clear()
    running = [copier() for _ in range(2)]
    ends = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0, 0], ends
    assert {out.strip() for out, _ in ends} == {images.fingerprint}
    arrays = [one.path for one in object_store.sent("HEAD") if one.path.endswith("images.npy")]
    assert len(set(arrays)) == 2
    gets = [one.path for one in object_store.sent("GET") if one.path.endswith("meta.json")]
    assert len(gets) == 1


def test_a_damaged_entry_is_decoded_again_and_replaced(
    shared: str, machine: Callable[[str], Path], tmp_path: Path, no_decoding: Callable[[], None]
) -> None:
    from pyarrow import fs

    machine("first")
    first = load("digits")
    filesystem, path = fs.FileSystem.from_uri(shared)
    with filesystem.open_output_stream(f"{path}/{NAME}/test_labels.npy") as file:
        file.write(b"nothing of ours")
    machine("second")
    with pytest.warns(UserWarning, match="in the shared image cache .* are damaged"):
        assert load("digits").fingerprint == first.fingerprint
    no_decoding()
    machine("third")
    assert load("digits").fingerprint == first.fingerprint


def test_a_shared_cache_that_cannot_be_used_is_named(
    tmp_path: Path, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("first")
    (tmp_path / "file").touch()
    for uri in ((tmp_path / "file").as_uri(), "ftp://host/images"):
        monkeypatch.setenv(CACHE_VARIABLE, uri)
        with pytest.raises(ImagesError, match=f"cache {uri} cannot be used .*PRUNE_SWEEP_CACHE"):
            load("digits")
