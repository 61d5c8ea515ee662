"""Feeds broken input to the spec reader and the results reader, which may raise only own errors.

python tests/benchmarks/fuzz.py [INPUTS] [SEED]
"""

from __future__ import annotations

import random
import sys
import tempfile
import warnings
from collections import Counter
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import results
from results import DamagedFileWarning, SchemaError, Store
from results.storage.schema import STAGES
from sweep.errors import SpecError
from sweep.spec.parsing import parse

WORDS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    "- ",
    "\n",
    " ",
    "1e999",
    "-1",
    "null",
    "true",
    "!!python/name:os",
]
WORDS += [
    "metrics",
    "ratios",
    "&a",
    "*a",
    "<<",
    "'",
    '"',
    "\x00",
    "\u202e",
    "0x10",
    "random()",
    "()",
]


def broken_spec(text: str, chance: random.Random) -> str:
    """A packaged spec with a few pieces removed, repeated, moved or replaced."""
    for _ in range(chance.randint(1, 6)):
        at, size = chance.randrange(len(text) + 1), chance.randrange(12)
        piece = chance.choice([*WORDS, text[at : at + size], ""])
        text = text[:at] + piece + text[at + chance.choice([0, size]) :]
    return text


def broken_file(content: bytes, chance: random.Random) -> bytes:
    """A file with bits flipped, cut short, or with a piece moved."""
    changed = bytearray(content)
    kind = chance.randrange(4)
    if kind == 0:
        return bytes(changed[: chance.randrange(len(changed))])
    if kind == 1:
        at = chance.randrange(len(changed))
        del changed[at : at + chance.randint(1, 64)]
        return bytes(changed)
    for _ in range(1 if kind == 2 else chance.randint(2, 20)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def fuzz_specs(inputs: int, chance: random.Random) -> Counter[str]:
    """Counts broken specs that were refused, and those that were still valid."""
    folder = resources.files("sweep.spec.packaged")
    texts = [path.read_text() for path in folder.iterdir() if path.name.endswith(".yaml")]
    found: Counter[str] = Counter()
    for _ in range(inputs):
        try:
            parse(broken_spec(chance.choice(texts), chance), "fuzz")
            found["still a valid spec"] += 1
        except SpecError:
            found["refused"] += 1
    return found


def fuzz_results(inputs: int, chance: random.Random) -> Counter[str]:
    """Counts broken files that were left out, refused, or read with correct values."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name))
        store.create()
        figures = {f"{stage}_test_top1": chance.random() for stage in STAGES}
        row = {"key": "0" * 16, "status": "ok", "seed": 3, "finished_at": datetime.now(UTC)}
        store.write({**row, **figures, "widths": [1, 2, 3], "kept": [[0], [0, 1], [0, 1, 2]]})
        path = store.cells.path / f"{'0' * 16}.parquet"
        whole = path.read_bytes()
        right = results.load(name)
        for _ in range(inputs):
            path.write_bytes(broken_file(whole, chance))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DamagedFileWarning)
                try:
                    frame = results.load(name)
                except SchemaError:
                    found["refused"] += 1
                    continue
            if frame.empty:
                found["left out"] += 1
            elif frame.equals(right):
                found["read correctly"] += 1
            else:
                wrong = [c for c in right if not frame[c].equals(right[c])]
                found[f"READ WRONG: {', '.join(wrong)}"] += 1
    return found


if __name__ == "__main__":
    inputs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    for name, fuzz in (("specs", fuzz_specs), ("results", fuzz_results)):
        for what, count in fuzz(inputs, chance).most_common():
            print(f"{name}: {count:,} of {inputs:,} {what}")
