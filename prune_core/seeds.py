"""Independent seeds for every purpose, from the one seed that a person chose."""

from __future__ import annotations

import hashlib


def derive(seed: int, *purpose: object) -> int:
    """A seed in [0, 2^63) that depends on the seed and on every word of the purpose."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
