"""`load`, `Images` and `Split` on real images, and the properties of the hold-out."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from prune_core.images import SOURCES, Images, ImagesError, LabelledImages, dataset, load
from prune_core.images.order import shuffled

SHARED = Path(__file__).resolve().parents[2].parent / "shared/data"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return load("digits", cache=tmp_path_factory.mktemp("cache"))


def images_of(labels: list[int]) -> Images:
    """Image i is of one colour, i, so that a split's images tell where they came from."""
    tags = torch.arange(len(labels), dtype=torch.uint8).reshape(-1, 1, 1, 1)
    images = tags.expand(-1, 3, 32, 32).clone()
    tensor = torch.tensor(labels)
    return Images(
        "tags", "tags", images, tensor, images[:1], tensor[:1], max(labels) + 1, True, "0" * 16
    )


def test_digits_are_real_images_with_a_fixed_test_set(digits: Images) -> None:
    assert digits.train_images.shape == (1438, 3, 32, 32)
    assert digits.test_images.shape == (359, 3, 32, 32)
    assert digits.train_images.dtype == digits.test_images.dtype == torch.uint8
    assert digits.train_labels.dtype == digits.test_labels.dtype == torch.int64
    assert digits.train_images.min() == 0
    assert digits.train_images.max() == 255
    assert (digits.name, digits.source, digits.classes) == ("digits", "digits", 10)
    assert not digits.flip_keeps_label
    assert digits.notes == ()
    assert torch.equal(digits.train_images[:, 0], digits.train_images[:, 2])
    # A fifth of every class, within rounding.
    tests = digits.test_labels.bincount()
    totals = tests + digits.train_labels.bincount()
    assert ((tests - totals * 0.2).abs() <= 0.5).all()


def test_digits_keep_their_identity(digits: Images) -> None:
    """A change here changes the key of every result on digits: raise DECODE_VERSION and say so."""
    assert digits.fingerprint == "cf5f5d79393137f2"


def test_digits_enlarged_match_the_originals(digits: Images) -> None:
    from sklearn.datasets import load_digits

    originals = torch.from_numpy(load_digits().images)
    everything = torch.cat([digits.train_images, digits.test_images])[:, 0].float()
    # Bilinear enlargement keeps the mean of an image, up to its border and rounding.
    means = everything.mean(dim=(1, 2)).sort().values
    expected = (originals * 255 / 16).mean(dim=(1, 2)).float().sort().values
    assert (means - expected).abs().max() < 2


def test_real_house_numbers_from_parquet(tmp_path: Path) -> None:
    if not (SHARED / "svhn_sample").is_dir():
        pytest.skip(f"no real SVHN images in {SHARED}")
    images = load("parquet:svhn_sample", data=SHARED, cache=tmp_path)
    assert images.train_images.shape == (863, 3, 32, 32)
    assert images.test_images.shape == (220, 3, 32, 32)
    assert images.classes == 10
    assert images.name == "svhn_sample"
    # The name of a folder is no promise about what is in it.
    assert images.flip_keeps_label
    assert not replace(images, flip_keeps_label=False).flip_keeps_label
    # Lossless files, so that the bytes are the same on every machine.
    assert images.fingerprint == "9815c8423fe821ca"
    inside = load("parquet:.", data=SHARED / "svhn_sample", cache=tmp_path)
    assert inside.fingerprint == images.fingerprint


def test_real_photographs_from_parquet(tmp_path: Path) -> None:
    """CIFAR-10's test split, as the training images of a folder of its own."""
    import io

    import pyarrow.parquet as pq
    from PIL import Image

    real = SHARED / "cifar10/test.parquet"
    if not real.is_file():
        pytest.skip(f"no real CIFAR-10 images in {SHARED}")
    rows = pq.read_table(real)
    (tmp_path / "train.parquet").symlink_to(real)
    pq.write_table(rows.slice(0, 100), tmp_path / "test.parquet")
    images = load(f"parquet:{tmp_path}", cache=tmp_path / "cache")
    assert images.train_labels.bincount().tolist() == [1000] * 10
    assert images.notes[-1] == (
        "100 of 100 test images are copies of training images (equal pixels after decoding)"
    )
    for row in (0, 1, 511, 512, 9999):
        expected = np.asarray(Image.open(io.BytesIO(rows["image"][row]["bytes"].as_py())))
        assert np.array_equal(images.train_images[row].permute(1, 2, 0).numpy(), expected)
        assert images.train_labels[row] == rows["label"][row].as_py()


@pytest.mark.parametrize("train", [None, 200, 1_438])
@pytest.mark.parametrize("test", [None, 100, 359])
def test_a_cut_takes_the_first_of_each_part(digits: Images, train: int, test: int) -> None:
    cut = digits.cut(train, test)
    assert torch.equal(cut.train_images, digits.train_images[:train])
    assert torch.equal(cut.train_labels, digits.train_labels[:train])
    assert torch.equal(cut.test_images, digits.test_images[:test])
    assert torch.equal(cut.test_labels, digits.test_labels[:test])
    assert cut.fingerprint == digits.fingerprint


@pytest.mark.parametrize("n", [0, -1, 1439])
def test_a_cut_names_what_is_allowed(digits: Images, n: int) -> None:
    with pytest.raises(ImagesError, match=r"training images were asked for; allowed is 1 to 1,438"):
        digits.cut(n)
    with pytest.raises(ImagesError, match=r"test images were asked for; allowed is 1 to 359"):
        digits.cut(test=min(n, 360))


def test_a_cut_names_the_classes_it_would_lose() -> None:
    images = images_of([0, 0, 1, 0, 2, 1])
    with pytest.raises(ImagesError, match=r"none of classes 1, 2; at least 5 are needed for all 3"):
        images.cut(2)
    with pytest.raises(ImagesError, match=r"none of class 2;"):
        images.cut(4)
    assert len(images.cut(5).train_labels) == 5


@given(
    labels=st.lists(st.integers(0, 6), min_size=2, max_size=200),
    holdout=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=60)
def test_split_is_stratified_disjoint_complete_and_fixed(
    labels: list[int], holdout: float, seed: int
) -> None:
    contiguous = np.unique(labels, return_inverse=True)[1]
    counts = np.bincount(contiguous)
    images = images_of(contiguous.tolist())
    if counts.max() < 2:
        with pytest.raises(ImagesError, match="no class has two"):
            images.split(holdout)
        return
    torch.manual_seed(seed)
    state = torch.get_rng_state()
    split = images.split(holdout)
    assert torch.equal(torch.get_rng_state(), state)

    train, validation = (part.images[:, 0, 0, 0] for part in (split.train, split.validation))
    assert sorted(torch.cat([train, validation]).tolist()) == list(range(len(labels)))
    left = sorted(train.tolist())
    assert train.tolist() == [left[at] for at in shuffled(len(left))]
    for part, tags in ((split.train, train), (split.validation, validation)):
        assert len(part) == len(tags)
        assert part.labels.tolist() == contiguous[tags.numpy()].tolist()
    held = split.validation.labels.bincount(minlength=len(counts)).numpy()
    for total, number in zip(counts, held, strict=True):
        if total == 1:
            assert number == 0
        else:
            assert 1 <= number <= total - 1
            assert abs(number - holdout * total) <= 0.5 or number in (1, total - 1)
    again = images.split(holdout)
    assert torch.equal(again.validation.images, split.validation.images)
    for part in (split.train, split.validation):
        assert part.stored.data_ptr() == images.train_images.data_ptr()


def test_split_keeps_its_identity(digits: Images) -> None:
    """The hold-out is part of what a result means: it must not move between releases."""
    split = digits.split(0.1)
    assert (len(split.train), len(split.validation), len(split.test)) == (1293, 145, 359)
    chosen = images_of([0, 1] * 20).split(0.25).validation.images[:, 0, 0, 0]
    assert chosen.tolist() == [2, 4, 6, 18, 27, 31, 32, 33, 37, 39]
    assert split.classes == 10
    assert not split.flip_keeps_label


@pytest.mark.parametrize("holdout", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_split_names_the_allowed_holdout(digits: Images, holdout: float) -> None:
    with pytest.raises(ImagesError, match=r"above 0 and below 1"):
        digits.split(holdout)


def test_labelled_images_move_together(digits: Images) -> None:
    held = digits.split(0.5).validation
    moved = held.to("meta")
    assert moved.device.type == moved.images.device.type == moved.labels.device.type == "meta"
    assert len(moved) == len(moved.images) == len(held)
    assert held.to("cpu") is held


@pytest.fixture(params=["all", "selected"])
def some(request: pytest.FixtureRequest) -> tuple[LabelledImages, list[int]]:
    """Images of which each has its own colour, and these colours."""
    everything = images_of([0, 1] * 20)
    if request.param == "all":
        labelled = LabelledImages(everything.train_images, everything.train_labels)
        return labelled, list(range(40))
    labelled = everything.split(0.25).train
    assert labelled.index is not None
    return labelled, labelled.index.tolist()


def test_batches_are_read_by_position(some: tuple[LabelledImages, list[int]]) -> None:
    labelled, colours = some

    def check(batch: tuple[torch.Tensor, torch.Tensor], expected: list[int]) -> None:
        pixels, labels = batch
        assert (pixels.shape, pixels.dtype) == ((len(expected), 3, 32, 32), torch.uint8)
        assert pixels.amin(dim=(1, 2, 3)).tolist() == pixels.amax(dim=(1, 2, 3)).tolist()
        assert pixels[:, 0, 0, 0].tolist() == expected
        assert labels.tolist() == [colour % 2 for colour in expected]

    check(labelled.batch(slice(3, 9)), colours[3:9])
    check(labelled.batch(slice(25, 90)), colours[25:])
    check(labelled.batch(torch.tensor([7, 0, 7])), [colours[7], colours[0], colours[7]])
    check(labelled.batch(torch.tensor([], dtype=torch.int64)), [])
    check((labelled.images, labelled.labels), colours)
    parts = list(labelled.batches(12))
    assert [len(labels) for _, labels in parts][:-1] == [12] * (len(parts) - 1)
    check((torch.cat([p for p, _ in parts]), torch.cat([n for _, n in parts])), colours)
    first = labelled.first(5)
    assert (len(first), first.nbytes) == (5, 5 * 3 * 32 * 32)
    check(first.batch(slice(None)), colours[:5])
    check(labelled.batch(slice(2), torch.device("cpu")), colours[:2])
    on_meta = labelled.batch(torch.tensor([1, 2]), torch.device("meta"))
    assert [tensor.device.type for tensor in on_meta] == ["meta", "meta"]


def test_only_images_that_take_little_memory_move_as_a_whole(
    some: tuple[LabelledImages, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled, _ = some
    there = torch.device("meta")
    monkeypatch.setattr(dataset, "RESIDENT_BYTES", labelled.nbytes)
    assert labelled.resident(there).device == there
    assert len(labelled.images) == len(labelled)
    monkeypatch.setattr(dataset, "RESIDENT_BYTES", labelled.nbytes - 1)
    assert labelled.resident(there) is labelled
    fresh = labelled.first(len(labelled))
    if labelled.index is None:
        assert fresh.images.data_ptr() == labelled.stored.data_ptr()
    else:
        with pytest.raises(ImagesError, match=r"one tensor of 30 selected images would take 92,16"):
            _ = fresh.images


@pytest.mark.parametrize(
    "source", ["mnist", "CIFAR10", "", "parquet", "parquet:", "folder:", "digits:x", "cifar10:."]
)
def test_unknown_source_lists_the_known_ones(source: str, tmp_path: Path) -> None:
    with pytest.raises(ImagesError) as raised:
        load(source, cache=tmp_path)
    for entry in SOURCES.values():
        assert entry.pattern in str(raised.value)


def test_sources_say_what_may_be_flipped() -> None:
    flips = {entry.kind: entry.flip_keeps_label for entry in SOURCES.values()}
    assert flips == {
        "digits": False,
        "svhn": False,
        "cifar10": True,
        "cifar100": True,
        "parquet": True,
        "folder": True,
    }
    assert all(entry.summary and entry.citation for entry in SOURCES.values())


def test_import_needs_neither_pyarrow_nor_scikit_learn() -> None:
    check = (
        "import sys, prune_core.images; "
        "print(sorted({'pyarrow', 'sklearn', 'pandas', 'ray', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_the_first_training_images_of_a_sorted_file_are_of_all_classes():
    labels = torch.arange(10).repeat_interleave(100)
    images = torch.zeros(1000, 3, 32, 32, dtype=torch.uint8)
    whole = Images("sorted", "sorted", images, labels, images, labels, 10, True, "0" * 16, ())
    counts = whole.split(0.1).train.first(200).labels.bincount(minlength=10)
    assert counts.min() >= 8
