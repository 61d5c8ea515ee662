"""A real sweep keeps the networks that its spec asks for, and they give their rows' figures."""

import shutil
from pathlib import Path

import pytest

import prune_core
import results
from prune_core.evaluation import evaluate
from prune_core.network_files import load
from results import Store
from sweep.stages.kept_networks import KeptNetworks


@pytest.fixture
def copied(kept_sweep: Path, tmp_path: Path) -> Path:
    """A copy of the kept_sweep results, to be changed."""
    return Path(shutil.copytree(kept_sweep, tmp_path / "runs"))


def best(folder: Path) -> set[str]:
    frame = results.load(folder)
    frame = frame[frame["status"] == "ok"].sort_values("seed")
    leaders = frame.groupby("scope")["finetuned_validation_top1"].idxmax()
    return set(frame.loc[leaders, "key"])


def test_the_best_seed_of_each_family_is_there(kept_sweep):
    kept = KeptNetworks(kept_sweep).keys()
    assert len(results.load(kept_sweep)) == 4
    assert kept == best(kept_sweep)
    assert len(kept) == 2


def test_a_kept_network_gives_the_figures_of_its_row(kept_sweep, small_images):
    rows = Store(kept_sweep).read().to_pylist()
    images = small_images.split(0.1)
    for key in sorted(KeptNetworks(kept_sweep).keys()):
        (row,) = (row for row in rows if row["key"] == key)
        stored = load(kept_sweep / "networks" / key)
        assert list(stored.net.architecture.widths) == row["widths"]
        assert stored.class_names == tuple("0123456789")
        for name, split in (("validation", images.validation), ("test", images.test)):
            score = evaluate(stored.net, split, stored.preprocessing)
            for figure, value in vars(score).items():
                assert value == row[f"finetuned_{name}_{figure}"]
        loaded = prune_core.load(kept_sweep / "networks" / key)
        guesses = loaded(images.test.images).argmax(1)
        assert float((guesses == images.test.labels).double().mean()) == row["finetuned_test_top1"]


def test_running_again_changes_no_network(copied, run_digits, two_seeds, listing):
    before = listing(copied / "networks")
    assert run_digits(copied, two_seeds).exit_code == 0
    assert listing(copied / "networks") == before


def test_running_all_cells_again_keeps_the_same_networks(copied, run_digits, two_seeds, listing):
    before = listing(copied / "networks")
    done = run_digits(copied, two_seeds, "--retry", "ok")
    assert "4 cells, 0 done before, 4 to run" in done.stdout
    assert listing(copied / "networks") == before


def test_what_a_killed_run_left_is_removed_by_the_next(copied, run_digits, two_seeds):
    networks = KeptNetworks(copied)
    kept = networks.keys()
    (beaten, *_) = set(results.load(copied)["key"]) - kept
    shutil.copytree(copied / "networks" / min(kept), copied / "networks" / beaten)
    assert run_digits(copied, two_seeds).exit_code == 0
    assert networks.keys() == kept


def test_all_and_none(copied, run_digits, two_seeds):
    networks = KeptNetworks(copied)
    kept = networks.keys()
    done = run_digits(copied, two_seeds | {"keep": "none", "ratios": [0.5, 0.7]})
    assert done.exit_code == 0, done.output
    assert networks.keys() == kept
    done = run_digits(copied, two_seeds | {"keep": "all", "ratios": [0.6]})
    assert done.exit_code == 0, done.output
    new = results.load(copied).query("ratio == 0.6")["key"]
    assert networks.keys() == kept | set(new)
    # Asked for the best alone, the next run removes the others.
    assert run_digits(copied, two_seeds | {"ratios": [0.5, 0.6]}).exit_code == 0
    assert len(networks.keys()) == 4
    assert kept < networks.keys()


def test_a_cell_that_fails_has_no_network(copied, run_digits, two_seeds):
    changes = two_seeds | {"finetune.learning_rate": 1e9}
    before = KeptNetworks(copied).keys()
    assert run_digits(copied, changes).exit_code == 1
    assert KeptNetworks(copied).keys() == before
