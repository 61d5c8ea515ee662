"""Full disks and damaged files: no wrong value is read, and no intact file is lost."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from faults.disturbance import run, table

import results
from results import DamagedFileWarning
from sweep.stages.artifacts import DamagedArtifactWarning


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A very small file system."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_run_with_intact_files(
    spec: Path, small_disk: Path, undisturbed: pd.DataFrame
) -> None:
    folder = small_disk / "runs"
    ended = run(folder, spec)
    assert ended.exit_code == 2, ended.output
    assert "No space left" in ended.stderr
    with warnings.catch_warnings():
        warnings.simplefilter("error", DamagedFileWarning)
        results.load(folder)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    ended = run(folder, spec)
    assert ended.exit_code == 0, ended.output
    pd.testing.assert_frame_equal(table(folder), undisturbed)


def test_a_cell_truncated_at_any_offset_is_run_again(
    done: Path, tmp_path: Path, chance: random.Random
) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(done, folder)
    victim = chance.choice(sorted((folder / "cells").glob("*.parquet")))
    whole = victim.read_bytes()
    offsets = sorted({0, 1, 4, len(whole) - 1, *chance.sample(range(len(whole)), 46)})
    for offset in offsets:
        victim.write_bytes(whole[:offset])
        with pytest.warns(DamagedFileWarning, match=victim.name):
            statuses = results.Store(folder).statuses()
        assert victim.stem not in statuses
        assert len(statuses) == len(list((folder / "cells").iterdir())) - 1


@pytest.mark.filterwarnings("ignore::results.DamagedFileWarning")
def test_damaged_cells_and_artifacts_are_made_again(
    done: Path, spec: Path, tmp_path: Path, undisturbed: pd.DataFrame, chance: random.Random
) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(done, folder)
    for path in chance.sample(sorted((folder / "cells").glob("*.parquet")), 3):
        path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])
    for path in (folder / "artifacts").rglob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-chance.randrange(1, len(content) // 2)] ^= 1
        path.write_bytes(content)
    with pytest.warns(DamagedArtifactWarning, match="is damaged and is computed again"):
        ended = run(folder, spec)
    assert ended.exit_code == 0, ended.output
    pd.testing.assert_frame_equal(table(folder), undisturbed)
