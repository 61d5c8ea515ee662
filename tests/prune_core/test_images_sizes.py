"""Images of any size: the built-in sources, and what a source of one's own must do."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prune_core.images import (
    SOURCES,
    Arrays,
    Images,
    ImagesError,
    Location,
    Origin,
    Undecoded,
    image_source,
    load,
    resized,
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return load("digits", cache=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("size", [(8, 8), (48, 24), (32, 33)])
def test_digits_of_any_size_are_resized_by_pillow(size: tuple[int, int], tmp_path: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    images = load("digits", image_size=size, cache=tmp_path)
    assert images.train_images.shape == (1438, 3, *size)
    split = images.split(0.1)
    assert images.image_size == split.image_size == split.validation.image_size == size
    expected = {
        np.asarray(
            Image.fromarray(np.rint(grey * (255 / 16)).astype(np.uint8)).resize(
                size[::-1], Image.Resampling.BILINEAR
            )
        ).tobytes()
        for grey in load_digits().images
    }
    found = torch.cat([images.train_images, images.test_images])
    assert torch.equal(found[:, 0], found[:, 1])
    assert {image.numpy().tobytes() for image in found[:, 2]} == expected


def test_each_size_has_its_own_entry_and_fingerprint(digits: Images, tmp_path: Path) -> None:
    def entries() -> list[Path]:
        return list((tmp_path / "images").iterdir())

    assert load("digits", image_size=(32, 32), cache=tmp_path).fingerprint == digits.fingerprint
    assert len(entries()) == 1
    assert load("digits", cache=tmp_path).image_size == (32, 32)
    assert len(entries()) == 1
    sizes = ((16, 24), (24, 16), (16, 24))
    first, other, again = (
        load("digits", image_size=size, cache=tmp_path).fingerprint for size in sizes
    )
    assert len(entries()) == 3
    assert first == again
    assert len({first, other, digits.fingerprint}) == 3


@pytest.mark.parametrize(
    "size", [(7, 32), (32, 1025), (0, 0), (32,), (32, 32, 3), 32, "32", (32.0, 32), (True, 32)]
)
def test_a_size_names_what_is_allowed(size: object, tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match=r"whole numbers from 8 to 1024 pixels") as raised:
        load("digits", image_size=size, cache=tmp_path)  # type: ignore[arg-type]
    assert repr(size) in str(raised.value)


@pytest.fixture
def sources() -> Iterator[None]:
    """The registry of sources, restored afterwards, so that a test may register its own."""
    before = dict(SOURCES)
    yield
    SOURCES.clear()
    SOURCES.update(before)


def flat(side: int) -> Arrays:
    """Two dark and two bright training images, and one test image of each kind."""
    labels = np.array([0, 1, 0, 1])
    images = np.zeros((4, 3, side, side), dtype=np.uint8)
    images[1::2] = 200
    return Arrays(images, labels, images[:2], labels[:2])


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize("size", [None, (32, 32)])
def test_a_source_of_one_size_needs_to_know_of_none(size: object, tmp_path: Path) -> None:
    @image_source("plain", "dark and bright", "a test", flip_keeps_label=True)
    def plain(location: Location) -> Origin:
        return Origin("plain", ["plain"], lambda: flat(32))

    images = load("plain", image_size=size, cache=tmp_path)  # type: ignore[arg-type]
    assert images.image_size == (32, 32)
    assert images.train_images[:, 0, 0, 0].tolist() == [0, 200, 0, 200]
    with pytest.raises(
        ImagesError, match=r"plain: images of 48 x 64 pixels .*gave images of 32 x 32; ask for"
    ):
        load("plain", image_size=(48, 64), cache=tmp_path)
    # Nothing of the wrong size is kept.
    assert len(list((tmp_path / "images").iterdir())) == 1


@pytest.mark.usefixtures("sources")
def test_a_source_names_its_own_size(tmp_path: Path) -> None:
    asked = []

    @image_source("large", "dark and bright", "a test", True, image_size=(64, 64))
    def large(location: Location) -> Origin:
        asked.append(location.image_size)
        return Origin("large", ["large"], lambda: flat(64))

    assert load("large", cache=tmp_path).image_size == (64, 64)
    assert load("large", image_size=(64, 64), cache=tmp_path).image_size == (64, 64)
    with pytest.raises(ImagesError, match="gave images of 64 x 64"):
        load("large", image_size=(32, 32), cache=tmp_path)
    assert asked == [(64, 64), (64, 64), (32, 32)]
    assert len(list((tmp_path / "images").iterdir())) == 1
    with pytest.raises(ImagesError, match="image_size is"):
        image_source("huge", "too large", "a test", True, image_size=(64, 4096))(large)


@pytest.mark.usefixtures("sources")
def test_a_source_may_resize_or_decode_at_any_size(tmp_path: Path) -> None:
    @image_source("grown", "dark and bright", "a test", flip_keeps_label=True)
    def grown(location: Location) -> Origin:
        return Origin("grown", ["grown"], lambda: resized(flat(32), location.image_size))

    @image_source("drawn", "dark and bright", "a test", flip_keeps_label=True)
    def drawn(location: Location) -> Origin:
        def decode(train: np.ndarray, test: np.ndarray) -> tuple[str, ...]:
            for images in (train, test):
                images[1::2] = 200
            return ("drawn with a ruler",)

        labels = np.array([0, 1, 0, 1])
        return Origin("drawn", ["drawn"], lambda: Undecoded(labels, labels[:2], decode))

    for size in ((32, 32), (40, 48)):
        one, other = (load(s, image_size=size, cache=tmp_path) for s in ("grown", "drawn"))
        assert one.image_size == size
        assert torch.equal(one.train_images, other.train_images)
        assert torch.equal(one.test_images, other.test_images)
        assert other.notes[0] == "drawn with a ruler"
        resizing = "6 images of another size: resized to 40 x 48 (bilinear"
        copies = ["2 of 4 training images are copies", "2 of 2 test images are copies"]
        expected = [resizing] * (size != (32, 32)) + copies
        assert [note[: len(word)] for note, word in zip(one.notes, expected, strict=True)] == (
            expected
        )
    assert load("drawn", cache=tmp_path).fingerprint == load("grown", cache=tmp_path).fingerprint


@pytest.mark.usefixtures("sources")
def test_large_images_are_decoded_by_one_of_many(tmp_path: Path) -> None:
    decoded = []

    @image_source("slow", "takes its time", "a test", flip_keeps_label=True)
    def slow(location: Location) -> Origin:
        def decode(train: np.ndarray, test: np.ndarray) -> tuple[str, ...]:
            decoded.append(train.shape)
            return ()

        labels = np.array([0, 1])
        return Origin("slow", ["slow"], lambda: Undecoded(labels, labels, decode))

    with ThreadPoolExecutor(8) as pool:
        sizes = [(64, 64), (64, 72)] * 8
        loaded = pool.map(lambda size: load("slow", image_size=size, cache=tmp_path), sizes)
        assert [images.image_size for images in loaded] == sizes
    assert sorted(decoded) == [(2, 3, 64, 64), (2, 3, 64, 72)]


@pytest.mark.usefixtures("sources")
def test_images_of_another_type_are_refused(tmp_path: Path) -> None:
    @image_source("floats", "floats", "a test", flip_keeps_label=True)
    def floats(location: Location) -> Origin:
        found = replace(flat(32), test_images=np.zeros((2, 32, 32)))
        return Origin("floats", ["floats"], lambda: found)

    with pytest.raises(ImagesError, match=r"floats: its images are float64 \[2, 32, 32\]"):
        load("floats", cache=tmp_path)
