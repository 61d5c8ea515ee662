"""Which networks stay: of every family the best seed's, whatever happened on the way."""

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prune_core.network_files import load
from prune_core.networks import SimpleNet, SimpleNetArchitecture
from prune_core.preprocessing import Preprocessing
from sweep.planning.cells import Cell
from sweep.planning.grid import plan
from sweep.stages.kept_networks import BestSeeds, KeptNetworks

SCALING = Preprocessing((90.0, 85.0, 80.0), (60.0, 55.0, 50.0))
Rows = dict[str, float | None]


@pytest.fixture(scope="module")
def cells(spec: Callable[..., Any]) -> tuple[Cell, ...]:
    """Two families of three seeds."""
    return plan(spec({"seeds": [0, 1, 2], "metrics": ["output_l1"], "ratios": [0.5]})).cells


@pytest.fixture(scope="module")
def net() -> SimpleNet:
    with torch.random.fork_rng():
        return SimpleNet(SimpleNetArchitecture((2,), (3,), (True,), 2))


class Interrupted(Exception):
    """The run ended here."""


class Sweep:
    """Runs over one folder; each cell has its network written, then its row."""

    def __init__(self, folder: Path, cells: tuple[Cell, ...], net: SimpleNet) -> None:
        self.networks, self.cells, self.net = KeptNetworks(folder), cells, net
        self.rows: Rows = {}

    def run(self, ends: list[Cell], results: Rows, retried: set[str], stop: int) -> None:
        """Runs what has no row and what is retried; after `stop` steps it is interrupted."""
        missing = {c.key for c in self.cells if c.key not in self.rows} | retried
        done = {
            key: accuracy
            for key, accuracy in self.rows.items()
            if key not in missing and accuracy is not None
        }
        steps = 0

        def step() -> None:
            nonlocal steps
            if steps == stop:
                raise Interrupted
            steps += 1

        with suppress(Interrupted):
            step()
            best = BestSeeds(self.networks, self.cells, done, missing)
            for cell in ends:
                if cell.key not in missing:
                    continue
                accuracy = results[cell.key]
                step()
                if accuracy is not None:
                    self.networks.put(cell.key, self.net, SCALING, None, {})
                step()
                self.rows[cell.key] = accuracy
                step()
                best.ended(cell, accuracy)

    def winners(self) -> set[str]:
        """By the definition, from the rows."""
        families: dict[object, list[Cell]] = {}
        for cell in self.cells:
            if self.rows.get(cell.key) is not None:
                families.setdefault(cell.family, []).append(cell)
        return {
            min(family, key=lambda cell: (-self.rows[cell.key], cell.baseline.seed)).key
            for family in families.values()
        }


# Few values, so that ties are common; None is a cell that failed.
ACCURACIES = st.sampled_from([0.5, 0.75, 0.75, 1.0, None])


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_the_best_seeds_stay_whatever_the_order_restarts_and_retries(data, cells, net, tmp_path):
    sweep = Sweep(Path(tempfile.mkdtemp(dir=tmp_path)), cells, net)
    results = {cell.key: data.draw(ACCURACIES) for cell in cells}
    for stop in data.draw(st.lists(st.integers(0, 18), max_size=3)):
        retried = {key for key in sweep.rows if data.draw(st.booleans())}
        sweep.run(data.draw(st.permutations(cells)), results, retried, stop)
    sweep.run(data.draw(st.permutations(cells)), results, set(), stop=1_000)
    assert sweep.rows == results
    assert sweep.networks.keys() == sweep.winners()
    # Running once more, with nothing to do, changes nothing.
    sweep.run(list(cells), results, set(), stop=1_000)
    assert sweep.networks.keys() == sweep.winners()


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_retry_with_other_figures_counts_anew_in_every_order(data, cells, net, tmp_path):
    sweep = Sweep(Path(tempfile.mkdtemp(dir=tmp_path)), cells, net)
    for _ in range(2):
        results = {cell.key: data.draw(ACCURACIES) for cell in cells}
        sweep.run(data.draw(st.permutations(cells)), results, set(sweep.rows), stop=1_000)
        assert sweep.networks.keys() == sweep.winners()


def test_disk_use_stays_bounded_while_cells_end(cells, net, tmp_path):
    networks = KeptNetworks(tmp_path)
    best = BestSeeds(networks, cells, {}, [cell.key for cell in cells])
    for number, cell in enumerate(cells):
        networks.put(cell.key, net, SCALING, None, {})
        best.ended(cell, number / 10)
        assert len(networks.keys()) <= 2


def test_networks_of_cells_that_the_spec_does_not_name_are_left_alone(cells, net, tmp_path):
    networks = KeptNetworks(tmp_path)
    stranger = "f" * 16
    for key in (stranger, *(cell.key for cell in cells)):
        networks.put(key, net, SCALING, None, {})
    BestSeeds(networks, cells, {cells[0].key: 0.5}, [])
    assert networks.keys() == {stranger, cells[0].key}


def test_a_network_comes_back_with_what_its_row_said(net, tmp_path):
    networks, key = KeptNetworks(tmp_path), "0" * 16
    with networks.open(key) as absent:
        assert absent is None
    row = {"finetuned_test_top1": 0.1 + 0.2, "finetuned_test_loss": 1 / 3, "seconds": 5.0}
    for accuracy in (0.5, 0.75):
        networks.put(key, net, SCALING, ("no", "yes"), row | {"finetuned_test_top5": accuracy})
    with networks.open(key) as folder:
        assert folder is not None
        record = json.loads((folder / "cell.json").read_text())
        stored = load(folder)
    assert record == {
        "key": key,
        "finetuned_test_top1": 0.1 + 0.2,
        "finetuned_test_loss": 1 / 3,
        "finetuned_test_top5": 0.75,
    }
    assert stored.class_names == ("no", "yes")
    assert all(
        torch.equal(one, other)
        for one, other in zip(stored.net.parameters(), net.parameters(), strict=True)
    )
    networks.remove(key)
    networks.remove(key)
    assert networks.keys() == set()


def test_a_damaged_folder_is_replaced(net, tmp_path):
    networks, key = KeptNetworks(tmp_path), "0" * 16
    (tmp_path / "networks" / key).mkdir(parents=True)
    networks.put(key, net, SCALING, None, {})
    with networks.open(key) as folder:
        assert folder is not None
        load(folder)


def test_networks_lie_in_an_object_store_as_well(cells, net, object_store):
    networks = KeptNetworks(object_store.new_prefix())
    assert networks.keys() == set()
    best = BestSeeds(networks, cells, {}, [cell.key for cell in cells])
    for cell, accuracy in zip(cells, (0.5, 0.75, 0.25, 0.5, 0.5, 0.5), strict=True):
        networks.put(cell.key, net, SCALING, None, {})
        best.ended(cell, accuracy)
    kept = networks.keys()
    assert len(kept) == 2
    for key in kept:
        with networks.open(key) as folder:
            assert folder is not None
            load(folder)
