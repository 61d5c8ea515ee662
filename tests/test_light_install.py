"""The distribution prune-sweep-results: its requirements suffice to read, compare and report."""

import subprocess
import sys
from pathlib import Path

import pytest
from known_cells import cell

from results import Store
from results.storage.locations import folder_of
from results.storage.plan_file import PlannedCells, write_plan

REPOSITORY = Path(__file__).resolve().parents[1]

# Refuses every module of a distribution that the requirements of the light one do not reach.
ONLY_LIGHT = """
import re, sys
from importlib.metadata import packages_distributions, requires
from packaging.requirements import Requirement

def plain(name):
    return re.sub("[-_.]+", "-", name).lower()

wanted, reached = [Requirement(line) for line in sys.argv.pop(1).splitlines()], set()
while wanted:
    name = plain(wanted.pop().name)
    if name not in reached:
        reached.add(name)
        needed = map(Requirement, requires(name) or ())
        wanted += [it for it in needed if it.marker is None or it.marker.evaluate({"extra": ""})]
installed = packages_distributions()
own = {"results", "sweep", "cluster", "prune_core"}

class Light:
    def find_spec(self, name, path=None, target=None):
        if path is None and name in installed and name not in own:
            if not reached & {plain(found) for found in installed[name]}:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Light())
from cluster.cli import app
app(prog_name="prune-sweep")
"""


@pytest.fixture(scope="module")
def requirements(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The requirements in the metadata that `light/setup.py` builds."""
    there = tmp_path_factory.mktemp("metadata")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(there)]
    subprocess.run(command, cwd=REPOSITORY / "light", check=True, capture_output=True)
    return (there / "prune_sweep_results.egg-info" / "requires.txt").read_text()


@pytest.mark.slow
def test_reading_needs_neither_torch_nor_ray_and_other_commands_say_what_they_need(
    requirements: str, tmp_path: Path
):
    assert not {"torch", "ray"} & {line[:5].rstrip(">=[") for line in requirements.splitlines()}
    folder = str(tmp_path / "runs")
    store = Store(folder)
    store.create()
    rows = [cell("random", seed, 0.5, key=f"{seed:016x}") for seed in (0, 1)]
    for row in rows:
        store.write(row)
    planned = PlannedCells("known", {row["key"]: row["metric"] for row in rows})
    write_plan(folder_of(folder), planned)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", ONLY_LIGHT, requirements, *arguments]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    for command in (("status", folder), ("compact", folder), ("compare", folder, folder)):
        done = run(*command)
        assert done.returncode == 0, (command, done.stderr)
    assert "agree in every value" in done.stdout
    done = run("report", folder)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "report.html").stat().st_size > 10_000
    done = run("metrics")
    assert done.returncode == 2
    assert done.stderr == "error: this command needs torch: pip install prune-sweep\n"
