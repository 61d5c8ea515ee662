"""svhn, cifar10 and cifar100 on small files of the same formats, with checksums of their own.

Only torchvision's tables (addresses and checksums) are exchanged; its code and ours run as they
are, against a web server on this machine or against none.
"""

import hashlib
import os
import pickle
import socket
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import CIFAR10, CIFAR100, SVHN

from prune_core.images import Images, ImagesError, class_names, load

NAMES = ["cifar10", "cifar100", "svhn"]
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 3, 32, 32), dtype=np.uint8)
TEST_PIXELS, TRAIN_PIXELS = PIXELS[:4], PIXELS[4:]


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


class Payload:
    """Makes a folder when unpickled, to show that it was."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.marker),))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder on a web server of this machine, and its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address where nothing listens: the port is taken but never listened to."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def pickle_to(file: Path, value: object) -> list[str]:
    """Writes a batch file and returns torchvision's entry for it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(value))
    return [file.name, md5(file)]


def make_cifar(
    name: str, folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> type[CIFAR10]:
    """Writes batches and the archive, and tells torchvision their checksums."""
    dataset = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    key = {"cifar10": "labels", "cifar100": "fine_labels"}[name]
    base = folder / dataset.base_folder

    def batch(file: str, labels: list[int], pixels: np.ndarray) -> list[str]:
        data = pixels.reshape(len(labels), 3072)
        return pickle_to(base / file, {"data": data, key: labels})

    train = [
        batch("data_batch_1", [0, 1, 2], TRAIN_PIXELS[:3]),
        batch("data_batch_2", [2, 1], TRAIN_PIXELS[3:]),
    ]
    test = [batch("test_batch", [1, 0, 2, 2], TEST_PIXELS)]
    label_names = {dataset.meta["key"]: ["a", "b", "c"]}
    file, checksum = pickle_to(base / dataset.meta["filename"], label_names)
    with tarfile.open(folder / dataset.filename, "w:gz") as archive:
        archive.add(base, dataset.base_folder)
    monkeypatch.setattr(dataset, "train_list", train)
    monkeypatch.setattr(dataset, "test_list", test)
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"filename": file, "md5": checksum})
    monkeypatch.setattr(dataset, "tgz_md5", md5(folder / dataset.filename))
    monkeypatch.setattr(dataset, "url", f"{address}/{dataset.filename}")
    return dataset


def make_svhn(folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> type[SVHN]:
    table = {}
    parts = (("train", [10, 1, 2, 1, 10], TRAIN_PIXELS), ("test", [1, 10, 2, 2], TEST_PIXELS))
    for split, labels, images in parts:
        file = folder / f"{split}_32x32.mat"
        pixels = images.transpose(2, 3, 1, 0)
        savemat(file, {"X": pixels, "y": np.array(labels, dtype=np.uint8)[:, None]})
        table[split] = [f"{address}/{file.name}", file.name, md5(file)]
    monkeypatch.setattr(SVHN, "split_list", table)
    return SVHN


def make(name: str, folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    if name == "svhn":
        make_svhn(folder, address, monkeypatch)
    else:
        make_cifar(name, folder, address, monkeypatch)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_classes_are_called_what_the_files_say(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(name, tmp_path, "http://nowhere.invalid", monkeypatch)
    assert class_names(name, tmp_path) == ("a", "b", "c")


def check(name: str, images: Images) -> None:
    assert (images.name, images.source, images.classes) == (name, name, 3)
    assert images.flip_keeps_label == (name != "svhn")
    assert images.train_images.shape == (5, 3, 32, 32)
    assert images.train_labels.tolist() == {"svhn": [0, 1, 2, 1, 0]}.get(name, [0, 1, 2, 2, 1])
    assert torch.equal(images.test_images, torch.from_numpy(TEST_PIXELS))
    assert images.test_labels.tolist() == [1, 0, 2, 2]
    assert images.notes == ()


@pytest.mark.parametrize("name", NAMES)
def test_files_that_lie_there_need_no_network(
    name: str, tmp_path: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(name, tmp_path / "data", nowhere, monkeypatch)
    check(name, load(name, data=tmp_path / "data", cache=tmp_path / "cache"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(48, 64), (16, 20)])
def test_other_sizes_are_resized_as_files_are(
    name: str, size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(name, tmp_path / "data", "http://nowhere.invalid", monkeypatch)
    images = load(name, image_size=size, data=tmp_path / "data", cache=tmp_path / "cache")
    for pixels, found in zip(TEST_PIXELS, images.test_images, strict=True):
        image = Image.fromarray(pixels.transpose(1, 2, 0))
        expected = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
        assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)
    assert images.train_images.shape == (5, 3, *size)
    assert images.train_labels.tolist() == {"svhn": [0, 1, 2, 1, 0]}.get(name, [0, 1, 2, 2, 1])
    height, width = size
    resizing = f"9 images of another size: resized to {height} x {width} (bilinear, "
    assert [note.startswith(resizing) for note in images.notes] == [True]


@pytest.mark.parametrize("name", NAMES)
def test_cached_images_need_no_files(
    name: str, tmp_path: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(name, tmp_path / "data", nowhere, monkeypatch)
    first = load(name, data=tmp_path / "data", cache=tmp_path / "cache")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    second = load(name, cache=tmp_path / "cache")
    check(name, second)
    assert second.fingerprint == first.fingerprint


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("given", [True, False], ids=["data", "downloads"])
def test_absent_files_are_fetched(
    name: str,
    given: bool,
    tmp_path: Path,
    served: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make(name, *served, monkeypatch)
    data = tmp_path / "data" if given else None
    check(name, load(name, data=data, cache=tmp_path / "cache"))
    root = data or tmp_path / "cache/downloads"
    names = {file.name for file in root.iterdir()}
    expected = {"cifar10": {"cifar-10-batches-py"}, "cifar100": {"cifar-100-python"}}
    assert names == expected.get(name, {"train_32x32.mat", "test_32x32.mat"})


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_archive_fetched_by_hand_is_unpacked(
    name: str, tmp_path: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_cifar_in(tmp_path / "made", name, nowhere, monkeypatch)
    (tmp_path / "data").mkdir()
    (tmp_path / "made" / dataset.filename).rename(tmp_path / "data" / dataset.filename)
    check(name, load(name, data=tmp_path / "data", cache=tmp_path / "cache"))
    assert (tmp_path / "data" / dataset.filename).exists()


def make_cifar_in(
    folder: Path, name: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> type[CIFAR10]:
    folder.mkdir()
    return make_cifar(name, folder, address, monkeypatch)


def test_only_the_absent_half_of_svhn_is_fetched(
    tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make("svhn", *served, monkeypatch)
    (tmp_path / "data").mkdir()
    (served[0] / "train_32x32.mat").rename(tmp_path / "data/train_32x32.mat")
    check("svhn", load("svhn", data=tmp_path / "data", cache=tmp_path / "cache"))


@pytest.mark.parametrize("name", NAMES)
def test_no_network_says_what_to_do(
    name: str, tmp_path: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(name, tmp_path / "made", nowhere, monkeypatch)
    with pytest.raises(ImagesError) as raised:
        load(name, cache=tmp_path / "cache")
    text = str(raised.value)
    assert text.startswith(f"{name}: the files could not be fetched (")
    assert f"In {tmp_path / 'cache/downloads'}, absent: " in text
    assert f"Fetch {nowhere}/" in text
    assert "by hand into that folder, or name another data folder" in text
    assert list((tmp_path / "cache/downloads").iterdir()) == []
    assert list((tmp_path / "cache/images").iterdir()) == []


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("which", ["batch", "meta"])
def test_wrong_checksum_is_never_unpickled(
    name: str, which: str, tmp_path: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_cifar_in(tmp_path / "data", name, nowhere, monkeypatch)
    (tmp_path / "data" / dataset.filename).unlink()
    file = "data_batch_1" if which == "batch" else dataset.meta["filename"]
    marker = tmp_path / "marker"
    altered = tmp_path / "data" / dataset.base_folder / file
    altered.write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(ImagesError, match=f"with a wrong checksum: {dataset.base_folder}/{file}"):
        load(name, data=tmp_path / "data", cache=tmp_path / "cache")
    assert not marker.exists()
    # The payload is a working one: unpickled, it would have shown.
    pickle.loads(altered.read_bytes())
    assert marker.exists()


def test_altered_file_is_replaced_by_a_good_one(
    tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make("svhn", *served, monkeypatch)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/test_32x32.mat").write_bytes(b"half of a download")
    check("svhn", load("svhn", data=tmp_path / "data", cache=tmp_path / "cache"))


@pytest.mark.parametrize("name", NAMES)
def test_download_with_a_wrong_checksum_is_refused(
    name: str, tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(name, *served, monkeypatch)
    for file in served[0].iterdir():
        if file.is_file():
            file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(ImagesError, match=r"could not be fetched .*corrupted"):
        load(name, data=tmp_path / "data", cache=tmp_path / "cache")
    assert list((tmp_path / "data").iterdir()) == []


def test_archive_without_a_file_is_named(
    tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_cifar("cifar10", *served, monkeypatch)
    monkeypatch.setattr(dataset, "test_list", [["other_batch", "0" * 32]])
    with pytest.raises(ImagesError, match=r"after unpacking.*cifar-10-batches-py/other_batch"):
        load("cifar10", data=tmp_path / "data", cache=tmp_path / "cache")


def test_torchvision_still_checks_what_we_rely_on(tmp_path: Path) -> None:
    """Its real tables have a checksum for each file, and it refuses before it unpickles."""
    for dataset in (CIFAR10, CIFAR100):
        named = [*dataset.train_list, *dataset.test_list]
        assert all(len(checksum) == 32 for _, checksum in named)
        assert len(dataset.meta["md5"]) == len(dataset.tgz_md5) == 32
        base = tmp_path / dataset.base_folder
        marker = tmp_path / "marker"
        for file in [*(file for file, _ in named), dataset.meta["filename"]]:
            pickle_to(base / file, Payload(marker))
        with pytest.raises(RuntimeError, match="corrupted"):
            dataset(tmp_path, download=False)
        assert not marker.exists()
    assert all(len(entry[2]) == 32 for entry in SVHN.split_list.values())
