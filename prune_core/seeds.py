"""Derives independent seeds for each purpose from the seed of the spec."""

from __future__ import annotations

import hashlib


def derive(seed: int, *purpose: object) -> int:
    """A seed in [0, 2^63) that depends on `seed` and on every part of `purpose`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
