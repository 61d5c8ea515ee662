"""The memory that images take: decoding, opening, splitting and training copy few of them."""

import json
import os
import subprocess
import sys
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from prune_core.images import RESIDENT_BYTES, load
from prune_core.images.arrays import Arrays, Copies, fingerprint
from prune_core.images.cache import entry_folder

SIZE = (224, 224)
LIMIT = 1 << 29
IMAGES = 4 * LIMIT // (3 * 224 * 224)

# The child may take `LIMIT` bytes beyond what it has after its imports: of address space, in which
# the memory maps count too, or of memory that only it can write to.
CHILD = """
import resource, sys
from pathlib import Path

import torch
from torch import nn

from prune_core.evaluation import evaluate
from prune_core.images import Origin, image_source, load
from prune_core.preprocessing import Preprocessing
from prune_core.training import Recipe, train

kind, cache, limit, mapped = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


def decode():
    raise AssertionError("the cache holds these images")


@image_source("black", "black images", "a test", flip_keeps_label=True)
def black(location):
    return Origin("black", ["black"], decode)


def taken(field):
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if field in x]
    return 1024 * int(line.split()[1])


torch.set_num_threads(1)
if kind == "address space":
    most = taken("VmSize") + mapped + limit
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
else:
    most = taken("VmData") + limit
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
split = load("black", image_size=(224, 224), cache=cache).split(0.25)
net = nn.Sequential(nn.Conv2d(3, 4, 7, stride=8), nn.BatchNorm2d(4), nn.Flatten())
net.append(nn.Linear(4 * 28 * 28, 2))
scaling = Preprocessing.of(split.train.first(1_000))
recipe = Recipe(2, 32, images=128, recalibrate=False)
history = train(net, split.train, scaling, recipe, 0, split.flip_keeps_label)
score = evaluate(net, split.validation.first(500), scaling)
assert len(history) == 2 and 0 <= score.top1 <= 1
try:
    split.train.batch(slice(None))
except RuntimeError as error:
    print("all training images do not fit:", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce these limits")
@pytest.mark.parametrize("kind", ["address space", "writable memory"])
def test_images_that_do_not_fit_into_memory_are_opened_split_and_trained_on(
    kind: str, tmp_path: Path
) -> None:
    entry = entry_folder(tmp_path, ["black"], SIZE)
    entry.mkdir(parents=True)
    counts = {"train": IMAGES, "test": 2}
    images, labels = {}, {}
    for part, count in counts.items():
        # A sparse file, which takes no space on the disk.
        shape = (count, 3, *SIZE)
        file = entry / f"{part}_images.npy"
        images[part] = np.lib.format.open_memmap(file, "w+", np.uint8, shape=shape)
        labels[part] = np.arange(count) % 2
        np.save(entry / f"{part}_labels.npy", labels[part])
    arrays = Arrays(images["train"], labels["train"], images["test"], labels["test"])
    meta = {
        "fingerprint": fingerprint(arrays),
        "notes": [],
        "validation": 0,
        "skipped": 0,
        "copies": asdict(Copies()),
    }
    (entry / "meta.json").write_text(json.dumps(meta))
    assert images["train"].nbytes > RESIDENT_BYTES
    mapped = sum(array.nbytes for array in images.values())
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, kind, tmp_path, str(LIMIT), str(mapped)],
        env=os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    # So a copy of them would have ended the process before.
    assert "all training images do not fit: " in ended.stdout


def test_decoding_holds_few_images_at_once(tmp_path: Path) -> None:
    import sklearn.datasets  # noqa: F401  (its own memory does not count)

    tracemalloc.start()
    try:
        images = load("digits", image_size=(128, 96), cache=tmp_path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        copy = images.train_images.numpy().copy()
        _, with_copy = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < copy.nbytes / 4
    assert with_copy > copy.nbytes
