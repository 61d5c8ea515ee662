"""Sweeps that start from a file of trained weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import results
from prune_core.images import load
from prune_core.networks import Architecture
from sweep.errors import SpecError
from sweep.execution.run_task import run_task
from sweep.execution.tasks import missing_tasks
from sweep.planning.cells import Cell
from sweep.planning.grid import plan
from sweep.stages.artifacts import Artifacts, DamagedArtifactWarning
from sweep.stages.weights import store_weights
from sweep.stages.workspace import Workspace

NETWORK = {"variant": "vgg11_bn", "width": 0.06}
MEAN, DEVIATION = [0.25, 0.5, 0.75], [0.5, 0.25, 1.0]
CHANGES = {
    "datasets": [{"source": "digits", "train_images": 120, "test_images": 40}],
    "metrics": ["output_l1"],
    "scopes": ["global"],
    "ratios": [0.5],
    "keep": "none",
}
Network = Callable[..., dict[str, Any]]


def trained(seed: int = 0, **changes: Any) -> nn.Module:
    """A network whose running statistics and weights are not those of a new one."""
    made = NETWORK | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Architecture.named(made["variant"], 10, made["width"]).build()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
        # So that not one class is predicted for all images.
        net.train()(torch.rand(64, 3, 32, 32))
    return net.eval()


@pytest.fixture
def given(tmp_path: Path) -> Network:
    """Writes tensors to a file; returns the network of a spec that starts from it."""

    def write(
        name: str = "weights.safetensors", tensors: dict[str, Tensor] | None = None
    ) -> dict[str, Any]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        state = trained().state_dict() if tensors is None else tensors
        if name.endswith(".safetensors"):
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        else:
            torch.save({"state_dict": state, "epoch": 7} if tensors is None else state, path)
        return NETWORK | {"weights": str(path)}

    return write


@pytest.fixture
def cells(spec) -> Callable[..., tuple[Cell, ...]]:
    """The cells of a network; its baseline is not trained."""
    recipe = {"epochs": 0}
    return lambda network: plan(spec(CHANGES | {"network": network, "recipe": recipe})).cells


def keys(cells: tuple[Cell, ...]) -> set[str]:
    return {cell.baseline.key for cell in cells} | {cell.key for cell in cells}


@pytest.mark.parametrize("name", ["other/copy.safetensors", "weights.pt", "weights.pth"])
def test_the_same_tensors_in_another_file_have_the_same_keys(name, given, cells):
    assert keys(cells(given(name))) == keys(cells(given()))


def test_what_a_baseline_starts_from_changes_its_key(given, cells):
    changed = trained().state_dict()
    changed["classifier.bias"][3] += 1e-6
    scaling = {"mean": MEAN, "deviation": DEVIATION}
    starts = [
        NETWORK,
        given(),
        given("changed.pt", changed),
        given() | scaling,
        given() | scaling | {"mean": MEAN[::-1]},
        given() | scaling | {"deviation": DEVIATION[::-1]},
    ]
    found = [cells(start) for start in starts]
    assert len(set.union(*map(keys, found))) == len(starts) * len(keys(found[0]))
    assert len({of[0].family for of in found}) == len(starts)


def test_a_recipe_that_is_left_out_trains_nothing(given, spec, absent, cells):
    start = given()
    without = plan(spec(CHANGES | {"network": start, "recipe": absent})).cells
    assert without[0].baseline.recipe.epochs == 0
    assert keys(without) == keys(cells(start))
    with pytest.raises(SpecError, match="recipe is missing"):
        spec(CHANGES | {"network": NETWORK, "recipe": absent})


def evaluated(net: nn.Module, mean: Tensor, deviation: Tensor) -> tuple[float, float]:
    """Accuracy and loss on the test images, scaled by colours in units of 0 to 1."""
    images = load("digits").cut(120, 40)
    pixels = torch.as_tensor(images.test_images).float() / 255
    labels = torch.as_tensor(images.test_labels).long()
    with torch.no_grad():
        logits = net((pixels - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)).double()
    right = (logits.argmax(dim=1) == labels).double().mean()
    return float(right), float(nn.functional.cross_entropy(logits, labels))


def test_the_baseline_is_the_network_of_the_file(given, run_digits, absent, tmp_path, cells):
    scaled = given("weights.pt") | {"mean": MEAN, "deviation": DEVIATION}
    folder = tmp_path / "runs"
    for network in (scaled, given()):
        done = run_digits(folder, CHANGES | {"network": network, "recipe": absent})
        assert done.exit_code == 0, done.output
        assert "all seeds start from the weights" in " ".join(done.stderr.split())
    frame = results.load(folder).set_index("baseline_key")
    assert len(frame) == 2
    split = load("digits").cut(120, 40).split(0.1)
    pixels = torch.as_tensor(split.train.images).double().transpose(0, 1).flatten(1) / 255
    own = pixels.mean(dim=1).float(), pixels.std(dim=1, correction=0).float()
    given_scaling = torch.tensor(MEAN), torch.tensor(DEVIATION)
    for network, scaling in ((scaled, given_scaling), (given(), own)):
        (cell,) = cells(network)
        row = frame.loc[cell.baseline.key]
        top1, loss = evaluated(trained(), *scaling)
        assert row["baseline_test_top1"] == pytest.approx(top1, abs=1e-9)
        assert row["baseline_test_loss"] == pytest.approx(loss, rel=1e-4)
        assert cell.baseline.weights is not None
        assert row["weights"] == cell.baseline.weights.fingerprint
        assert (row["status"], row["epochs"]) == ("ok", 0)
        stored = Artifacts(folder / "artifacts").baseline(cell.baseline.key)
        assert stored is not None
        for name, tensor in trained().state_dict().items():
            assert torch.equal(stored.net.state_dict()[name], tensor), name
    # The way of scaling matters here, so the figures above can tell.
    assert frame["baseline_test_loss"].nunique() == 2


def test_a_recipe_trains_the_weights_of_the_file_further(given, run_digits, tmp_path):
    done = run_digits(tmp_path / "runs", CHANGES | {"network": given()})
    assert done.exit_code == 0, done.output
    (row,) = results.load(tmp_path / "runs").to_dict("records")
    stored = Artifacts(tmp_path / "runs" / "artifacts").baseline(row["baseline_key"])
    assert stored is not None
    assert [epoch.epoch for epoch in stored.history] == [1]
    weight = stored.net.get_submodule("features.0").weight
    start = trained().get_submodule("features.0").weight
    torch.manual_seed(1)  # other weights than those of the file
    new = Architecture.named("vgg11_bn", 10, 0.06).build().get_submodule("features.0").weight
    assert 0 < (weight - start).abs().max() < (weight - new).abs().max()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_workers_find_the_weights_without_the_file(name, given, cells, tmp_path):
    start = given(name)
    planned = cells(start)
    workspace = Workspace(tmp_path / "runs", "small")
    workspace.store.create()
    store_weights(workspace, planned)
    Path(start["weights"]).unlink()
    for task in missing_tasks(workspace, planned):
        outcome = run_task(workspace, task)
        assert outcome.status == "ok", outcome.error
    (row,) = results.load(tmp_path / "runs").to_dict("records")
    assert row["baseline_checksum"]
    # Whoever plans again needs the file; the message names it.
    with pytest.raises(SpecError, match=r"weights .*/weights\.\w+ cannot be read: No such file"):
        cells(start)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def with_copy(folder, planned):
    """A new results folder with the weights that cells start from, and the file of the copy."""
    workspace = Workspace(folder, "small")
    workspace.store.create()
    store_weights(workspace, planned)
    (copy,) = folder.rglob("weights.safetensors")
    return workspace, copy


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_a_damaged_copy_is_replaced_from_the_file(damage, given, cells, tmp_path):
    start = given()
    planned = cells(start)
    workspace, copy = with_copy(tmp_path / "runs", planned)
    intact = copy.read_bytes()
    damage(copy)
    with pytest.warns(DamagedArtifactWarning, match=f"{copy} is damaged"):
        outcome = run_task(workspace, missing_tasks(workspace, planned)[0])
    assert outcome.status == "ok", outcome.error
    with pytest.warns(DamagedArtifactWarning, match=f"{start['weights']} is read again"):
        store_weights(workspace, planned)
    assert copy.read_bytes() == intact


@pytest.mark.filterwarnings("ignore::sweep.stages.artifacts.DamagedArtifactWarning")
def test_without_a_copy_and_the_file_the_error_says_both(given, cells, tmp_path):
    start = given()
    planned = cells(start)
    workspace, copy = with_copy(tmp_path / "runs", planned)
    flip_a_bit(copy)
    Path(start["weights"]).unlink()
    outcome = run_task(workspace, missing_tasks(workspace, planned)[0])
    assert outcome.error is not None
    for words in (start["weights"], "No such file", "no intact copy"):
        assert words in outcome.error
    with pytest.raises(SpecError, match="No such file"):
        store_weights(workspace, planned)


def test_a_file_that_changes_after_planning_is_refused_by_name(given, cells, tmp_path):
    start = given()
    planned = cells(start)
    workspace = Workspace(tmp_path / "runs", "small")
    workspace.store.create()
    given(tensors=trained(seed=1).state_dict())
    outcome = run_task(workspace, missing_tasks(workspace, planned)[0])
    assert outcome.status == "failed"
    assert outcome.error is not None
    for words in (start["weights"], "have changed since the sweep was planned"):
        assert words in outcome.error
    with pytest.raises(SpecError, match="have changed since the sweep was planned"):
        store_weights(workspace, planned)


def test_a_changed_file_is_told_where_a_cell_is_redone(given, run_digits, absent, tmp_path):
    folder, start = tmp_path / "runs", given()
    changes = CHANGES | {"network": start, "recipe": absent}
    assert run_digits(folder, changes).exit_code == 0
    (key,) = results.load(folder)["key"]
    given(tensors=trained(seed=1).state_dict())
    done = run_digits(folder, changes, "--cell", key, "--retry", "ok")
    assert done.exit_code == 2, done.output
    assert f"the tensors of {start['weights']} (" in done.stderr


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}


UNFIT: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], list[str]]] = {
    "missing": (lambda s: without(s, "features.0.weight"), ["lacks features.0.weight"]),
    "unexpected": (
        lambda s: s | {"head.weight": torch.ones(2)},
        ["the network has no head.weight"],
    ),
    "shape": (
        lambda s: s | {"features.0.bias": torch.ones(5)},
        ["shapes differ: features.0.bias [5] for [4]"],
    ),
    "classes": (
        lambda s: s | {"classifier.weight": torch.ones(7, 31), "classifier.bias": torch.ones(7)},
        ["it has 7 classes, but the network has 10", "classifier"],
    ),
    "NaN": (
        lambda s: s | {"features.1.weight": torch.full((4,), torch.nan)},
        ["NaN or infinite in features.1.weight"],
    ),
}


@pytest.mark.parametrize(("change", "words"), UNFIT.values(), ids=UNFIT.keys())
def test_weights_that_do_not_fit_are_refused_by_the_names_of_tensors(
    change, words, given, write_spec, invoke, tmp_path
):
    start = given("weights.pt", change(trained().state_dict()))
    path = write_spec(CHANGES | {"network": start})
    done = invoke("plan", path, "--out", tmp_path / "runs")
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    for word in (*words, "digits", start["weights"]):
        assert word in done.stderr
    assert not (tmp_path / "runs").exists()


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "absent": ({"weights": "nowhere.pt"}, ["nowhere.pt cannot be read", "No such file"]),
    "mean without weights": (
        {"weights": None, "mean": MEAN, "deviation": DEVIATION},
        ["mean and deviation belong to `weights`"],
    ),
    "mean alone": ({"mean": MEAN}, ["both mean and deviation"]),
    "deviation alone": ({"deviation": DEVIATION}, ["both mean and deviation"]),
    "deviation 0": ({"mean": MEAN, "deviation": [0.5, 0, 0.5]}, ["each must be above 0"]),
    "colours of 0 to 255": (
        {"mean": [125, 122, 114], "deviation": [63, 62, 67]},
        ["network.mean[0] is 125", "network.deviation[0] is 63", "less than or equal to 1"],
    ),
    "one colour": ({"mean": [0.5], "deviation": [0.5]}, ["network.mean", "at least 3 items"]),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_with_weights_is_told(changes, words, given, spec):
    with pytest.raises(SpecError) as caught:
        plan(spec(CHANGES | {"network": given() | changes}))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_seeds_that_share_their_start_are_noted(given, spec):
    notes = plan(spec(CHANGES | {"network": given(), "seeds": [0, 1]})).notes
    assert [note for note in notes if "intervals over seeds say how much fine-tuning" in note]
    assert plan(spec(CHANGES | {"network": NETWORK, "seeds": [0, 1]})).notes == ()
