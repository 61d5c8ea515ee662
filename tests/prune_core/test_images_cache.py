"""The cache of decoded images: hits, changes, damage, several processes, folders one cannot use."""

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from prune_core.images import Images, ImagesError, arrays, load
from prune_core.images.arrays import Arrays, fingerprint
from prune_core.images.cache import cache_folder, entry_folder

ARRAYS = ["train_images", "train_labels", "test_images", "test_labels"]


def write_rows(file: Path, colours: list[int]) -> None:
    contents = []
    for colour in colours:
        buffer = io.BytesIO()
        Image.new("L", (32, 32), colour).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    labels = [i % 2 for i in range(len(colours))]
    pq.write_table(pa.table({"image": contents, "label": labels}), file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows").mkdir()
    for split in ("train", "test"):
        write_rows(tmp_path / f"rows/{split}.parquet", [1, 2, 3])
    return tmp_path / "rows"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def read(folder: Path, cache: Path) -> Images:
    """Loads, and takes any warning for a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load(f"parquet:{folder}", cache=cache)


def the_entry(cache: Path) -> Path:
    """The only entry; nothing may be left beside it."""
    (entry,) = (cache / "images").iterdir()
    return entry


def test_entry_holds_plain_arrays_and_their_description(folder: Path, cache: Path) -> None:
    images = read(folder, cache)
    entry = the_entry(cache)
    assert sorted(file.name for file in entry.iterdir()) == sorted(
        ["meta.json", *(f"{name}.npy" for name in ARRAYS)]
    )
    for name in ARRAYS:
        stored = np.load(entry / f"{name}.npy", allow_pickle=False)
        assert np.array_equal(stored, getattr(images, name).numpy())
    meta = json.loads((entry / "meta.json").read_text())
    assert meta["fingerprint"] == images.fingerprint
    assert meta["classes"] == 2
    assert meta["notes"] == list(images.notes) != []
    assert meta["decode_version"] == 3
    assert (meta["validation"], meta["skipped"]) == (0, 0)
    assert meta["copies"] == asdict(images.copies)


def test_entries_keep_their_names() -> None:
    """A change here makes every machine decode its images again."""
    names = {size: entry_folder(Path(), ["digits"], size).name for size in ((32, 32), (32, 48))}
    assert entry_folder(Path(), ["digits"]).name == names[32, 32]
    assert names[32, 32] == "17488631da2ff9a5357dd5989aef7b06"
    assert names[32, 48] == "b4ffb9e92f8a14a0e7d0ff097154d92b"


@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_files_are_those_that_numpy_writes(
    folder: Path, cache: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    """Images are decoded into their files; these must not differ from those of older versions."""
    images = load(f"parquet:{folder}", image_size=size, cache=cache)
    for name in ARRAYS:
        np.save(tmp_path / f"{name}.npy", getattr(images, name).numpy())
        expected = (tmp_path / f"{name}.npy").read_bytes()
        assert (the_entry(cache) / f"{name}.npy").read_bytes() == expected


def test_hit_gives_the_same_without_decoding(folder: Path, cache: Path) -> None:
    first = read(folder, cache)
    file = folder / "train.parquet"
    stat = file.stat()
    file.write_bytes(bytes(stat.st_size))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = read(folder, cache)
    assert (second.fingerprint, second.notes) == (first.fingerprint, first.notes)
    for name in ARRAYS:
        assert torch.equal(getattr(second, name), getattr(first, name))


def test_changed_file_is_decoded_again(folder: Path, cache: Path) -> None:
    first = read(folder, cache)
    write_rows(folder / "train.parquet", [9, 2, 3])
    second = read(folder, cache)
    assert second.fingerprint != first.fingerprint
    assert second.train_images[0, 0, 0, 0] == 9


def test_writing_to_the_images_does_not_reach_the_cache(folder: Path, cache: Path) -> None:
    images = read(folder, cache)
    before = images.train_images.clone()
    images.train_images.zero_()
    assert torch.equal(read(folder, cache).train_images, before)


def rewrite(file: Path, content: bytes) -> None:
    """As a new file, since images that were loaded before keep the old one mapped."""
    file.unlink()
    file.write_bytes(content)


def flip_byte(entry: Path) -> None:
    content = bytearray((entry / "train_images.npy").read_bytes())
    content[-1] ^= 1
    rewrite(entry / "train_images.npy", content)


def cut_short(entry: Path) -> None:
    rewrite(entry / "test_images.npy", (entry / "test_images.npy").read_bytes()[:-1])


def other_array(entry: Path, array: np.ndarray) -> None:
    (entry / "test_labels.npy").unlink()
    np.save(entry / "test_labels.npy", array)


def alter_meta(entry: Path) -> None:
    meta = json.loads((entry / "meta.json").read_text())
    (entry / "meta.json").write_text(json.dumps(meta | {"fingerprint": "0" * 16}))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped byte": flip_byte,
    "cut short": cut_short,
    "empty array": lambda entry: rewrite(entry / "train_labels.npy", b""),
    "no array": lambda entry: (entry / "train_labels.npy").unlink(),
    "other label": lambda entry: other_array(entry, np.array([1, 1, 0])),
    "other type": lambda entry: other_array(entry, np.array([0.0, 1, 0])),
    "no meta": lambda entry: (entry / "meta.json").unlink(),
    "meta is no JSON": lambda entry: (entry / "meta.json").write_text("{"),
    "meta is a list": lambda entry: (entry / "meta.json").write_text("[]"),
    "meta lacks notes": lambda entry: (entry / "meta.json").write_text('{"fingerprint": "0"}'),
    "other fingerprint": alter_meta,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_entry_is_replaced_with_a_warning(folder: Path, cache: Path, damage: str) -> None:
    first = read(folder, cache)
    entry = the_entry(cache)
    DAMAGES[damage](entry)
    with pytest.warns(UserWarning, match="damaged") as told:
        second = load(f"parquet:{folder}", cache=cache)
    assert [str(entry) in str(warning.message) for warning in told] == [True]
    assert told[0].filename == __file__
    assert second.fingerprint == first.fingerprint
    assert torch.equal(second.train_images, first.train_images)
    assert the_entry(cache) == entry
    read(folder, cache)


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.marker),))


def test_pickle_in_the_cache_is_never_loaded(folder: Path, cache: Path, tmp_path: Path) -> None:
    read(folder, cache)
    marker = tmp_path / "marker"
    objects = np.array([Payload(marker)], dtype=object)
    (the_entry(cache) / "train_labels.npy").unlink()
    np.save(the_entry(cache) / "train_labels.npy", objects, allow_pickle=True)
    with pytest.warns(UserWarning, match="damaged"):
        load(f"parquet:{folder}", cache=cache)
    rewrite(the_entry(cache) / "train_labels.npy", pickle.dumps(Payload(marker)))
    with pytest.warns(UserWarning, match="damaged"):
        load(f"parquet:{folder}", cache=cache)
    assert not marker.exists()


def test_many_at_once(folder: Path, cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: read(folder, cache), range(16)))
    assert len({images.fingerprint for images in results}) == 1
    the_entry(cache)


def test_many_at_once_on_a_damaged_entry(folder: Path, cache: Path) -> None:
    first = read(folder, cache)
    flip_byte(the_entry(cache))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda _: load(f"parquet:{folder}", cache=cache), range(16)))
    assert {images.fingerprint for images in results} == {first.fingerprint}
    assert read(folder, cache).fingerprint == first.fingerprint
    the_entry(cache)


def test_two_processes_at_once(cache: Path) -> None:
    script = (
        "import sys, pathlib, prune_core.images as i; "
        "print('ready', flush=True); sys.stdin.readline(); "
        "print(i.load('digits', cache=pathlib.Path(sys.argv[1])).fingerprint)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, str(cache)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert len({out for out, _ in ends}) == 1
    the_entry(cache)


@pytest.mark.parametrize("size", [(32, 32), (64, 64)])
def test_failed_decoding_leaves_nothing(folder: Path, cache: Path, size: tuple[int, int]) -> None:
    bad = pa.table({"image": [b"bad", b"bad"], "label": [0, 1]})
    pq.write_table(bad, folder / "train.parquet")
    with pytest.raises(ImagesError, match="row 0"):
        load(f"parquet:{folder}", image_size=size, cache=cache)
    assert list((cache / "images").iterdir()) == []


@pytest.mark.parametrize("part", [1, 5, 1 << 20])
def test_the_fingerprint_does_not_depend_on_the_parts(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
    labels = np.arange(7)
    monkeypatch.setattr(arrays, "_HASHED_BYTES", part * noise[0].nbytes)
    # Neither array is in the order in which its bytes count.
    whole = Arrays(noise.transpose(0, 3, 1, 2), labels, noise[::2].transpose(0, 3, 2, 1), labels)
    digest = hashlib.sha256()
    for array in (whole.train_images, labels, whole.test_images, labels):
        digest.update(f"{array.dtype.str} {array.shape};".encode() + array.tobytes())
    assert fingerprint(whole) == digest.hexdigest()[:16]


def test_cache_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImagesError, match=r"cannot be used .*variable PRUNE_SWEEP_CACHE to a fold"):
        read(folder, tmp_path / "file/cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_cache_without_permission(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ImagesError, match="PRUNE_SWEEP_CACHE"):
        read(folder, tmp_path / "locked/cache")


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PRUNE_SWEEP_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache/prune-sweep"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/prune-sweep"
    monkeypatch.setenv("PRUNE_SWEEP_CACHE", "~/named")
    assert cache_folder() == tmp_path / "named"
    assert cache_folder(tmp_path / "given") == tmp_path / "given"


def test_environment_is_used(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNE_SWEEP_CACHE", str(tmp_path / "named"))
    load(f"parquet:{folder}")
    assert the_entry(tmp_path / "named").is_dir()
