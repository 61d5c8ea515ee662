"""Ctrl-C and a terminated process lose no finished cell and leave nothing running."""

import os
import signal

import pytest

import results

# Enough cells that many are left when the first is done.
MANY = {
    "metrics": ["output_l1", "input_l1", "random"],
    "ratios": [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75],
}


def ctrl_c(pid: int) -> None:
    """A terminal sends it to the whole group."""
    os.killpg(pid, signal.SIGINT)


def terminate(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("interrupt", [ctrl_c, terminate])
def test_an_interrupted_sweep_keeps_its_cells_and_goes_on(
    interrupt, start, leftovers, write_spec, invoke, tmp_path, listing
):
    path, folder = write_spec(MANY), tmp_path / "runs"
    process = start("run", path, "--out", folder, marker=interrupt.__name__)
    assert process.stdout is not None
    while "local" not in (line := process.stdout.readline()):
        assert line, process.communicate()
    interrupt(process.pid)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors.splitlines() == ["interrupted; finished cells are kept, rerun to continue"]
    assert leftovers(interrupt.__name__) == []
    kept = results.load(folder)
    assert 1 <= len(kept) < 60
    assert set(kept["status"]) == {"ok"}
    assert [p.name for p in folder.rglob(".*")] == []

    assert invoke("status", folder).exit_code == 1
    cells = listing(folder / "cells")
    # The costliest cells began first, so what was finished is among the largest ratios.
    few = write_spec({**MANY, "ratios": MANY["ratios"][-1:]})
    done = invoke("run", few, "--out", folder, "--executor", "serial")
    assert done.exit_code == 0, done.output
    assert ", 0 done before" not in done.stdout
    assert "baseline" not in [line.split()[-1:] for line in done.stdout.splitlines()]
    assert cells.items() <= listing(folder / "cells").items()
