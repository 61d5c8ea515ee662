"""What cells share is stored whole under its key, on a disk and in an object store."""

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from object_store import ObjectStore
from safetensors.torch import save_file
from torch import Tensor

from prune_core.evaluation import Evaluation
from prune_core.networks import SimpleNet, SimpleNetArchitecture
from prune_core.preprocessing import Preprocessing
from prune_core.statistics import Answer
from prune_core.training import Epoch
from results import StoreError
from results.storage.locations import folder_of
from sweep.stages.artifacts import (
    Artifacts,
    CollectedStatistic,
    DamagedArtifactWarning,
    TrainedBaseline,
)

KEY = "0" * 16


@pytest.fixture(params=["disk", "s3"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    """No artifacts yet, on each kind of place."""
    if request.param == "disk":
        return Artifacts(tmp_path / "artifacts")
    return Artifacts(request.getfixturevalue("object_store").new_prefix())


@pytest.fixture(scope="module")
def trained() -> TrainedBaseline:
    """A network that was not really trained."""
    net = SimpleNet(SimpleNetArchitecture((4, 5), (3, 3), (False, True), classes=3)).eval()
    score = Evaluation(0.5, 0.75, 1.25)
    history = (Epoch(1, 2.0, 0.25), Epoch(2, 1.0, 0.5))
    return TrainedBaseline(net, Preprocessing((1, 2, 3), (4, 5, 6)), score, score, history, 1.5)


@pytest.fixture
def spoil() -> Callable[[Artifacts, str, str], None]:
    """Flips the last bit of a stored file."""

    def flip(artifacts: Artifacts, kind: str, name: str) -> None:
        folder, _, file = f"{kind}/{name}".rpartition("/")
        inside = folder_of(artifacts.folder) / folder
        content = bytearray(inside.read(file))
        content[-1] ^= 1
        inside.write(file, bytes(content))

    return flip


def test_a_baseline_comes_back(artifacts: Artifacts, trained: TrainedBaseline) -> None:
    assert artifacts.baseline(KEY) is None
    assert KEY not in artifacts.baselines()
    artifacts.put_baseline(KEY, trained)
    assert KEY in artifacts.baselines()
    found = artifacts.baseline(KEY)
    assert found is not None
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.net(images), trained.net(images))
    assert (found.preprocessing, found.test) == (trained.preprocessing, trained.test)
    assert (found.history, found.seconds) == (trained.history, trained.seconds)


def test_a_damaged_baseline_makes_room_for_another(
    artifacts: Artifacts, trained: TrainedBaseline, spoil: Callable[..., None]
) -> None:
    artifacts.put_baseline(KEY, trained)
    spoil(artifacts, f"baselines/{KEY}", "network.safetensors")
    with pytest.warns(DamagedArtifactWarning, match=KEY):
        assert artifacts.baseline(KEY) is None
    assert KEY not in artifacts.baselines()
    artifacts.put_baseline(KEY, trained)
    assert artifacts.baseline(KEY) is not None


def test_a_statistic_comes_back_unless_it_is_damaged_or_anothers(
    artifacts: Artifacts, spoil: Callable[..., None]
) -> None:
    answers = [{"mean": torch.rand(3)}, {"mean": torch.rand(2), "joint": torch.ones(2, 2)}]
    assert artifacts.statistic(KEY, "sum", 2) is None
    stored = CollectedStatistic(answers, "0a", 0.1, 3)
    artifacts.put_statistic(KEY, "sum", stored)
    assert KEY in artifacts.statistics()
    found = artifacts.statistic(KEY, "sum", 2)
    assert found is not None
    assert replace(found, answers=[]) == replace(stored, answers=[])
    assert [sorted(layer) for layer in found.answers] == [["mean"], ["joint", "mean"]]
    assert torch.equal(found.answers[1]["joint"], answers[1]["joint"])
    for of, damage in (("another", False), ("sum", True)):
        artifacts.put_statistic(KEY, "sum", stored)
        if damage:
            spoil(artifacts, "statistics", f"{KEY}.safetensors")
        with pytest.warns(DamagedArtifactWarning, match=KEY):
            assert artifacts.statistic(KEY, of, 2) is None
        assert KEY not in artifacts.statistics()


@pytest.mark.filterwarnings("ignore::sweep.stages.artifacts.DamagedArtifactWarning")
def test_a_flipped_bit_anywhere_in_a_statistic_is_damage(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    answers: list[Answer] = [{"mean": torch.rand(2)} for _ in range(13)]
    artifacts.put_statistic(KEY, "sum", CollectedStatistic(answers, "0a", 0.5, 3))
    (path,) = (tmp_path / "statistics").iterdir()
    content = path.read_bytes()
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        assert artifacts.statistic(KEY, "sum", 13) is None, changed[at - 9 : at + 9]
    path.write_bytes(content)
    assert artifacts.statistic(KEY, "sum", 13) is not None


def of_tensors(tensors: dict[str, Tensor]) -> str:
    """The checksum of earlier versions, which does not cover the metadata."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("layers", "readable"), [("2", True), (None, True), ("0", False), ("3", False), ("x", False)]
)
def test_a_statistic_of_an_earlier_version_is_read_if_its_layers_are_right(
    layers: str | None, readable: bool, tmp_path: Path
) -> None:
    tensors = {"0.mean": torch.rand(3)}
    metadata = {"baseline": "sum", "collection": "0a", "seconds": "0.5", "shared": "3"}
    metadata |= {"checksum": of_tensors(tensors)} | ({"layers": layers} if layers else {})
    (tmp_path / "statistics").mkdir()
    save_file(tensors, tmp_path / "statistics" / f"{KEY}.safetensors", metadata)
    with nullcontext() if readable else pytest.warns(DamagedArtifactWarning, match=KEY):
        found = Artifacts(tmp_path).statistic(KEY, "sum", 2)
    assert (found is not None) == readable
    if found is not None:
        assert [list(answer) for answer in found.answers] == [["mean"], []]


def test_files_of_any_kind_can_be_kept_and_replaced(artifacts: Artifacts) -> None:
    for text in ("first", "second"):
        artifacts.remove_files("networks", KEY, "last")
        assert not artifacts.has_files("networks", KEY, "last")
        with artifacts.files("networks", KEY, "last") as folder:
            assert folder is None

        def fill(to: Path, text: str = text) -> None:
            for name in ("first", "last"):
                (to / name).write_text(text)

        artifacts.put_files("networks", KEY, "last", fill)
        assert artifacts.has_files("networks", KEY, "last")
        with artifacts.files("networks", KEY, "last") as folder:
            assert folder is not None
            assert [(folder / name).read_text() for name in ("first", "last")] == [text, text]


def test_an_upload_that_was_broken_off_is_absent_and_is_completed_by_the_next(
    object_store: ObjectStore, trained: TrainedBaseline
) -> None:
    artifacts = Artifacts(object_store.new_prefix())

    def refuse_the_last(request: object) -> str | None:
        return "500" if str(request).count("baseline.json") else None

    with object_store.refusing(refuse_the_last), pytest.raises(StoreError, match=KEY):
        artifacts.put_baseline(KEY, trained)
    assert KEY not in artifacts.baselines()
    assert artifacts.baseline(KEY) is None
    artifacts.put_baseline(KEY, trained)
    assert artifacts.baseline(KEY) is not None


def test_a_store_that_does_not_answer_is_no_damage(
    object_store: ObjectStore, trained: TrainedBaseline
) -> None:
    artifacts = Artifacts(object_store.new_prefix())
    artifacts.put_baseline(KEY, trained)
    with (
        object_store.refusing(lambda request: "503" if request.method == "GET" else None),
        pytest.raises(StoreError, match="cannot be reached"),
    ):
        artifacts.baseline(KEY)
    assert artifacts.baseline(KEY) is not None
