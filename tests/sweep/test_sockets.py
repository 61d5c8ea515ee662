"""The folder of Ray's sockets is short and writable, whatever TMPDIR and other users do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.errors import ClusterError
from sweep.execution.tune.sockets import LONGEST, folder_for_sockets

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Ray does not read TMPDIR")
# Nobody's number on a usual system.
STRANGER = 1_900_000_000 + os.getpid()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a short path; no variable names another."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    folder = Path(tempfile.mkdtemp(prefix="s-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def stranger() -> Iterator[Path]:
    """Checks of access are those of a user who is not root; the folder of this user's sockets."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    folder = Path(f"/tmp/ray-{STRANGER}")
    os.setresuid(STRANGER, -1, -1)
    yield folder
    os.setresuid(0, -1, -1)
    if folder.is_symlink():
        folder.unlink()


@linux
def test_the_path_of_a_socket_fits(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(f"/tmp/ray-{os.getuid()}")
    fits = "a" * (LONGEST - len(f"{short}//ray"))
    monkeypatch.setenv("TMPDIR", f"{short}/{fits}")
    assert folder_for_sockets() == short / fits / "ray"
    for longer in (f"{fits}b", f"{fits[1:]}ü"):
        monkeypatch.setenv("TMPDIR", f"{short}/{longer}")
        assert folder_for_sockets() == own
    # As for Ray, this variable takes precedence.
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    assert folder_for_sockets() == short / "ray"
    monkeypatch.chdir(short)
    monkeypatch.setenv("RAY_TMPDIR", "here")
    assert folder_for_sockets() == short / "here" / "ray"


def test_a_folder_of_another_user_is_avoided(
    short: Path, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    (short / "ray").mkdir(mode=0o755)
    short.chmod(0o755)
    assert folder_for_sockets() == stranger
    # Ray usually opens its folder to all users.
    (short / "ray").chmod(0o777)
    assert folder_for_sockets() == short / "ray"


def test_without_any_folder_the_remedy_is_named(
    short: Path, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(short / ("long" * 20)))
    stranger.symlink_to(short)
    short.chmod(0o777)
    with pytest.raises(ClusterError, match="belongs to another user") as found:
        folder_for_sockets()
    assert f"{short}/longlong" in str(found.value)
    assert f"set RAY_TMPDIR to a folder of at most {LONGEST - 4} bytes" in str(found.value)


@linux
@pytest.mark.ray
def test_ray_starts_although_tmpdir_is_long(short: Path) -> None:
    long = short / ("long" * 25)
    long.mkdir()
    code = (
        "import pathlib\n"
        "from sweep.execution.tune.ray_cluster import Cluster\n"
        f"with Cluster(pathlib.Path({str(short / 'ray.log')!r})) as cluster:\n"
        "    import ray\n"
        "    found = ray._private.worker.global_worker.node.get_sockets_dir_path()\n"
        "print(found)\n"
    )
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=own | {"TMPDIR": str(long)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"/tmp/ray-{os.getuid()}/session_")
    # The limit leaves room for the longest path that Ray makes, and no more than that.
    longest = f"{ended.stdout.strip()}/plasma_store"
    name = longest.removeprefix(f"/tmp/ray-{os.getuid()}")
    assert 0 <= 107 - LONGEST - len(name) <= 4
