"""The distribution prune-sweep-results, installed in an environment without torch and Ray."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from known_cells import cell
from packaging.requirements import Requirement

from results import Store
from results.storage.locations import folder_of
from results.storage.plan_file import PlannedCells, write_plan

REPOSITORY = Path(__file__).resolve().parents[1]


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the distribution and what it requires, nothing else.

    The requirements are links to what is installed here, so nothing is downloaded.
    """
    built, there = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("light")
    wheel = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", built]
    done = run(sys.executable, "-m", "pip", "wheel", *wheel, REPOSITORY / "light")
    assert done.returncode == 0, done.stderr
    (file,) = built.glob("prune_sweep_results-*.whl")
    venv.create(there, symlinks=True)
    installed = ["--python", there, "install", "--quiet", "--no-deps", "--no-index", file]
    done = run(sys.executable, "-m", "pip", *installed)
    assert done.returncode == 0, done.stderr
    paths = sysconfig.get_paths(vars={"base": str(there), "platbase": str(there)})
    site = Path(paths["purelib"])
    (metadata,) = site.glob("prune_sweep_results-*.dist-info/METADATA")
    for name in reached(re.findall(r"^Requires-Dist: (.*)$", metadata.read_text(), re.M)):
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (site / top).symlink_to(found.locate_file(top))
    return there / "bin"


def reached(requirements: list[str]) -> set[str]:
    """The names of the distributions that these need, and so on."""
    wanted, names = [Requirement(line) for line in requirements], set()
    while wanted:
        one = wanted.pop()
        name = re.sub("[-_.]+", "-", one.name).lower()
        needed = one.marker is None or one.marker.evaluate({"extra": ""})
        if needed and name not in names:
            names.add(name)
            wanted += map(Requirement, distribution(name).requires or ())
    return names


@pytest.mark.slow
def test_reading_needs_neither_torch_nor_ray_and_other_commands_say_what_they_need(
    environment: Path, tmp_path: Path
) -> None:
    for absent in ("torch", "ray", "sklearn"):
        assert run(environment / "python", "-I", "-c", f"import {absent}").returncode == 1
    folder = str(tmp_path / "runs")
    store = Store(folder)
    store.create()
    rows = [cell("random", seed, 0.5, key=f"{seed:016x}") for seed in (0, 1)]
    for row in rows:
        store.write(row)
    planned = PlannedCells("known", {row["key"]: row["metric"] for row in rows})
    write_plan(folder_of(folder), planned)
    program = environment / "prune-sweep"
    for command in (("status", folder), ("compact", folder), ("compare", folder, folder)):
        done = run(program, *command)
        assert done.returncode == 0, (command, done.stderr)
    assert "agree in every value" in done.stdout
    done = run(program, "report", folder)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "report.html").stat().st_size > 10_000
    code = f"import results; print(len(results.load({folder!r})))"
    assert run(environment / "python", "-I", "-c", code).stdout == "2\n"
    done = run(program, "metrics")
    assert done.returncode == 2
    assert done.stderr == "error: this command needs torch: pip install prune-sweep\n"
